package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/server"
)

func (c *cli) migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the form that this version has, as serve does when it begins",
		Long: `Migrate brings the database to the form that this version has, and makes messages searchable that are not yet. It may be interrupted, and goes on when it is run
again. To run it before serve is never needed: serve does the same, and makes messages searchable while it runs.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, logger, err := c.configured()
			if err != nil {
				return err
			}
			return server.Migrate(cmd.Context(), config, logger, func(what string, n int) { fmt.Fprintf(c.stderr, "%s: %d\n", what, n) })
		},
	}
}

func (c *cli) copyCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "copy --to DATABASE",
		Short: "Copy all that the server keeps into another database, and compare",
		Long: `Copy copies all that is in a database, as it is at one moment, into another one that is empty, and reads both to compare. To move a server, stop it, copy, and
change "database" in its configuration; what is sent while it copies stays behind otherwise.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, logger, err := c.configured()
			if err != nil {
				return err
			}
			if from == "" {
				from = config.Database
			}
			rows := map[string]int{}
			if err := server.Copy(cmd.Context(), config, from, to, logger, func(name string, n int) { rows[name] = n }); err != nil {
				return err
			}
			sum := 0
			for _, n := range rows {
				sum += n
			}
			if c.output == "json" {
				return c.json(map[string]any{"rows": sum, "tables": rows})
			}
			fmt.Fprintf(c.stdout, "copied %d rows of %d tables, and they are the same\n", sum, len(rows))
			return nil
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the database to read, as in the configuration; the configuration's if it is not given")
	cmd.Flags().StringVar(&to, "to", "", "the database to write, as in the configuration")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func (c *cli) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FOLDER",
		Short: "Write a data folder with all that the server keeps, while it runs (not with Pebble, which one process has at a time)",
		Args:  commandline.Exactly("FOLDER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, logger, err := c.configured()
			if err != nil {
				return err
			}
			path, err := server.Backup(cmd.Context(), config, args[0], logger)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]string{"config": path})
			}
			fmt.Fprintln(c.stdout, "wrote", path)
			return nil
		},
	}
}

// errUnhealthy says that a check failed; which ones was said.
var errUnhealthy = errors.New("not everything is in order")

func (c *cli) findings(all []server.Finding) error {
	var err error
	for _, f := range all {
		if !f.OK {
			err = errUnhealthy
		}
	}
	if c.output == "json" {
		return errors.Join(c.json(all), err)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, f := range all {
		state := "ok"
		if !f.OK {
			state = "BAD"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", state, f.Check, f.Text)
	}
	return errors.Join(w.Flush(), err)
}

func (c *cli) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Look at what the server needs: configuration, key, database, certificate, DNS, where clients reach it, clock",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, logger, err := c.configured()
			if err != nil {
				return err
			}
			return c.findings(server.Check(cmd.Context(), config, logger))
		},
	}
}

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Read all that the server keeps, and say what is damaged",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all []server.Finding
			if err := c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				all = s.Doctor(ctx)
				return nil
			}); err != nil {
				return err
			}
			return c.findings(all)
		},
	}
}

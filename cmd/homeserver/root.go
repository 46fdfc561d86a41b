package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/spf13/cobra"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/server"
)

// cli is what all commands share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	output         string // table or json
	config         string // path
}

// Exit codes, so that scripts can tell failures apart.
const (
	exitFailure  = 1
	exitUsage    = 2
	exitNotFound = 3 // no such user, room, ...
	exitRefused  = 4 // an event is not allowed, or is no event
)

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func exitCode(err error) int {
	switch {
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, account.ErrNotFound):
		return exitNotFound
	case errors.Is(err, matrix.ErrForbidden), errors.Is(err, matrix.ErrMalformed), errors.Is(err, matrix.ErrTooLarge):
		return exitRefused
	}
	return exitFailure
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "homeserver",
		Short: "A Matrix homeserver",
		Long: `Homeserver serves Matrix clients. "homeserver init" writes a configuration, "homeserver serve" serves, "homeserver user create" makes accounts. It is being
built: docs/matrix.md says what works.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if c.output != "table" && c.output != "json" {
				return usageError{fmt.Errorf("output %q is unknown (use table or json)", c.output)}
			}
			return nil
		},
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVarP(&c.output, "output", "o", "table", "how to print: table or json")
	root.PersistentFlags().StringVar(&c.config, "config", server.ConfigFile, "the configuration's file")
	root.AddCommand(c.initCommand(), c.serveCommand(), c.userCommand(), c.eventCommand())
	return root
}

// exactly wants these arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return usageError{fmt.Errorf("%s takes %d arguments %v, not %d (see %s --help)", cmd.CommandPath(), len(names), names, len(args), cmd.CommandPath())}
	}
}

func (c *cli) json(value any) error {
	e := json.NewEncoder(c.stdout)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

func (c *cli) logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log_level %q is none of debug, info, warn, error", level)
	}
	return slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: l})), nil
}

func (c *cli) initCommand() *cobra.Command {
	var name, dir string
	cmd := &cobra.Command{
		Use:   "init --server-name NAME",
		Short: "Write a configuration with every default, and a signing key",
		Args:  exactly(),
		RunE: func(*cobra.Command, []string) error {
			path, err := server.Init(name, dir)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]string{"config": path})
			}
			fmt.Fprintf(c.stdout, "wrote %s and its signing key. Next:\n  homeserver --config %s user create NAME\n  homeserver --config %s serve\n", path, path, path)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "server-name", "", "the name in the ids of users and rooms; it can never be changed")
	cmd.Flags().StringVar(&dir, "data-dir", ".", "the folder to write into")
	_ = cmd.MarkFlagRequired("server-name")
	_ = cmd.MarkFlagDirname("data-dir")
	return cmd
}

// open opens the server that the configuration describes.
func (c *cli) open(cmd *cobra.Command, change func(*server.Config)) (*server.Server, *slog.Logger, error) {
	config, err := server.ReadConfig(filepath.Clean(c.config))
	if err != nil {
		return nil, nil, err
	}
	if change != nil {
		change(config)
	}
	logger, err := c.logger(config.LogLevel)
	if err != nil {
		return nil, nil, err
	}
	s, err := server.Open(cmd.Context(), config, logger)
	return s, logger, err
}

package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/server"
)

func (c *cli) appserviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "appservice", Short: "Application services, such as bridges to other networks"}
	cmd.AddCommand(c.appserviceList(), c.appservicePing())
	return cmd
}

func (c *cli) appserviceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the application services, and how much waits for each",
		Long: `List the application services that the configuration names, and those that it does not name any more and for which something waits. How much waits is not
known where the database is Pebble and a server has it.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, logger, err := c.configured()
			if err != nil {
				return err
			}
			all, err := server.ListServices(cmd.Context(), config, logger)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(all)
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tURL\tUSER\tWAITING\tSINCE\tFILE")
			for _, s := range all {
				waiting, since, address := "?", "", s.URL
				if s.Waiting != nil {
					waiting = fmt.Sprint(*s.Waiting)
				}
				if s.Since != nil {
					since = s.Since.Format(time.RFC3339)
				}
				if address == "" {
					address = "none"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, address, s.User, waiting, since, s.File)
			}
			return w.Flush()
		},
	}
}

func (c *cli) appservicePing() *cobra.Command {
	return &cobra.Command{
		Use:   "ping ID",
		Short: "Ask an application service whether it is there and knows the server's token",
		Args:  commandline.Exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, _, err := c.configured()
			if err != nil {
				return err
			}
			took, err := server.PingService(cmd.Context(), config, args[0])
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]float64{"seconds": took.Seconds()})
			}
			fmt.Fprintln(c.stdout, "answered after", took.Round(time.Microsecond))
			return nil
		},
	}
}

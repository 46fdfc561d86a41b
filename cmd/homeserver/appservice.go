package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/appservice/delivery"
	"orrery/matrix/server"
)

func (c *cli) appserviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "appservice", Short: "Application services, such as bridges to other networks"}
	cmd.AddCommand(c.appserviceList(), c.appservicePing(), c.appserviceDrop())
	return cmd
}

// services asks how the application services stand.
func (o *operator) services(ctx context.Context) ([]delivery.Standing, error) {
	var out struct {
		Services []delivery.Standing `json:"application_services"`
	}
	err := o.ask(ctx, http.MethodGet, "v1/application_services", nil, &out)
	return out.Services, err
}

func (c *cli) appserviceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the application services, and how much waits for each",
		Long: `List the application services, and those that have no registration any more and for which something waits: events, and others, which are receipts, messages to devices
and changes of keys. "homeserver appservice drop" drops what waits for these. A server that runs says what it knows: registrations that were changed since it read them count
after a SIGHUP.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				all, err := o.services(ctx)
				if err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(all)
				}
				w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ID\tURL\tUSER\tWAITING\tOTHERS\tSINCE\tREGISTRATION")
				for _, s := range all {
					since, address, file := "", cmp.Or(s.URL, "none"), cmp.Or(s.File, "none any more")
					if s.Since != nil {
						since = s.Since.Format(time.RFC3339)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", s.ID, address, s.User, s.Events, s.Others, since, file)
				}
				return w.Flush()
			})
		},
	}
}

func (c *cli) appserviceDrop() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "drop ID",
		Short: "Drop what waits for an application service that has no registration any more",
		Long: `Drop removes the events and whatever else waits for an application service to which nothing is sent any more. Its users, and rooms in directories of its networks, stay. What
waits for one that has a registration is sent to it: take the registration away first, and send a server that runs a SIGHUP.`,
		Args: commandline.Exactly("ID"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			if err := c.operate(cmd, func(ctx context.Context, o *operator) error {
				all, err := o.services(ctx)
				for _, s := range all {
					if s.URL == "" && !s.None() {
						ids = append(ids, s.ID)
					}
				}
				return err
			}); err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				var done struct {
					delivery.Waiting

					Dry bool `json:"dry_run"`
				}
				query := url.Values{"dry_run": {strconv.FormatBool(dry)}}
				if err := o.ask(ctx, http.MethodDelete, "v1/application_services/"+url.PathEscape(args[0])+"/backlog?"+query.Encode(), struct{}{}, &done); err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(done)
				}
				what := "dropped"
				if dry {
					what = "would drop"
				}
				fmt.Fprintf(c.stdout, "%s %d events and %d others that waited for %s\n", what, done.Events, done.Others, args[0])
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be dropped")
	return cmd
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

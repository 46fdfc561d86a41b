package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/server"
	"orrery/matrix/store"
)

func (c *cli) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Tokens by which people make accounts",
		Long:  `A token lets whoever has it make an account, where the configuration says open_registration and registration_needs_token.`,
	}
	cmd.AddCommand(c.tokenCreate(), c.tokenList(), c.tokenDelete())
	return cmd
}

// invitation is a token as it is shown.
type invitation struct {
	Token   string     `json:"token"`
	Uses    int64      `json:"uses,omitempty"`
	Used    int64      `json:"used"`
	Expires *time.Time `json:"expires,omitempty"`
}

func shown(v store.Invitation) invitation {
	i := invitation{Token: v.Token, Uses: v.Uses, Used: v.Used}
	if v.Expires != 0 {
		t := time.UnixMilli(v.Expires).UTC()
		i.Expires = &t
	}
	return i
}

func (c *cli) tokenCreate() *cobra.Command {
	var uses int64
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use:   "create [TOKEN]",
		Short: "Make a token: the given one, or one that is made up",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				var token string
				if len(args) == 1 {
					token = args[0]
				}
				var until time.Time
				if lifetime > 0 {
					until = time.Now().Add(lifetime)
				}
				v, err := s.Accounts.Invite(ctx, token, uses, until)
				if err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(shown(v))
				}
				fmt.Fprintln(c.stdout, v.Token)
				return nil
			})
		},
	}
	cmd.Flags().Int64Var(&uses, "uses", 1, "how many accounts can be made by it; 0: any number")
	cmd.Flags().DurationVar(&lifetime, "for", 0, "how long it counts; 0: for ever")
	return cmd
}

func (c *cli) tokenList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				all, err := s.Accounts.Invitations(ctx)
				if err != nil {
					return err
				}
				rows := []invitation{}
				for _, v := range all {
					rows = append(rows, shown(v))
				}
				if c.output == "json" {
					return c.json(rows)
				}
				w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "TOKEN\tUSED\tEXPIRES")
				for _, r := range rows {
					used, expires := fmt.Sprint(r.Used), "never"
					if r.Uses != 0 {
						used += fmt.Sprint(" of ", r.Uses)
					}
					if r.Expires != nil {
						expires = r.Expires.Format("2006-01-02 15:04")
					}
					fmt.Fprintf(w, "%s\t%s\t%s\n", r.Token, used, expires)
				}
				return w.Flush()
			})
		},
	}
}

func (c *cli) tokenDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete TOKEN",
		Short: "Remove a token; accounts that were made by it stay",
		Args:  commandline.Exactly("TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				return s.Accounts.Uninvite(ctx, args[0])
			})
		},
	}
}

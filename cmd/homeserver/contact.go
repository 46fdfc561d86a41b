package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/contact"
	"orrery/matrix/server"
)

func (c *cli) userContact() *cobra.Command {
	cmd := &cobra.Command{Use: "contact", Short: "Addresses of accounts: of mail, or numbers of telephones"}
	change := func(use, short string, f func(ctx context.Context, s *server.Server, user string, of contact.Address) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " NAME ADDRESS", Short: short, Args: commandline.Exactly("NAME", "ADDRESS"),
			RunE: func(cmd *cobra.Command, args []string) error {
				of, err := contact.Any(args[1])
				if err != nil {
					return err
				}
				return c.withServer(cmd, func(ctx context.Context, s *server.Server) error { return f(ctx, s, s.Accounts.Full(args[0]), of) })
			},
		}
	}
	cmd.AddCommand(c.contactList(),
		change("add", "Add an address to an account; nobody is asked whether it is theirs", func(ctx context.Context, s *server.Server, user string, of contact.Address) error {
			return s.Accounts.SetContact(ctx, user, of)
		}),
		change("remove", "Take an address from an account", func(ctx context.Context, s *server.Server, user string, of contact.Address) error {
			return s.Accounts.RemoveContact(ctx, user, of)
		}))
	return cmd
}

func (c *cli) contactList() *cobra.Command {
	return &cobra.Command{
		Use: "list NAME", Short: "List the addresses of an account", Args: commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				user := s.Accounts.Full(args[0])
				if _, err := s.Accounts.User(ctx, user); err != nil {
					return err
				}
				all, err := s.Accounts.Contacts(ctx, user)
				if err != nil {
					return err
				}
				type row struct {
					Medium  string    `json:"medium"`
					Address string    `json:"address"`
					Added   time.Time `json:"added"`
				}
				rows := []row{}
				for _, one := range all {
					rows = append(rows, row{one.Medium, one.Address, time.UnixMilli(one.Added).UTC()})
				}
				if c.output == "json" {
					return c.json(rows)
				}
				w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "MEDIUM\tADDRESS\tADDED")
				for _, r := range rows {
					fmt.Fprintf(w, "%s\t%s\t%s\n", r.Medium, r.Address, r.Added.Format("2006-01-02 15:04"))
				}
				return w.Flush()
			})
		},
	}
}

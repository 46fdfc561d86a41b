package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/admin"
	"orrery/matrix/server"
)

func (c *cli) roomACL() *cobra.Command {
	return &cobra.Command{
		Use:   "acl ROOM [SERVER...]",
		Short: "Say which servers may take part in a room",
		Long: `Acl shows which servers a room's server ACL (m.room.server_acl) lets take part and which it denies, by patterns in which * is any characters and ? is one; and for
servers, or otherwise for those of the room's members, whether it lets them, and why.`,
		Example: "  homeserver room acl '!id' evil.example matrix.example.org:8448",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return commandline.Usage(fmt.Errorf("%s takes a ROOM", cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				found, err := s.Admin.ACL(ctx, args[0], args[1:]...)
				if err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(found)
				}
				return c.showACL(found)
			})
		},
	}
}

// maxShown is how many patterns are shown; all are in the JSON.
const maxShown = 20

func (c *cli) showACL(a admin.ACL) error {
	if !a.Set {
		fmt.Fprintln(c.stdout, "the room has no server ACL: all servers may take part")
	} else {
		addresses := "allowed like names"
		if !a.Literals {
			addresses = "denied"
		}
		fmt.Fprintf(c.stdout, "allow         %s\ndeny          %s\nip addresses  %s\n", patterns(a.Allow), patterns(a.Deny), addresses)
	}
	if len(a.Servers) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSERVER\tMEMBERS\tMAY\tWHY")
	for _, s := range a.Servers {
		may := "yes"
		if !s.Allowed {
			may = "no"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Server, s.Members, may, s.Why)
	}
	return w.Flush()
}

// patterns are some of a list, and how many others there are.
func patterns(all []string) string {
	if len(all) == 0 {
		return "nothing"
	}
	shown := strings.Join(all[:min(len(all), maxShown)], ", ")
	if more := len(all) - maxShown; more > 0 {
		shown += fmt.Sprintf(" and %d others (-o json has all)", more)
	}
	return shown
}

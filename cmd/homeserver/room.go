package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/admin"
	"orrery/matrix/server"
)

func (c *cli) roomCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "room",
		Short: "Rooms of this server",
		Long: `Rooms of this server. What changes something is refused while the server runs, which would not get to know of it: its admin API does the same
(docs/matrix-admin.md).`,
	}
	cmd.AddCommand(c.roomList(), c.roomBlock(), c.roomShutdown(), c.roomPurge())
	return cmd
}

// withStopped is withServer for what a server that runs would not get to know of.
func (c *cli) withStopped(cmd *cobra.Command, f func(ctx context.Context, s *server.Server) error) error {
	config, err := server.ReadConfig(c.config)
	if err != nil {
		return err
	}
	if config.Served(cmd.Context()) {
		return fmt.Errorf("cannot change this while the server at %s runs (stop it, or use its admin API)", config.Listen)
	}
	return c.withServer(cmd, f)
}

func (c *cli) roomList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the rooms",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				ids, err := s.Admin.IDs(ctx)
				if err != nil {
					return err
				}
				rooms := []admin.Room{}
				for _, id := range ids {
					r, err := s.Admin.Room(ctx, id)
					if err != nil {
						return err
					}
					rooms = append(rooms, r)
				}
				if c.output == "json" {
					return c.json(rooms)
				}
				w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "ROOM\tNAME\tMEMBERS\tVERSION\tSTATE")
				for _, r := range rooms {
					name, state := "", "private"
					if r.Name != nil {
						name = *r.Name
					}
					if r.Public {
						state = "public"
					}
					if r.Blocked {
						state = "blocked"
					}
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", r.ID, name, r.Members, r.Version, state)
				}
				return w.Flush()
			})
		},
	}
}

func (c *cli) roomBlock() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "block ROOM",
		Short: "Let nobody join a room any more, or with --remove again",
		Args:  commandline.Exactly("ROOM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStopped(cmd, func(ctx context.Context, s *server.Server) error { return s.Admin.Block(ctx, args[0], !remove) })
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "let people join again")
	return cmd
}

func (c *cli) roomShutdown() *cobra.Command {
	var block, dry bool
	cmd := &cobra.Command{
		Use:   "shutdown ROOM",
		Short: "Take all members of this server out of a room",
		Args:  commandline.Exactly("ROOM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dry {
				return c.dryRoom(cmd, args[0], "would take out")
			}
			return c.withStopped(cmd, func(ctx context.Context, s *server.Server) error {
				kicked, err := s.Admin.Shutdown(ctx, args[0], block)
				if err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(map[string][]string{"kicked_users": kicked})
				}
				fmt.Fprintf(c.stdout, "took out %d members\n", len(kicked))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&block, "block", false, "let nobody join it any more, too")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

// dryRoom says what would happen to a room.
func (c *cli) dryRoom(cmd *cobra.Command, id, what string) error {
	return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
		r, err := s.Admin.Room(ctx, id)
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.json(r)
		}
		fmt.Fprintf(c.stdout, "%s %d members of room %s\n", what, r.Local, r.ID)
		return nil
	})
}

func (c *cli) roomPurge() *cobra.Command {
	var shutdown, dry bool
	cmd := &cobra.Command{
		Use:   "purge ROOM",
		Short: "Remove a room without members, with all of its messages",
		Args:  commandline.Exactly("ROOM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dry {
				return c.dryRoom(cmd, args[0], "would remove, for")
			}
			return c.withStopped(cmd, func(ctx context.Context, s *server.Server) error {
				if shutdown {
					if _, err := s.Admin.Shutdown(ctx, args[0], false); err != nil {
						return err
					}
				}
				return s.Admin.Purge(ctx, args[0])
			})
		},
	}
	cmd.Flags().BoolVar(&shutdown, "shutdown", false, "take its members out before")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

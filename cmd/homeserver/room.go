package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
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
	}
	cmd.AddCommand(c.roomList(), c.roomACL(), c.roomBlock(), c.roomShutdown(), c.roomPurge())
	return cmd
}

func (c *cli) roomList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the rooms",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				rooms, _, err := s.Admin.List(ctx, admin.RoomQuery{Limit: math.MaxInt})
				if err != nil {
					return err
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
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				room := "v1/rooms/" + url.PathEscape(args[0])
				if err := o.ask(ctx, http.MethodGet, room, nil, nil); err != nil {
					return err
				}
				return o.ask(ctx, http.MethodPut, room+"/block", map[string]bool{"block": !remove}, nil)
			})
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
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				var done struct {
					Kicked []string `json:"kicked_users"`
				}
				if err := o.ask(ctx, http.MethodDelete, "v1/rooms/"+url.PathEscape(args[0]), map[string]bool{"block": block, "purge": false}, &done); err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(done)
				}
				fmt.Fprintf(c.stdout, "took out %d members\n", len(done.Kicked))
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
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				room := "v1/rooms/" + url.PathEscape(args[0])
				var about admin.Room
				if err := o.ask(ctx, http.MethodGet, room, nil, &about); err != nil {
					return err
				}
				if !shutdown && about.Members > 0 {
					return fmt.Errorf("cannot purge room %s: it has %d members (shut it down first, or say --shutdown)", args[0], about.Members)
				}
				return o.ask(ctx, http.MethodDelete, room, struct{}{}, nil)
			})
		},
	}
	cmd.Flags().BoolVar(&shutdown, "shutdown", false, "take its members out before")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be done")
	return cmd
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
	"orrery/matrix/media"
	"orrery/matrix/server"
)

func (c *cli) mediaCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "media", Short: "What users uploaded"}
	cmd.AddCommand(c.mediaStats(), c.mediaPurge())
	return cmd
}

func (c *cli) mediaStats() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Say how much each user uploaded",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				all, err := s.Media.Stats(ctx)
				if err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(append([]media.Usage{}, all...))
				}
				w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "USER\tMEDIA\tBYTES")
				for _, u := range all {
					fmt.Fprintf(w, "%s\t%d\t%d\n", u.User, u.Count, u.Bytes)
				}
				return w.Flush()
			})
		},
	}
}

func (c *cli) mediaPurge() *cobra.Command {
	var user string
	var older time.Duration
	var dry bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Remove what was uploaded long ago, or by a user",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if user == "" && older == 0 {
				return commandline.Usage(errors.New("purge removes what --older-than or --user says"))
			}
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				query := url.Values{"before_ts": {strconv.FormatInt(time.Now().Add(-older).UnixMilli()+1, 10)}, "dry_run": {strconv.FormatBool(dry)}}
				if user != "" {
					query.Set("user_id", o.config.User(user))
				}
				var removed struct {
					Media int   `json:"total"`
					Bytes int64 `json:"bytes"`
				}
				if err := o.ask(ctx, http.MethodPost, "v1/media/delete?"+query.Encode(), struct{}{}, &removed); err != nil {
					return err
				}
				what := "removed"
				if dry {
					what = "would remove"
				}
				if c.output == "json" {
					return c.json(map[string]any{"media": removed.Media, "bytes": removed.Bytes, "dry_run": dry})
				}
				fmt.Fprintf(c.stdout, "%s %d media of %d bytes\n", what, removed.Media, removed.Bytes)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "only what this user uploaded")
	cmd.Flags().DurationVar(&older, "older-than", 0, "only what was uploaded longer ago, such as 2160h")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"orrery/internal/commandline"
)

func (c *cli) noticeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "notice", Short: "What the server itself says to its users"}
	cmd.AddCommand(c.noticeSend())
	return cmd
}

func (c *cli) noticeSend() *cobra.Command {
	var n notices
	cmd := &cobra.Command{
		Use:   "send USER|--all TEXT",
		Short: "Have the server say something to a user, or to all",
		Long: `Send has the server say something to a user, in the room of its notices, into which the user is invited. With --all it says it to everybody who has an account that
is used, but for guests and users of application services. When that is cut short, --id with what it printed sends it to those only who do not have it yet, within a day.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if n.all {
				return commandline.Exactly("TEXT")(cmd, args)
			}
			return commandline.Exactly("USER", "TEXT")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n.cli, n.text = c, args[len(args)-1]
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				n.operator = o
				if n.all {
					return n.sendAll(ctx)
				}
				return n.send(ctx, o.config.User(args[0]))
			})
		},
	}
	cmd.Flags().BoolVar(&n.all, "all", false, "to everybody who has an account")
	cmd.Flags().BoolVar(&n.dry, "dry-run", false, "only say to how many it would be sent")
	cmd.Flags().StringVar(&n.id, "id", "", "of an earlier run that was cut short")
	return cmd
}

// notices are what is to be said, and to whom.
type notices struct {
	*cli
	*operator

	text, id string
	all, dry bool
}

// tellEvery is after how many notices it is said how far it is.
const tellEvery = 100

// send says it to one user.
func (n *notices) send(ctx context.Context, user string) error {
	if err := n.ask(ctx, http.MethodGet, "v2/users/"+url.PathEscape(user), nil, nil); err != nil {
		return err
	}
	if n.dry {
		return n.sent([]string{user})
	}
	if err := n.say(ctx, user); err != nil {
		return err
	}
	return n.sent([]string{user})
}

// say says it to a user, once for each id.
func (n *notices) say(ctx context.Context, user string) error {
	body := map[string]any{"user_id": user, "content": map[string]string{"msgtype": "m.text", "body": n.text}}
	if n.id == "" {
		return n.ask(ctx, http.MethodPost, "v1/send_server_notice", body, nil)
	}
	return n.ask(ctx, http.MethodPut, "v1/send_server_notice/"+url.PathEscape(n.id+" "+user), body, nil)
}

// sendAll says it to everybody, and goes on after those to whom it could not be said.
func (n *notices) sendAll(ctx context.Context) error {
	users, err := n.everybody(ctx)
	if err != nil || n.dry {
		return errors.Join(err, n.sent(users))
	}
	if n.id == "" {
		n.id = rand.Text()
	}
	var done []string
	var failed error
	for i, user := range users {
		if err := errors.Join(ctx.Err(), n.say(ctx, user)); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", user, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if done = append(done, user); (i+1)%tellEvery == 0 {
			fmt.Fprintf(n.stderr, "sent to %d of %d users\n", i+1, len(users))
		}
	}
	if failed != nil {
		failed = fmt.Errorf("%d of %d users did not get it (--id %s sends it to them only): %w", len(users)-len(done), len(users), n.id, failed)
	}
	return errors.Join(n.sent(done), failed)
}

// everybody is who gets what is said to all.
func (n *notices) everybody(ctx context.Context) (all []string, err error) {
	speaker := n.operator.config.User(n.operator.config.Notices.User)
	for from := 0; ; {
		var page struct {
			Users []struct {
				ID      string `json:"name"`
				Service string `json:"appservice_id"`
			} `json:"users"`
			Next string `json:"next_token"`
		}
		if err := n.ask(ctx, http.MethodGet, "v2/users?guests=false&from="+strconv.Itoa(from), nil, &page); err != nil {
			return nil, err
		}
		for _, u := range page.Users {
			if u.Service == "" && u.ID != speaker {
				all = append(all, u.ID)
			}
		}
		if page.Next == "" {
			return all, nil
		}
		if from, err = strconv.Atoi(page.Next); err != nil {
			return nil, err
		}
	}
}

// sent says who got it, or would.
func (n *notices) sent(users []string) error {
	if n.output == "json" {
		return n.json(map[string]any{"users": append([]string{}, users...), "dry_run": n.dry, "id": n.id})
	}
	what := "sent to"
	if n.dry {
		what = "would send to"
	}
	fmt.Fprintf(n.stdout, "%s %d users\n", what, len(users))
	return nil
}

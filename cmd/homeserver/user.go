package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/internal/commandline"
	"orrery/matrix/server"
)

func (c *cli) userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Accounts of this server"}
	cmd.AddCommand(c.userCreate(), c.userList(), c.userDeactivate(), c.userReset(), c.userAdmin(), c.userContact())
	return cmd
}

// withServer opens the server for a command, and closes it.
func (c *cli) withServer(cmd *cobra.Command, f func(ctx context.Context, s *server.Server) error) error {
	s, _, err := c.open(cmd, func(config *server.Config) { config.Command = true })
	if err != nil {
		return err
	}
	return errors.Join(f(cmd.Context(), s), s.Close())
}

// password reads one: from the terminal, twice; from the standard input's first line otherwise; or makes one.
func (c *cli) password(generate bool) (string, error) {
	if generate {
		return rand.Text(), nil
	}
	if f, ok := c.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var twice [2]string
		for i, prompt := range []string{"password: ", "again: "} {
			fmt.Fprint(c.stderr, prompt)
			b, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(c.stderr)
			if err != nil {
				return "", err
			}
			twice[i] = string(b)
		}
		if twice[0] != twice[1] {
			return "", errors.New("these are two passwords")
		}
		return check(twice[0])
	}
	line, err := bufio.NewReader(c.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return check(strings.TrimRight(line, "\r\n"))
}

func check(password string) (string, error) {
	if password == "" {
		return "", errors.New("no password was given (type one, send one to the standard input, or use --generate)")
	}
	return password, nil
}

func (c *cli) userCreate() *cobra.Command {
	var admin, generate bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an account; the password is asked for, or read from the standard input",
		Args:  commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				password, err := c.password(generate)
				if err != nil {
					return err
				}
				u, err := s.Accounts.Create(ctx, args[0], password, admin, false)
				if err != nil {
					return err
				}
				return c.made(u.ID, password, generate)
			})
		},
	}
	cmd.Flags().BoolVar(&admin, "admin", false, "the user is an administrator")
	cmd.Flags().BoolVar(&generate, "generate", false, "make a password, and print it")
	return cmd
}

func (c *cli) made(user, password string, generated bool) error {
	if !generated {
		password = ""
	}
	if c.output == "json" {
		return c.json(map[string]string{"user_id": user, "password": password})
	}
	fmt.Fprintln(c.stdout, user)
	if generated {
		fmt.Fprintln(c.stdout, "password:", password)
	}
	return nil
}

func (c *cli) userList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the accounts",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withServer(cmd, func(ctx context.Context, s *server.Server) error {
				type row struct {
					User        string    `json:"user_id"`
					Created     time.Time `json:"created"`
					Admin       bool      `json:"admin"`
					Deactivated bool      `json:"deactivated"`
				}
				all, err := s.Accounts.Users(ctx)
				if err != nil {
					return err
				}
				rows := []row{}
				for _, u := range all {
					rows = append(rows, row{u.ID, time.UnixMilli(u.Created).UTC(), u.Admin, u.Deactivated})
				}
				if c.output == "json" {
					return c.json(rows)
				}
				w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "USER\tCREATED\tROLE\tSTATE")
				for _, r := range rows {
					role, state := "user", "active"
					if r.Admin {
						role = "admin"
					}
					if r.Deactivated {
						state = "deactivated"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.User, r.Created.Format("2006-01-02 15:04"), role, state)
				}
				return w.Flush()
			})
		},
	}
}

func (c *cli) userDeactivate() *cobra.Command {
	return &cobra.Command{
		Use:   "deactivate NAME",
		Short: "End an account: its user leaves all rooms, nobody can log in, and its name stays taken",
		Args:  commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				return o.ask(ctx, http.MethodPost, "v1/deactivate/"+o.user(args[0]), struct{}{}, nil)
			})
		},
	}
}

func (c *cli) userReset() *cobra.Command {
	var generate bool
	cmd := &cobra.Command{
		Use:   "reset-password NAME",
		Short: "Give an account a new password; its devices stay logged in",
		Args:  commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				if err := o.ask(ctx, http.MethodGet, "v2/users/"+o.user(args[0]), nil, nil); err != nil {
					return err
				}
				password, err := c.password(generate)
				if err != nil {
					return err
				}
				if err := o.ask(ctx, http.MethodPost, "v1/reset_password/"+o.user(args[0]), map[string]any{"new_password": password, "logout_devices": false}, nil); err != nil {
					return err
				}
				return c.made(o.config.User(args[0]), password, generate)
			})
		},
	}
	cmd.Flags().BoolVar(&generate, "generate", false, "make a password, and print it")
	return cmd
}

func (c *cli) userAdmin() *cobra.Command {
	var remove bool
	cmd := &cobra.Command{
		Use:   "make-admin NAME",
		Short: "Make somebody an administrator, or with --remove no more",
		Args:  commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.operate(cmd, func(ctx context.Context, o *operator) error {
				return o.ask(ctx, http.MethodPut, "v1/users/"+o.user(args[0])+"/admin", map[string]bool{"admin": !remove}, nil)
			})
		},
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "take it away")
	return cmd
}

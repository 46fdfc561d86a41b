package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"orrery/matrix/account"
	"orrery/matrix/room"
	"orrery/matrix/server"
)

// operator makes requests of the admin API, as whoever runs the server: of the server that runs, by its socket, or of one that this process opens.
type operator struct {
	config *server.Config
	do     func(*http.Request) (*http.Response, error)
}

// operate calls a function with an operator. So what a command changes is known at once to a server that runs.
func (c *cli) operate(cmd *cobra.Command, f func(ctx context.Context, o *operator) error) error {
	config, _, err := c.configured()
	if err != nil {
		return err
	}
	logger, err := c.logger("warn") // who acts need not be said here
	if err != nil {
		return err
	}
	do, ok, err := config.Operate(cmd.Context()) //nolint:bodyclose // it makes requests later
	if err != nil {
		return err
	}
	if ok {
		return f(cmd.Context(), &operator{config, do})
	}
	config.Command = true
	s, err := server.Open(cmd.Context(), config, logger)
	if err != nil {
		return err
	}
	return errors.Join(f(cmd.Context(), &operator{config, s.Operate}), s.Close())
}

// ask makes a request below the admin API's path, and reads its answer; parts of the path are escaped.
func (o *operator) ask(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://homeserver/_synapse/admin/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	resp, err := o.do(q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return refusal(resp, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// refusal is an answer that is no success, as the error that it was on the server, as far as it counts for the command.
func refusal(resp *http.Response, text []byte) error {
	var e struct {
		Code string `json:"errcode"`
		Text string `json:"error"`
	}
	if err := json.Unmarshal(text, &e); err != nil || e.Text == "" {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	if e.Code == "M_NOT_FOUND" {
		return missing(e.Text)
	}
	return errors.New(e.Text)
}

// missing is the server's word that something is not there.
type missing string

// Error is that word.
func (m missing) Error() string { return string(m) }

// Is says that it is one of the errors about what is not there.
func (missing) Is(target error) bool {
	return target == account.ErrNotFound || target == room.ErrNotFound
}

// user is a user's id, escaped, of a localpart or a whole id.
func (o *operator) user(name string) string { return url.PathEscape(o.config.User(name)) }

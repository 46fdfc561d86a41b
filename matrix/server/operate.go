package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// operatorSocket is where a server that runs is reached by the user as whom it runs, and by root, unless Config.Operator says another place.
const operatorSocket = "operator/socket"

// maxSocket is how long the path of a socket may be.
const maxSocket = 100

// User is the id of a user of the server, of a localpart or a whole id.
func (c *Config) User(name string) string {
	if strings.HasPrefix(name, "@") {
		return name
	}
	return "@" + name + ":" + c.ServerName
}

// Operate makes requests of administrators of the server that runs with this configuration, and says whether one does. One that runs and cannot be reached so is an error: it
// would not get to know of what is changed in its database.
func (c *Config) Operate(ctx context.Context) (func(*http.Request) (*http.Response, error), bool, error) {
	path := c.path(c.Operator)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		if c.Served(ctx) {
			return nil, false, fmt.Errorf("cannot reach the server at %s by %s: %w (stop it, or use its admin API)", c.Listen, path, err)
		}
		return nil, false, nil
	}
	_ = conn.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}, DisableKeepAlives: true}}
	return client.Do, true, nil
}

// Operate makes a request of administrators of this server.
func (s *Server) Operate(q *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	s.api.Operator().ServeHTTP(w, q)
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Header: w.header, Body: io.NopCloser(&w.body), Request: q}, nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header            { return r.header }
func (r *recorder) WriteHeader(status int)         { r.status = status }
func (r *recorder) Write(text []byte) (int, error) { return r.body.Write(text) }

// listenOperator opens the operator's socket, in a folder into which nobody else gets. Where its path is too long there is none.
func (s *Server) listenOperator(ctx, requests context.Context) (*listener, error) {
	path := s.config.path(s.config.Operator)
	if len(path) > maxSocket {
		s.logger.WarnContext(ctx, "the command cannot change anything while the server runs: the path of its socket is too long", "path", path)
		return nil, nil //nolint:nilnil // there is none
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // it is a folder
		return nil, err
	}
	return s.listen(ctx, requests, "unix:"+s.config.Operator, "", "", s.api.Operator())
}

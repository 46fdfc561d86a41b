package influxdb

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"orrery/state"
)

const (
	dialTimeout = 10 * time.Second
	chunkRows   = "1000" // of one reply of many
	maxMessage  = 64 << 10
)

// client speaks to a server.
type client struct {
	server   server
	password string
	http     *http.Client
}

func (s server) open() (*client, error) {
	password, err := s.password()
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot read the server's authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: there is no certificate in %s", state.ErrBadProperty, s.CA)
		}
	}
	// No proxy: what the environment says about the Internet is not about a database.
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSClientConfig: config, DisableCompression: true}
	return &client{server: s, password: password, http: &http.Client{Transport: transport}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// do carries out a request and returns the answer, if that is not a refusal. There is no limit in time beside the
// context's: the server answers a copy when it is complete.
func (c *client) do(ctx context.Context, method, path string, parameters url.Values, kind string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.server.Endpoint+path+"?"+parameters.Encode(), body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", kind)
	if c.server.User != "" {
		r.SetBasicAuth(c.server.User, c.password)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: server %s (is it running, and is this its address?): %w", state.ErrUnreachable, c.server.Endpoint, errors.Unwrap(err))
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	return nil, errors.Join(c.refusal(answer), answer.Body.Close())
}

func (c *client) refusal(answer *http.Response) error {
	var reply struct {
		Error string `json:"error"`
	}
	if json.NewDecoder(io.LimitReader(answer.Body, maxMessage)).Decode(&reply) != nil || reply.Error == "" {
		return fmt.Errorf("server %s answers %s (is it InfluxDB 1.x?)", c.server.Endpoint, answer.Status)
	}
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		return fmt.Errorf("server %s refuses user %q: %s", c.server.Endpoint, c.server.User, reply.Error)
	}
	return errors.New(reply.Error)
}

// version is what the server says about itself.
func (c *client) version(ctx context.Context) (string, error) {
	answer, err := c.do(ctx, http.MethodGet, "/ping", nil, "", http.NoBody)
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(answer.Header.Get("X-Influxdb-Version"), "v"), answer.Body.Close()
}

// series is a part of an answer: rows with the same name and tags.
type series struct {
	Name    string            `json:"name"`
	Tags    map[string]string `json:"tags"`
	Columns []string          `json:"columns"`
	Values  [][]any           `json:"values"` // numbers are json.Number
}

// cell is a value as text, by its column's name; empty if there is none.
func (s *series) cell(row []any, column string) string {
	for i, name := range s.Columns {
		if name == column && i < len(row) && row[i] != nil {
			return fmt.Sprint(row[i])
		}
	}
	return ""
}

type result struct {
	Series  []series `json:"series"`
	Error   string   `json:"error"`
	Partial bool     `json:"partial"`
}

// query carries out one statement and visits what it yields; visit may be nil.
func (c *client) query(ctx context.Context, database, statement string, visit func(*series) error) (err error) {
	form := url.Values{"q": {statement}, "db": {database}}
	parameters := url.Values{"epoch": {"ns"}, "chunked": {"true"}, "chunk_size": {chunkRows}}
	answer, err := c.do(ctx, http.MethodPost, "/query", parameters, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	in := json.NewDecoder(&textChecker{in: answer.Body})
	in.UseNumber()
	for more := true; more; {
		var reply struct {
			Results []result `json:"results"`
			Error   string   `json:"error"`
		}
		if err := in.Decode(&reply); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("cannot read what server %s answers: %w", c.server.Endpoint, err)
		}
		if reply.Error != "" {
			return errors.New(reply.Error)
		}
		more = false
		for i := range reply.Results {
			if err := reply.Results[i].visit(visit); err != nil {
				return err
			}
			more = more || reply.Results[i].Partial
		}
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil { // its end has to be there too
		return fmt.Errorf("cannot read what server %s answers: %w", c.server.Endpoint, err)
	}
	return nil
}

func (r *result) visit(visit func(*series) error) error {
	if r.Error != "" {
		return errors.New(r.Error)
	}
	for i := range r.Series {
		if visit == nil {
			break
		}
		if err := visit(&r.Series[i]); err != nil {
			return err
		}
	}
	return nil
}

// write writes points in line protocol.
func (c *client) write(ctx context.Context, database, policy string, lines []byte) error {
	parameters := url.Values{"db": {database}, "precision": {"ns"}}
	if policy != "" {
		parameters.Set("rp", policy)
	}
	answer, err := c.do(ctx, http.MethodPost, "/write", parameters, "text/plain", bytes.NewReader(lines))
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// textChecker passes JSON on and fails where the server could not write what it has: bytes that are not UTF-8 become an
// escaped U+FFFD, whereas one that was written is not escaped.
type textChecker struct {
	in   io.Reader
	seen int // of the escape
}

const escapedReplacement = `\ufffd`

var errNotUTF8 = fmt.Errorf("there is text that is not UTF-8, which the server cannot hand out: %w snapshot it", state.ErrNotAble)

func (t *textChecker) Read(b []byte) (int, error) {
	n, err := t.in.Read(b)
	for _, c := range b[:n] {
		switch {
		case t.seen == 1 && c == '\\': // an escaped backslash, after which an escape may begin
			t.seen = 0
		case c == escapedReplacement[t.seen]:
			t.seen++
		case c == '\\':
			t.seen = 1
		default:
			t.seen = 0
		}
		if t.seen == len(escapedReplacement) {
			return 0, errNotUTF8
		}
	}
	return n, err
}

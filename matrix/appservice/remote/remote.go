// Package remote makes requests to application services over HTTP (clause application service API, homeserver to application service API). Their addresses are
// the operator's, so that they may be on this machine.
package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"orrery/matrix/appservice"
)

// Limits of requests.
const (
	transactionTimeout = 2 * time.Minute // services take a transaction only when they are done with it
	queryTimeout       = 10 * time.Second
	maxAnswer          = 1 << 20
	shownAnswer        = 1000      // bytes of an answer that are part of an error
	legacyLife         = time.Hour // until newer paths are tried again
)

var (
	// ErrConnection says that a service cannot be reached.
	ErrConnection = errors.New("cannot reach the application service")
	// ErrTimeout says that a service did not answer in time.
	ErrTimeout = errors.New("the application service did not answer in time")
	// ErrAnswer says that a service answered something that is no answer.
	ErrAnswer = errors.New("the application service's answer cannot be used")
)

// StatusError is an answer with a status that is no success.
type StatusError struct {
	Status int
	Body   string // its beginning
}

// Error is the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("the application service answered with status %d", e.Status)
}

// Client makes requests.
type Client struct {
	http *http.Client
	now  func() time.Time

	transactionTimeout, queryTimeout time.Duration

	mu    sync.Mutex
	paths map[string]paths // by the service's id
}

// paths are those that a service knows.
type paths struct {
	legacy bool
	until  time.Time // then it is found out again
}

// New is a client. It follows no redirects: nobody but the operator says where tokens are sent.
func New(now func() time.Time) *Client {
	transport, _ := http.DefaultTransport.(*http.Transport)
	return &Client{
		http: &http.Client{Transport: transport.Clone(), CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		now:  now, paths: map[string]paths{}, transactionTimeout: transactionTimeout, queryTimeout: queryTimeout,
	}
}

// Close ends connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one to a service: its path, and the one that old services have for it ("": none).
type request struct {
	method, path, legacy string
	query                url.Values
	body                 []byte
}

// Transaction sends a transaction, and is nil once the service has taken it.
func (c *Client) Transaction(ctx context.Context, s *appservice.Service, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.transactionTimeout)
	defer cancel()
	path := "/transactions/" + url.PathEscape(id)
	answer, err := c.do(ctx, s, request{method: http.MethodPut, path: "/_matrix/app/v1" + path, legacy: path, body: body})
	if err != nil {
		return err
	}
	if text := bytes.TrimSpace(answer); len(text) > 0 && (text[0] != '{' || !json.Valid(text)) { // somebody else's page, perhaps: nothing was taken
		return fmt.Errorf("%w: it is no JSON object", ErrAnswer)
	}
	return nil
}

// Ping asks whether the service is there and knows the server's token, and says how long that took.
func (c *Client) Ping(ctx context.Context, s *appservice.Service, transaction string) (time.Duration, error) {
	body := map[string]string{}
	if transaction != "" {
		body["transaction_id"] = transaction
	}
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.queryTimeout)
	defer cancel()
	begun := c.now()
	_, err = c.do(ctx, s, request{method: http.MethodPost, path: "/_matrix/app/v1/ping", body: text})
	return c.now().Sub(begun), err
}

// HasUser asks whether a user exists, whom the service then makes before it answers.
func (c *Client) HasUser(ctx context.Context, s *appservice.Service, user string) (bool, error) {
	return c.exists(ctx, s, "/users/"+url.PathEscape(user))
}

// HasAlias asks whether a room with an alias exists, which the service then makes before it answers.
func (c *Client) HasAlias(ctx context.Context, s *appservice.Service, alias string) (bool, error) {
	return c.exists(ctx, s, "/rooms/"+url.PathEscape(alias))
}

func (c *Client) exists(ctx context.Context, s *appservice.Service, path string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.queryTimeout)
	defer cancel()
	_, err := c.do(ctx, s, request{method: http.MethodGet, path: "/_matrix/app/v1" + path, legacy: path})
	return err == nil, missing(err)
}

// missing is an error that is none if it says that there is no such thing.
func missing(err error) error {
	if status, ok := errors.AsType[*StatusError](err); ok && status.Status == http.StatusNotFound {
		return nil
	}
	return err
}

// ThirdParty asks about a network: protocol/NAME, user/NAME, location/NAME, user or location. The answer is nil if the service knows nothing of it.
func (c *Client) ThirdParty(ctx context.Context, s *appservice.Service, path string, query url.Values) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, c.queryTimeout)
	defer cancel()
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	path = "/thirdparty/" + strings.Join(parts, "/")
	text, err := c.do(ctx, s, request{method: http.MethodGet, path: "/_matrix/app/v1" + path, legacy: "/_matrix/app/unstable" + path, query: query})
	if err != nil {
		return nil, missing(err)
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("%w: it is no JSON", ErrAnswer)
	}
	return text, nil
}

// do makes a request at the paths that the service knows (clause application service API, legacy routes): those of old services are tried if the others do not
// work, and remembered if they do.
func (c *Client) do(ctx context.Context, s *appservice.Service, q request) ([]byte, error) {
	known, sure := c.known(s.ID)
	if sure && known.legacy && q.legacy != "" {
		return c.once(ctx, s, q, q.legacy)
	}
	text, err := c.once(ctx, s, q, q.path)
	status, answered := errors.AsType[*StatusError](err)
	switch {
	case err == nil:
		c.learn(s.ID, false)
		return text, nil
	case !answered || sure || q.legacy == "" || status.Status == http.StatusUnauthorized || status.Status == http.StatusForbidden:
		return nil, err
	}
	old, oldErr := c.once(ctx, s, q, q.legacy)
	if oldErr != nil {
		return nil, err
	}
	c.learn(s.ID, true)
	return old, nil
}

func (c *Client) known(id string) (paths, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.paths[id]
	return p, ok && c.now().Before(p.until)
}

func (c *Client) learn(id string, legacy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paths[id] = paths{legacy, c.now().Add(legacyLife)}
}

// once makes a request at one path.
func (c *Client) once(ctx context.Context, s *appservice.Service, q request, path string) ([]byte, error) {
	query := url.Values{"access_token": {s.ServerToken}} // for services of before there was a header for it
	for name, values := range q.query {
		if name != "access_token" {
			query[name] = values
		}
	}
	r, err := http.NewRequestWithContext(ctx, q.method, s.URL+path+"?"+query.Encode(), bytes.NewReader(q.body))
	if err != nil {
		return nil, fmt.Errorf("%w: its address cannot be used", ErrConnection)
	}
	r.Header.Set("Authorization", "Bearer "+s.ServerToken)
	if q.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, connection(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, connection(err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &StatusError{resp.StatusCode, string(text[:min(len(text), shownAnswer)])}
	}
	return text, nil
}

// connection is an error of a request without its address, which has the token.
func connection(err error) error {
	if with, ok := errors.AsType[*url.Error](err); ok {
		err = with.Err
	}
	if timeout, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && timeout.Timeout() {
		return ErrTimeout
	}
	return fmt.Errorf("%w: %w", ErrConnection, err)
}

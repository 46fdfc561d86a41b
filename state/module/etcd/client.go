package etcd

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
	"os"
	"strings"
	"time"

	"orrery/state"
)

const (
	dialTimeout  = 10 * time.Second
	replyTimeout = time.Minute
	maxReply     = 256 << 20
)

// keyspace is one component's keys during one operation.
type keyspace struct {
	server server
	prefix string // empty: all keys
	folder string // the component's own
	client *http.Client
	token  string // of the user; empty without one
}

func open(ctx context.Context, t state.Target) (*keyspace, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decode(t.Component)
	if err != nil {
		return nil, err
	}
	k := &keyspace{server: s, prefix: p.Prefix, folder: t.Directory}
	config, err := s.tls()
	if err != nil {
		return nil, err
	}
	// No proxy: what the environment says about the Internet is not about a database.
	k.client = &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSClientConfig: config, ResponseHeaderTimeout: replyTimeout,
	}}
	if err := k.logIn(ctx); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *keyspace) close() { k.client.CloseIdleConnections() }

func (s server) tls() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		pem, err := os.ReadFile(s.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot read the server's authority: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: there is no certificate in %s", state.ErrBadProperty, s.CA)
		}
	}
	if s.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return nil, fmt.Errorf("cannot read the client's certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func (k *keyspace) logIn(ctx context.Context) error {
	if k.server.User == "" {
		return nil
	}
	password, err := k.server.password()
	if err != nil {
		return err
	}
	var reply struct {
		Token string `json:"token"`
	}
	if err := k.call(ctx, "/v3/auth/authenticate", map[string]string{"name": k.server.User, "password": password}, &reply); err != nil {
		return fmt.Errorf("server %s refuses user %q: %w", k.server.Endpoint, k.server.User, err)
	}
	k.token = reply.Token
	return nil
}

// refusal is an error that the server reports.
type refusal struct {
	Message string `json:"message"`
	Code    int    `json:"code"`
}

func (r *refusal) Error() string {
	if strings.Contains(r.Message, "database space exceeded") {
		return r.Message + " (make room by etcdctl compact, defrag and alarm disarm, or raise the server's quota)"
	}
	return r.Message
}

// compacted says whether the server no longer has the revision that was asked for.
func compacted(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && strings.Contains(r.Message, "compacted")
}

// call carries out a request and reads its reply into reply, if that is not nil.
func (k *keyspace) call(ctx context.Context, path string, request, reply any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return k.do(ctx, http.MethodPost, path, bytes.NewReader(body), reply)
}

func (k *keyspace) do(ctx context.Context, method, path string, body io.Reader, reply any) (err error) {
	r, err := http.NewRequestWithContext(ctx, method, k.server.Endpoint+path, body)
	if err != nil {
		return err
	}
	if k.token != "" {
		r.Header.Set("Authorization", k.token)
	}
	answer, err := k.client.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: server %s (is it running, and is this its address?): %w", state.ErrUnreachable, k.server.Endpoint, err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	in := json.NewDecoder(io.LimitReader(answer.Body, maxReply))
	if answer.StatusCode != http.StatusOK {
		var refused refusal
		if in.Decode(&refused) != nil || refused.Message == "" {
			return fmt.Errorf("server %s answers %s (is it etcd 3.4 or newer?)", k.server.Endpoint, answer.Status)
		}
		return &refused
	}
	if reply == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	err = in.Decode(reply)
	_, broken := errors.AsType[net.Error](err)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case broken || errors.Is(err, io.ErrUnexpectedEOF): // the connection broke in the middle
		return fmt.Errorf("the answer of server %s breaks off: %w: %w", k.server.Endpoint, state.ErrUnreachable, err)
	}
	return fmt.Errorf("cannot read what server %s answers: %w", k.server.Endpoint, err)
}

func (k *keyspace) version(ctx context.Context) (string, error) {
	var reply struct {
		Server string `json:"etcdserver"`
	}
	err := k.do(ctx, http.MethodGet, "/version", http.NoBody, &reply)
	return reply.Server, err
}

// rangeRequest asks for keys from Key up to and without RangeEnd.
type rangeRequest struct {
	Key      []byte `json:"key"`
	RangeEnd []byte `json:"range_end,omitempty"`
	Limit    int64  `json:"limit,omitempty,string"`
	Revision int64  `json:"revision,omitempty,string"`
}

type pair struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
	Lease int64  `json:"lease,string"`
}

// bounds are the component's first key and what comes after the last.
func (k *keyspace) bounds() (first, end []byte) {
	if k.prefix == "" {
		return []byte{0}, []byte{0} // in etcd's language: everything
	}
	end = []byte(k.prefix)
	end[len(end)-1]++ // it is UTF-8, in which no byte is the last one there is
	return []byte(k.prefix), end
}

// page returns up to limit keys after one (all for nil), at a revision (the newest for 0), and that revision.
func (k *keyspace) page(ctx context.Context, after []byte, revision, limit int64) ([]pair, int64, error) {
	first, end := k.bounds()
	if after != nil {
		first = append(append([]byte(nil), after...), 0)
	}
	var reply struct {
		Header struct {
			Revision int64 `json:"revision,string"`
		} `json:"header"`
		Pairs []pair `json:"kvs"`
	}
	err := k.call(ctx, "/v3/kv/range", rangeRequest{Key: first, RangeEnd: end, Limit: limit, Revision: revision}, &reply)
	if revision == 0 {
		revision = reply.Header.Revision
	}
	return reply.Pairs, revision, err
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// client makes requests of any homeserver.
type client struct {
	base string
	http *http.Client
}

func newClient(base string) *client {
	return &client{base: base, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 20_000, DisableCompression: true, DialContext: (&net.Dialer{}).DialContext,
	}}}
}

// ask makes a request below the client-server API, and reads its answer into out; it is the answer's size.
func (c *client) ask(ctx context.Context, token, method, path string, body, out any) (int, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	q, err := http.NewRequestWithContext(ctx, method, c.base+"/_matrix/client/v3/"+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(q)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusUnauthorized || !bytes.Contains(answer, []byte(`"session"`))) {
		return 0, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out != nil {
		err = json.Unmarshal(answer, out)
	}
	return len(answer), err
}

// register makes an account, and is its token.
func (c *client) register(ctx context.Context) (string, error) {
	var out struct {
		Session string
		Token   string `json:"access_token"`
	}
	body := map[string]any{"username": "u" + strings.ToLower(rand.Text()), "password": "a password of a user 1"}
	if _, err := c.ask(ctx, "", "POST", "register", body, &out); err != nil {
		return "", err
	}
	body["auth"] = map[string]any{"type": "m.login.dummy", "session": out.Session}
	_, err := c.ask(ctx, "", "POST", "register", body, &out)
	return out.Token, err
}

func (c *client) create(ctx context.Context, token string) (string, error) {
	var out struct {
		ID string `json:"room_id"`
	}
	_, err := c.ask(ctx, token, "POST", "createRoom", map[string]any{"preset": "public_chat"}, &out)
	return url.PathEscape(out.ID), err
}

// send sends a message of the time it was sent at.
func (c *client) send(ctx context.Context, token, room string) error {
	_, err := c.ask(ctx, token, "PUT", "rooms/"+room+"/send/m.room.message/"+rand.Text(),
		map[string]any{"msgtype": "m.text", "body": "forty-three characters of text in a message", "at": time.Now().UnixMicro()}, nil)
	return err
}

// synced is what the benchmark reads of /sync.
type synced struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join map[string]struct {
			Timeline struct {
				Events []struct {
					Content struct {
						At int64 `json:"at"`
					}
				}
			}
		}
	}
}

// each tells how long each message was under way.
func (s *synced) each(heard func(time.Duration)) {
	now := time.Now().UnixMicro()
	for _, r := range s.Rooms.Join {
		for _, e := range r.Timeline.Events {
			if e.Content.At != 0 {
				heard(time.Duration(now-e.Content.At) * time.Microsecond)
			}
		}
	}
}

// everything is a filter by which bursts come whole.
var everything = url.QueryEscape(`{"room":{"timeline":{"limit":100}}}`)

// listen hears of messages until it is stopped, and tells how long each was under way.
func (c *client) listen(ctx context.Context, token string, heard func(time.Duration)) error {
	var out synced
	if _, err := c.ask(ctx, token, "GET", "sync?timeout=0", nil, &out); err != nil {
		return err
	}
	for ctx.Err() == nil {
		since := out.Next
		out = synced{}
		if _, err := c.ask(ctx, token, "GET", "sync?timeout=30000&filter="+everything+"&since="+since, nil, &out); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was stopped
			}
			return err
		}
		out.each(heard)
	}
	return nil
}

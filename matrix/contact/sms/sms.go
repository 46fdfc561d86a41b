// Package sms hands messages for telephones to a gateway over HTTP, as providers of such messages have them. What a gateway wants to be told differs from one to
// another, so the configuration says it: headers, and a body whose texts have places for the number and the message. The body is encoded after these are filled
// in, so that nothing in a message can be taken for a part of it.
package sms

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/matrix/outside"
)

// ErrAnswer says that a gateway did not take a message.
var ErrAnswer = errors.New("gateway did not take the message")

// Ways in which a body is encoded.
const (
	JSON = "json"
	Form = "form"
)

// Places in the texts of a body, of headers and of the address.
const (
	placeNumber = "{number}" // digits, with the code of the country and without a plus
	placeText   = "{text}"
	placeSecret = "{secret}"
)

// Limits of a request.
const (
	timeout     = 10 * time.Second
	maxAnswer   = 64 << 10
	maxSaid     = 200 // of an answer in an error
	connections = 4
)

// Config says which gateway it is.
type Config struct {
	URL      string
	User     string // by whom, and the secret as password, the request is made (RFC 7617); "": nobody
	Secret   string
	Headers  map[string]string
	Encoding string
	Body     map[string]any
	Taken    string // what the answer has in it if the message was taken; "": its status says that
}

// Gateway sends messages.
type Gateway struct {
	c    Config
	http *http.Client
	free chan struct{}
}

// New is a gateway. It does not connect yet.
func New(c Config) (*Gateway, error) {
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("gateway %q is no address of the web (https://HOST/PATH)", c.URL)
	}
	g := &Gateway{c, &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, make(chan struct{}, connections)}
	var places []string
	_, err := each(c.Body, func(text string) string {
		places = append(places, text)
		return text
	})
	if err != nil {
		return nil, err
	}
	all := strings.Join(places, "\n")
	if !strings.Contains(all, placeNumber) || !strings.Contains(all, placeText) {
		return nil, fmt.Errorf("body lacks a place for %s or for %s", placeNumber, placeText)
	}
	if c.Secret == "" && strings.Contains(all+c.URL+strings.Join(slices.Collect(maps.Values(c.Headers)), "\n"), placeSecret) {
		return nil, fmt.Errorf("there is no secret for %s", placeSecret)
	}
	_, _, err = g.body(func(text string) string { return text })
	return g, err
}

// each is a value of the configuration with its texts replaced.
func each(v any, replace func(string) string) (any, error) {
	switch v := v.(type) {
	case string:
		return replace(v), nil
	case map[string]any:
		out := map[string]any{}
		for name, one := range v {
			var err error
			if out[name], err = each(one, replace); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for n, one := range v {
			var err error
			if out[n], err = each(one, replace); err != nil {
				return nil, err
			}
		}
		return out, nil
	case nil, bool, int, int64, uint64, float64:
		return v, nil
	}
	return nil, fmt.Errorf("body has %v, which is no text, number, list or mapping of texts", v)
}

// request is the one that sends a message.
func (g *Gateway) request(ctx context.Context, number, text string) (*http.Request, error) {
	places := strings.NewReplacer(placeNumber, number, placeText, text, placeSecret, g.c.Secret)
	body, kind, err := g.body(places.Replace)
	if err != nil {
		return nil, err
	}
	at := strings.ReplaceAll(g.c.URL, placeSecret, url.PathEscape(g.c.Secret))
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("gateway %q is no address of the web (https://HOST/PATH)", g.c.URL)
	}
	q.Header.Set("Content-Type", kind)
	for name, value := range g.c.Headers {
		q.Header.Set(name, places.Replace(value))
	}
	if g.c.User != "" {
		q.SetBasicAuth(g.c.User, g.c.Secret)
	}
	return q, nil
}

// body is that of a request, and its type.
func (g *Gateway) body(replace func(string) string) (body []byte, kind string, err error) {
	v, err := each(g.c.Body, replace)
	if err != nil {
		return nil, "", err
	}
	switch g.c.Encoding {
	case JSON:
		body, err = json.Marshal(v)
		return body, "application/json", err
	case Form:
		form := url.Values{}
		for name, one := range v.(map[string]any) { // as it was
			switch one.(type) {
			case nil, []any, map[string]any:
				return nil, "", fmt.Errorf("body has %s, which is no text: a form has only texts", name)
			}
			form.Set(name, fmt.Sprint(one))
		}
		return []byte(form.Encode()), "application/x-www-form-urlencoded", nil
	}
	return nil, "", fmt.Errorf("encoding %q is neither %s nor %s", g.c.Encoding, JSON, Form)
}

// Send has the gateway send a message. After an error it may be tried again.
func (g *Gateway) Send(ctx context.Context, number, text string) error {
	q, err := g.request(ctx, number, text)
	if err != nil {
		return err
	}
	status, answer, err := g.do(q)
	if err != nil {
		return err
	}
	if status[0] != '2' || !strings.Contains(answer, g.c.Taken) {
		// What it says may repeat what it was told.
		hidden := strings.NewReplacer(text, placeText, number, placeNumber, g.secret(), placeSecret).Replace(answer)
		return fmt.Errorf("%w: it answered %s: %.*q", ErrAnswer, status, maxSaid, hidden)
	}
	return nil
}

// secret is what is hidden in what is said; without one it is what nothing has in it.
func (g *Gateway) secret() string {
	if g.c.Secret == "" {
		return placeSecret
	}
	return g.c.Secret
}

// do makes a request once there are few enough, and is the status and what was answered.
func (g *Gateway) do(q *http.Request) (status, answer string, err error) {
	limited, cancel := context.WithTimeout(q.Context(), timeout)
	defer cancel()
	select {
	case g.free <- struct{}{}:
		defer func() { <-g.free }()
	case <-limited.Done():
		return "", "", fmt.Errorf("too many messages are being sent: %w", limited.Err())
	}
	resp, err := g.http.Do(q.WithContext(limited))
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err // without the address, which may have the secret in it
	}
	if err != nil {
		return "", "", outside.Explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", "", fmt.Errorf("%w: the answer broke off: %w", ErrAnswer, err)
	}
	return strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)), string(said), nil
}

// Check asks the gateway for nothing, says nobody's secret, and sends no message: any answer will do.
func (g *Gateway) Check(ctx context.Context) error {
	u, err := url.Parse(g.c.URL)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodHead, u.Scheme+"://"+u.Host+"/", http.NoBody)
	if err != nil {
		return err
	}
	_, _, err = g.do(q)
	return err
}

package sms_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/matrix/contact/sms"
)

// asked is a request as a gateway gets it.
type asked struct{ Method, Path, Body, Authorization, Key string }

func start(t *testing.T, status int, answer string) (*httptest.Server, chan asked) {
	t.Helper()
	requests := make(chan asked, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- asked{r.Method, r.URL.EscapedPath(), string(body), r.Header.Get("Authorization"), r.Header.Get("X-Key")}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s, requests
}

// TestBodies: gateways are told what they want, in the form that they want; what is in a message stays in its place.
func TestBodies(t *testing.T) {
	s, requests := start(t, http.StatusAccepted, "")
	const text = "\"}, {text} {secret}\r\n&to=1 é \x01"
	for what, c := range map[string]struct {
		config sms.Config
		want   asked
	}{
		"nested": {
			sms.Config{URL: s.URL + "/v1", Secret: "k", Headers: map[string]string{"Authorization": "Bearer {secret}"}, Encoding: sms.JSON, Body: map[string]any{
				"messages": []any{map[string]any{"to": []any{"+{number}"}, "content": map[string]any{"text": "{text}"}, "parts": 2, "flash": false, "from": nil}},
			}},
			asked{Method: "POST", Path: "/v1", Body: `{"messages":[{"content":{"text":` + quoted(text) + `},"flash":false,"from":null,"parts":2,"to":["+447700900001"]}]}`, Authorization: "Bearer k"},
		},
		"form": {
			sms.Config{URL: s.URL + "/v2", User: "anne", Secret: "k", Encoding: sms.Form, Body: map[string]any{"To": "+{number}", "Body": "{text}", "n": 1}},
			asked{Method: "POST", Path: "/v2", Body: url.Values{"To": {"+447700900001"}, "Body": {text}, "n": {"1"}}.Encode(), Authorization: "Basic YW5uZTpr"},
		},
		"in the address": {
			sms.Config{URL: s.URL + "/{secret}/send", Secret: "a/b", Headers: map[string]string{"X-Key": "{secret}"}, Encoding: sms.JSON, Body: map[string]any{"to": "{number}", "text": "{text}"}},
			asked{Method: "POST", Path: "/a%2Fb/send", Body: `{"text":` + quoted(text) + `,"to":"447700900001"}`, Key: "a/b"},
		},
	} {
		g, err := sms.New(c.config)
		if err != nil {
			t.Fatal(what, err)
		}
		if err := g.Send(t.Context(), "447700900001", text); err != nil {
			t.Error(what, err)
		}
		if diff := cmp.Diff(c.want, <-requests); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
}

func quoted(text string) string {
	q, _ := json.Marshal(text)
	return string(q)
}

// TestErrors: an error says what a gateway answered, and neither the message, nor the number, nor the secret.
func TestErrors(t *testing.T) {
	s, _ := start(t, http.StatusBadRequest, `{"error":"bad key k-e-y","text":"123456 is your code","to":"+447700900001"}`)
	c := sms.Config{URL: s.URL + "/{secret}", Secret: "k-e-y", Encoding: sms.JSON, Body: map[string]any{"to": "+{number}", "text": "{text}"}}
	g, err := sms.New(c)
	if err != nil {
		t.Fatal(err)
	}
	err = g.Send(t.Context(), "447700900001", "123456 is your code")
	if !errors.Is(err, sms.ErrAnswer) || !strings.Contains(err.Error(), "400 Bad Request") {
		t.Error(err)
	}
	s.Close()
	broken := g.Send(t.Context(), "447700900001", "123456 is your code")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{err, broken, g.Send(ended, "447700900001", "123456 is your code"), g.Check(t.Context())} {
		if err == nil {
			t.Fatal("there is no error")
		}
		for _, hidden := range []string{"123456", "447700900001", "k-e-y"} {
			if strings.Contains(err.Error(), hidden) {
				t.Errorf("%q says %s", err, hidden)
			}
		}
	}
}

// TestCheck: a gateway is looked at without a message and without a secret.
func TestCheck(t *testing.T) {
	s, requests := start(t, http.StatusNotFound, "")
	g, err := sms.New(sms.Config{URL: s.URL + "/{secret}", User: "anne", Secret: "k", Headers: map[string]string{"X-Key": "{secret}"}, Encoding: sms.JSON, Body: map[string]any{"to": "{number}", "text": "{text}"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(asked{Method: "HEAD", Path: "/"}, <-requests); diff != "" {
		t.Error(diff)
	}
}

// TestBadConfigs: what is wrong with a configuration is said before anything is sent.
func TestBadConfigs(t *testing.T) {
	body := map[string]any{"to": "{number}", "text": "{text}"}
	for want, c := range map[string]sms.Config{
		"is no address of the web": {URL: "ftp://example.org", Encoding: sms.JSON, Body: body}, "no address of the web": {URL: "/messages", Encoding: sms.JSON, Body: body},
		"neither json nor form": {URL: "https://example.org", Encoding: "xml", Body: body}, "lacks a place for {number}": {URL: "https://example.org", Encoding: sms.JSON, Body: map[string]any{"text": "{text}"}},
		"lacks a place": {URL: "https://example.org", Encoding: sms.JSON}, "no secret for {secret}": {URL: "https://example.org", Encoding: sms.JSON, Headers: map[string]string{"X-Key": "{secret}"}, Body: body},
		"a form has only texts": {URL: "https://example.org", Encoding: sms.Form, Body: map[string]any{"to": "{number}", "text": []any{"{text}"}}},
		"which is no text":      {URL: "https://example.org", Encoding: sms.JSON, Body: map[string]any{"to": "{number}", "text": "{text}", "x": map[any]any{1: 2}}},
	} {
		if _, err := sms.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

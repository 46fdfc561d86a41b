package server_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/matrix/rate"
	"orrery/matrix/server"
)

// TestLimits: who asks too often is told when to try again, and others are not.
func TestLimits(t *testing.T) {
	s := newSite(t, "memory")
	anne, bob := s.register("anne"), s.register("bob")
	room := anne.create(object{"preset": "public_chat"})
	bob.join(room)
	s.stop()
	s.config.Database = "memory"
	s.config.Limits = server.Limits{Logins: rate.Limit{PerSecond: .001, Burst: 5}, Writes: rate.Limit{PerSecond: .001, Burst: 3}, Reads: rate.Limit{PerSecond: .001, Burst: 3}}
	s.config.BehindProxy = true
	s.start()
	anne, bob = s.register("anne"), s.register("bob") // four logins
	room = anne.create(object{})
	anne.send(room, "1", "x")
	anne.send(room, "2", "x")
	for range 2 {
		anne.refused(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "PUT", "rooms/"+room+"/send/m.room.message/3", object{})
	}
	bob.create(object{})
	anne.do("GET", "account/whoami", nil)
	anne.do("GET", "account/whoami", nil)
	anne.do("GET", "account/whoami", nil)
	anne.refused(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "GET", "account/whoami", nil)
	bob.do("GET", "account/whoami", nil)
	login := object{"type": "m.login.password", "user": "anne", "password": "wrong"}
	nobody := &client{site: s}
	nobody.refused(http.StatusForbidden, "M_FORBIDDEN", "POST", "login", login)
	nobody.refused(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "POST", "login", login)
	from := func(address string) (int, http.Header, []byte) {
		q, err := http.NewRequestWithContext(t.Context(), "POST", s.http.URL+"/_matrix/client/v3/login", strings.NewReader(`{"type":"m.login.password"}`))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("X-Forwarded-For", "10.0.0.1, "+address)
		return answerTo(t, q)
	}
	for range 3 {
		if status, _, _ := from("192.0.2.1"); status == http.StatusTooManyRequests {
			t.Error("another address is limited")
		}
	}
	var header http.Header
	var text []byte
	for range 6 {
		_, header, text = from("192.0.2.1")
	}
	var out struct {
		After int64 `json:"retry_after_ms"`
	}
	if err := json.Unmarshal(text, &out); err != nil || out.After <= 0 {
		t.Error(out, err)
	}
	if after, err := strconv.Atoi(header.Get("Retry-After")); err != nil || int64(after)*1000 < out.After || header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error(header)
	}
}

// answerTo is what a request is answered, whatever it is.
func answerTo(t *testing.T, q *http.Request) (status int, header http.Header, text []byte) {
	t.Helper()
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if text, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, text
}

// TestCompression: answers that are worth it are compressed for those who take it; browsers may ask from any page.
func TestCompression(t *testing.T) {
	s := newSite(t, "memory")
	anne := s.register("anne")
	anne.create(object{"topic": strings.Repeat("x", 5000)})
	ask := func(method, path, accept string) (int, http.Header, []byte) {
		q, err := http.NewRequestWithContext(t.Context(), method, s.http.URL+"/_matrix/client/v3/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+anne.token)
		q.Header.Set("Accept-Encoding", accept)
		return answerTo(t, q)
	}
	long := "user/" + url.PathEscape(anne.user) + "/account_data/long"
	anne.do("PUT", long, object{"text": strings.Repeat("x", 5000)})
	_, _, plain := ask("GET", long, "identity")
	_, header, packed := ask("GET", long, "deflate, gzip;q=0.5")
	if header.Get("Content-Encoding") != "gzip" || header.Get("Vary") != "Accept-Encoding" || len(packed) >= len(plain) {
		t.Error(header, len(packed), len(plain))
	}
	r, err := gzip.NewReader(strings.NewReader(string(packed)))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != string(plain) {
		t.Error(err, len(text))
	}
	for path, accept := range map[string]string{"sync": "gzip;q=0, *", "account/whoami": "gzip"} {
		if _, header, text := ask("GET", path, accept); header.Get("Content-Encoding") != "" || !json.Valid(text) {
			t.Error(path, header)
		}
	}
	if status, header, _ := ask("OPTIONS", "sync", ""); status != http.StatusNoContent || !strings.Contains(header.Get("Access-Control-Allow-Methods"), "PUT") {
		t.Error(status, header)
	}
}

// TestServe: TLS with a certificate that changes, metrics, and an end that answers those who wait.
func TestServe(t *testing.T) {
	s := newSite(t, "memory")
	s.stop()
	authority := testenv.NewAuthority(t)
	certificate := func(name string) {
		cert, key := authority.Issue(t, name)
		for from, to := range map[string]string{cert: "cert.pem", key: "key.pem"} {
			text, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(s.dir, to), text, 0o600)
			}
			if err == nil {
				now := time.Now().Add(time.Duration(len(name)) * time.Second) // a file system may not tell two writes apart
				err = os.Chtimes(filepath.Join(s.dir, to), now, now)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	certificate("first.test")
	s.config.TLSCertificate, s.config.TLSKey = "cert.pem", "key.pem"
	s.config.Listen, s.config.Metrics = "127.0.0.1:0", net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(t)))
	s.start()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- s.server.Serve(ctx, func(a net.Addr) { ready <- a }) }()
	address := (<-ready).String()
	trusting := authority.Client(t)
	transport, _ := trusting.Transport.(*http.Transport)
	get := func(name, token, path string) (int, string) {
		of := transport.Clone()
		of.DisableKeepAlives = true
		q, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Authorization", "Bearer "+token)
		resp, err := (&http.Client{Transport: of}).Do(q)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.TLS.PeerCertificates[0].Subject.CommonName; got != name {
			t.Errorf("%s shows the certificate of %s", name, got)
		}
		return resp.StatusCode, string(text)
	}
	if status, text := get("first.test", "", "/_matrix/client/versions"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "cert.pem"), nil, 0o600); err != nil { // half of a change
		t.Fatal(err)
	}
	if status, text := get("first.test", "", "/_matrix/client/versions"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	certificate("second1.test")
	if status, text := get("second1.test", "", "/_matrix/client/versions"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	anne := s.register("anne")
	since := anne.sync("", "").Next
	answer := make(chan string, 1)
	go func() {
		status, text := get("second1.test", anne.token, "/_matrix/client/v3/sync?timeout=60000&since="+since)
		answer <- fmt.Sprint(status, text)
	}()
	observed := func(path string) string {
		q, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.config.Metrics+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	testenv.Eventually(t, "somebody waits", func() bool { return strings.Contains(observed("/metrics"), "homeserver_requests_under_way 1") })
	if text := observed("/metrics"); !strings.Contains(text, `homeserver_requests_total{request="GET /_matrix/client/versions",status="200"}`) {
		t.Error(text)
	}
	if text := observed("/debug/pprof/goroutine?debug=1"); !strings.Contains(text, "goroutine profile") {
		t.Error(text)
	}
	end()
	if got := <-answer; !strings.HasPrefix(got, "200") || !strings.Contains(got, since) {
		t.Error(got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

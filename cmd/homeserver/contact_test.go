package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"orrery/internal/testenv/postbox"
)

var mailedLink = regexp.MustCompile(`http://chat\.example\.org(/\S+)`)

// TestMailKilled: the link of a mail counts when the server was killed after it had sent it, and again after it was followed; and then it counts once.
func TestMailKilled(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := postbox.Start(t, postbox.Options{})
			p := newProcess(t, database(t), `base_url: ""`, "base_url: http://chat.example.org", "mail:\n  server: \"\"", "mail:\n  server: "+box.Address,
				"encryption: starttls", "encryption: none", `from: ""`, "from: chat@example.org")
			mary := p.register("mary")
			var asked struct {
				ID string `json:"sid"`
			}
			want := map[string]any{"client_secret": "s", "email": "mary@example.org", "send_attempt": 1}
			p.do(mary, "POST", "account/3pid/email/requestToken", want, &asked)
			found := mailedLink.FindStringSubmatch(box.Next(t).Text)
			if found == nil {
				t.Fatal("the mail has no link")
			}
			again := func() {
				t.Helper()
				p.kill()
				p.start()
			}
			again()
			if status, _ := p.follow(found[1]); status != http.StatusOK {
				t.Errorf("the link is answered with %d", status)
			}
			again()
			p.do(mary, "POST", "account/3pid/email/requestToken", want, nil)
			if len(box.Mails) > 0 {
				t.Error("another mail is sent for the same attempt")
			}
			add := map[string]any{"client_secret": "s", "sid": asked.ID, "auth": map[string]any{"type": "m.login.password", "user": "mary", "password": "open sesame"}}
			p.do(mary, "POST", "account/3pid/add", add, nil)
			again()
			var refused struct {
				Code string `json:"errcode"`
			}
			status, text, err := p.ask(t.Context(), mary, "POST", "account/3pid/add", add)
			if err != nil || json.Unmarshal(text, &refused) != nil || status != http.StatusBadRequest || refused.Code != "M_THREEPID_AUTH_FAILED" {
				t.Errorf("what was used up counts again: %d %s %v", status, text, err)
			}
			if status, page := p.follow(found[1]); status != http.StatusBadRequest || !strings.Contains(page, "was used") {
				t.Errorf("the link counts again: %d %s", status, page)
			}
		})
	}
}

// follow says yes on the page of a mail's link.
func (p *process) follow(link string) (int, string) {
	p.t.Helper()
	u, err := url.Parse(link)
	if err != nil {
		p.t.Fatal(err)
	}
	q, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://homeserver"+u.Path, strings.NewReader(u.RawQuery))
	if err != nil {
		p.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := p.http.Do(q)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(page)
}

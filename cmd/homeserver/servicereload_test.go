package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"orrery/internal/testenv"
)

// served is a process with a folder of services and metrics, and what is at that address.
func served(t *testing.T) (p *process, metrics func() string, register func(id, url string)) {
	t.Helper()
	p = newProcess(t, "sqlite:homeserver.db")
	p.kill()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(testenv.FreePort(t)))
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("application_services: []", "application_services: [services]", `metrics: ""`, "metrics: "+address).Replace(string(text))
	if err := os.WriteFile(p.config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(p.config), "services")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	register = func(id, url string) {
		t.Helper()
		text := fmt.Sprintf("id: %[1]s\nurl: %[2]s\nas_token: as-%[1]s\nhs_token: hs-%[1]s\nsender_localpart: %[1]sbot\nnamespaces: {}\n", id, url)
		if err := os.WriteFile(filepath.Join(dir, id+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p, func() string {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
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
	}, register
}

// figure is a metric of a service, -1 if there is none.
func figure(text, name, service string) float64 {
	m := regexp.MustCompile(`(?m)^homeserver_appservice_` + name + `\{service="` + service + `"\} (.*)$`).FindStringSubmatch(text)
	if m == nil {
		return -1
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return -1
	}
	return n
}

// hangUp has the process read registrations again, and waits until it says of that what a function wants.
func (p *process) hangUp(wants ...string) {
	p.t.Helper()
	before := len(p.log.String())
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		p.t.Fatal(err)
	}
	testenv.Eventually(p.t, "the log says "+strings.Join(wants, ", "), func() bool {
		said := p.log.String()[before:]
		return !slices.ContainsFunc(wants, func(s string) bool { return !strings.Contains(said, s) })
	})
}

// command runs the command beside the process, with its configuration.
func (p *process) command(args ...string) (string, error) {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), self, append([]string{"--config", p.config}, args...)...)
	cmd.Env = append(os.Environ(), asHomeserver+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestServicesReload: registrations that come, change and go count after a SIGHUP; wrong ones do not, and the log says what is wrong; metrics tell how services stand, and what waits for
// one that is gone is dropped, all while the server runs.
func TestServicesReload(t *testing.T) {
	p, metrics, register := served(t)
	first, second := &killedService{t: t, bodies: map[string]string{}}, &killedService{t: t, bodies: map[string]string{}}
	address := func(s *killedService) string {
		server := httptest.NewServer(s)
		t.Cleanup(server.Close)
		return server.URL
	}
	deaf := func(s *killedService, is bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deaf = is
	}
	register("irc", address(first))
	p.start()
	token := p.register("bob")
	var made struct {
		ID string `json:"room_id"`
	}
	p.do(token, "POST", "createRoom", map[string]any{"preset": "public_chat"}, &made)
	p.do("as-irc", "POST", "join/"+url.PathEscape(made.ID), map[string]any{}, nil)
	p.say(token, made.ID, 0, 5)
	testenv.Eventually(t, "the service gets everything, and is said to have", func() bool {
		taken, _ := first.state()
		text := metrics()
		return len(taken) == 5 && figure(text, "events_total", "irc") >= 5 && figure(text, "backlog_events", "irc") == 0 && figure(text, "backlog_seconds", "irc") == 0
	})
	deaf(first, true)
	p.say(token, made.ID, 5, 8)
	testenv.Eventually(t, "it is said that the service takes nothing", func() bool {
		text := metrics()
		return figure(text, "failures_total", "irc") >= 1 && figure(text, "backlog_events", "irc") == 3 && figure(text, "backlog_seconds", "irc") > 0
	})

	register("xmpp", "nowhere")
	p.hangUp("the registrations of application services were not changed", "xmpp.yaml: url")
	p.do("as-irc", "GET", "account/whoami", nil, nil)
	if status, _, err := p.ask(t.Context(), "as-xmpp", "GET", "account/whoami", nil); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a service with a wrong registration counts: %d %v", status, err)
	}
	register("xmpp", "http://127.0.0.1:1")
	register("irc", address(second))
	p.hangUp("the registrations of application services were read", "services=2")
	p.do("as-xmpp", "GET", "account/whoami", nil, nil)
	testenv.Eventually(t, "the service gets at its new address what waited for it", func() bool {
		taken, _ := second.state()
		return slices.Equal(taken, []string{"5", "6", "7"}) && figure(metrics(), "backlog_events", "irc") == 0
	})

	deaf(second, true)
	p.say(token, made.ID, 8, 10)
	testenv.Eventually(t, "something waits", func() bool { return figure(metrics(), "backlog_events", "irc") == 2 })
	if out, err := p.command("appservice", "drop", "irc"); err == nil || !strings.Contains(out, "the application service is registered") {
		t.Errorf("%v: %s", err, out)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(p.config), "services", "irc.yaml")); err != nil {
		t.Fatal(err)
	}
	p.hangUp("something waits for it", "service=irc", "events=2", "services=1")
	if status, _, err := p.ask(t.Context(), "as-irc", "GET", "account/whoami", nil); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a service that is gone acts: %d %v", status, err)
	}
	if text := metrics(); strings.Contains(text, `service="irc"`) || figure(text, "backlog_events", "xmpp") != 0 {
		t.Error(text)
	}
	p.say(token, made.ID, 10, 12) // it is told nothing of these
	for _, c := range []struct{ args, want string }{
		{"appservice list", "none any more"},
		{"__complete appservice drop", "irc\n"},
		{"appservice drop irc --dry-run", "would drop 2 events and 0 others that waited for irc"},
		{"appservice drop irc", "dropped 2 events"},
	} {
		args := strings.Fields(c.args)
		if args[0] == "__complete" {
			args = append(args, "")
		}
		if out, err := p.command(args...); err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v: %s", c.args, err, out)
		}
	}
	if out, err := p.command("appservice", "list"); err != nil || strings.Contains(out, "irc") {
		t.Errorf("%v: %s", err, out)
	}
	deaf(second, false)
	register("irc", address(second)) // it comes back, and hears of what is new
	p.hangUp("the registrations of application services were read", "services=2")
	p.say(token, made.ID, 12, 13)
	testenv.Eventually(t, "the service hears of what is new", func() bool {
		taken, _ := second.state()
		return slices.Equal(taken, []string{"5", "6", "7", "12"})
	})
}

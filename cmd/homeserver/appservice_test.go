package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orrery/internal/testenv"
)

// killedService is an application service that a killed homeserver sends to.
type killedService struct {
	t  *testing.T
	mu sync.Mutex

	bodies map[string]string // of transactions, by id
	taken  []string          // what messages say, once for each transaction that was taken
	lost   int               // how many of the next answers do not arrive
	again  int               // how many transactions came again
	deaf   bool              // it takes nothing
}

// ServeHTTP takes a transaction, whose answer may be lost.
func (s *killedService) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	text, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deaf {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	old, known := s.bodies[q.URL.Path]
	switch {
	case known && old != string(text):
		s.t.Errorf("%s was\n%s\nand is\n%s", q.URL.Path, old, text)
	case known:
		s.again++
	default:
		s.bodies[q.URL.Path] = string(text)
		var in struct {
			Events []struct{ Content struct{ Body string } }
		}
		if err := json.Unmarshal(text, &in); err != nil {
			s.t.Error(err)
		}
		for _, e := range in.Events {
			if e.Content.Body != "" {
				s.taken = append(s.taken, e.Content.Body)
			}
		}
	}
	if s.lost > 0 {
		s.lost--
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write([]byte("{}"))
}

func (s *killedService) state() (taken []string, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.taken...), s.again
}

// serviced is a process with a service, and a room in which the service's user is; settings are as newProcess has them.
func serviced(t *testing.T, database string, settings ...string) (p *process, s *killedService, token, room string) {
	t.Helper()
	s = &killedService{t: t, bodies: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	p = newProcess(t, database, settings...)
	p.kill()
	text, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.config, []byte(strings.Replace(string(text), "application_services: []", "application_services: [irc.yaml]", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	registration := fmt.Sprintf("id: irc\nurl: %s\nas_token: as\nhs_token: hs\nsender_localpart: ircbot\nnamespaces: {}\n", server.URL)
	if err := os.WriteFile(filepath.Join(filepath.Dir(p.config), "irc.yaml"), []byte(registration), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start()
	token = p.register("anne")
	var made struct {
		ID string `json:"room_id"`
	}
	p.do(token, "POST", "createRoom", map[string]any{"preset": "public_chat"}, &made)
	p.do("as", "POST", "join/"+url.PathEscape(made.ID), map[string]any{}, nil)
	return p, s, token, made.ID
}

// say writes messages whose bodies are numbers, from one to before another.
func (p *process) say(token, room string, from, to int) {
	p.t.Helper()
	for i := from; i < to; i++ {
		p.do(token, "PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%d", url.PathEscape(room), i),
			map[string]any{"msgtype": "m.text", "body": fmt.Sprint(i), "besides": strings.Repeat("x", p.besides)}, nil)
	}
}

// TestKilledService: whenever the server is killed, a service gets everything, in order, and what it may have got before is the same transaction.
func TestKilledService(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s, token, room := serviced(t, database(t))
			const each = 20
			for round := range rounds() {
				s.mu.Lock()
				s.lost, s.again = 1, 0 // an answer is lost, and then the server is
				s.mu.Unlock()
				p.say(token, room, round*each, (round+1)*each)
				testenv.Eventually(t, "the service is sent something", func() bool {
					s.mu.Lock()
					defer s.mu.Unlock()
					return s.lost == 0
				})
				p.kill()
				p.start()
				testenv.Eventually(t, "the service gets everything", func() bool {
					taken, again := s.state()
					return len(taken) >= (round+1)*each && again > 0
				})
			}
			taken, _ := s.state()
			for i, body := range taken {
				if body != fmt.Sprint(i) {
					t.Fatalf("%d is %s of %q", i, body, taken)
				}
			}
		})
	}
}

// TestServiceBacklog: what waits for a service that is away is on disk, not in memory, and is there when it comes back.
func TestServiceBacklog(t *testing.T) {
	metrics := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	p, s, token, room := serviced(t, "sqlite:homeserver.db", `metrics: ""`, "metrics: "+metrics)
	s.mu.Lock()
	s.deaf = true
	s.mu.Unlock()
	const many = 4000
	p.besides = 8 << 10
	p.say(token, room, 0, many/2)
	middle := p.heap(metrics)
	p.say(token, room, many/2, many)
	if full := p.heap(metrics); full > middle+many/2*p.besides/2 {
		t.Errorf("%d bytes are kept, and %d after as many events again, of %d bytes", middle, full, many/2*p.besides)
	}
	s.mu.Lock()
	s.deaf = false
	s.mu.Unlock()
	p.kill() // so that it is tried again at once
	p.start()
	testenv.Eventually(t, "the service gets everything", func() bool {
		taken, _ := s.state()
		return len(taken) == many
	})
	taken, _ := s.state()
	for i, body := range taken {
		if body != fmt.Sprint(i) {
			t.Fatalf("%d is %s", i, body)
		}
	}
}

// heap is how many bytes the process keeps after its garbage is collected, as its metrics' address tells.
func (p *process) heap(metrics string) (size int) {
	p.t.Helper()
	q, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+metrics+"/debug/pprof/heap?gc=1&debug=1", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "# HeapAlloc = ")
	if _, err := fmt.Sscan(rest, &size); err != nil {
		p.t.Fatalf("%v: %s", err, text)
	}
	return size
}

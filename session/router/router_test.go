package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/session"
)

const self = fabric.NodeID("aaaa")

type direct struct{ net.Dialer }

func (d *direct) Dial(ctx context.Context, to session.Instance) (net.Conn, error) {
	return d.DialContext(ctx, "tcp", to.Address)
}

// world is a router with its table.
type world struct {
	t      *testing.T
	table  fabric.Table
	router *Router
	last   uint64
}

func newWorld(t *testing.T, change func(*Config)) *world {
	t.Helper()
	table := memory.New()
	config := Config{Self: self, Table: table, Dialer: &direct{}, Directory: t.TempDir()}
	if change != nil {
		change(&config)
	}
	r, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &world{t: t, table: table, router: r}
}

func (w *world) put(key string, record any) {
	w.t.Helper()
	encoded, err := json.Marshal(record)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.last, err = w.table.Put(w.t.Context(), key, encoded); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) route(r session.Route) {
	w.t.Helper()
	w.put(session.RoutePrefix+r.Service, r)
	w.await(r.Service)
}

func (w *world) session(s session.Session) {
	w.t.Helper()
	w.put(session.SessionPrefix+s.Name, s)
	w.await("")
}

func (w *world) await(service string) {
	w.t.Helper()
	if err := w.router.Await(w.t.Context(), service, w.last); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) listen(service string) string {
	w.t.Helper()
	address, err := w.router.Listen(w.t.Context(), service)
	if err != nil {
		w.t.Fatal(err)
	}
	return address
}

func (w *world) backend(h http.HandlerFunc) session.Instance {
	w.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	w.t.Cleanup(s.Close)
	return session.Instance{Node: self, Address: s.Listener.Addr().String()}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func get(t *testing.T, address string, set func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if set != nil {
		set(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body), res.Header
}

func TestSelection(t *testing.T) {
	w := newWorld(t, nil)
	echo := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s|%s|%s", name, strings.Join(r.Header["Orrery-Session"], "+"), strings.Join(r.Header["Baggage"], "+"))
		}
	}
	w.route(session.Route{
		Service: "sky", Instance: w.backend(echo("production")),
		Public: &session.Listener{Node: self, Address: "127.0.0.1:0"},
	})
	w.route(session.Route{Service: "notes", Instance: w.backend(echo("notes"))})
	w.session(session.Session{
		Name: "blue", Ready: true,
		Overrides: []session.Override{{Service: "sky", Instance: w.backend(echo("blue"))}},
	})
	w.session(session.Session{Name: "old", Ready: true, Ending: true})
	w.session(session.Session{Name: "young"})
	public := w.publicAddress("sky")
	local := w.listen("sky")
	if local != w.listen("sky") {
		t.Error("a second Listen gives another address")
	}
	for name, c := range map[string]struct {
		address, header, baggage, host string
		status                         int
		body                           string
	}{
		"plain":             {public, "", "", "", 200, "production||"},
		"header":            {public, "blue", "", "", 200, "blue|blue|orrery-session=blue"},
		"baggage":           {local, "", "a=b, orrery-session=blue;p=1", "", 200, "blue|blue|orrery-session=blue,a=b"},
		"header first":      {local, "blue", "orrery-session=green", "", 200, "blue|blue|orrery-session=blue"},
		"host":              {public, "", "", "blue--sky.example.org:80", 200, "blue|blue|orrery-session=blue"},
		"host not local":    {local, "", "", "blue--sky.example.org", 200, "production||"},
		"longer name":       {public, "", "orrery-session=blue2", "", 410, ""},
		"ending":            {public, "old", "", "", 410, ""},
		"unknown host":      {public, "", "", "old--sky.example.org", 404, ""},
		"no such service":   {public, "", "", "blue--sly.example.org", 404, ""},
		"private service":   {public, "", "", "blue--notes.example.org", 404, ""},
		"being made":        {public, "young", "", "", 503, ""},
		"malformed":         {public, "", "orrery-session=%zz", "", 400, ""},
		"without overrides": {w.listen("notes"), "blue", "", "", 200, "notes|blue|orrery-session=blue"},
		"no instance":       {w.listen("nothing"), "", "", "", 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body, _ := get(t, c.address, func(r *http.Request) {
				if c.header != "" {
					r.Header.Set("Orrery-Session", c.header)
				}
				if c.baggage != "" {
					r.Header.Set("Baggage", c.baggage)
				}
				if c.host != "" {
					r.Host = c.host
				}
			})
			if status != c.status || c.status == 200 && body != c.body {
				t.Errorf("got %d %q, want %d %q", status, body, c.status, c.body)
			}
		})
	}
}

func (w *world) publicAddress(service string) string {
	w.t.Helper()
	for {
		if address, ok := w.router.PublicAddress(service); ok {
			return address
		}
		select {
		case <-w.t.Context().Done():
			w.t.Fatal("no public address")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestSwitchUnderLoad moves a service to and fro while clients write. No request may fail, each is answered
// once, and none may reach an instance after Await said that it is out of service.
func TestSwitchUnderLoad(t *testing.T) {
	w := newWorld(t, nil)
	var closed [2]atomic.Bool
	var late, served atomic.Int64
	instances := make([]session.Instance, 2)
	for i := range instances {
		instances[i] = w.backend(func(rw http.ResponseWriter, r *http.Request) {
			if closed[i].Load() {
				late.Add(1)
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			if closed[i].Load() {
				late.Add(1)
			}
			served.Add(1)
		})
	}
	closed[1].Store(true)
	w.route(session.Route{Service: "notes", Instance: instances[0]})
	address := w.listen("notes")
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var sent atomic.Int64
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				res, err := client.Post("http://"+address+"/", "text/plain", strings.NewReader("a note"))
				if err != nil {
					t.Error(err)
					return
				}
				if res.StatusCode != http.StatusOK {
					t.Errorf("status %d", res.StatusCode)
				}
				_ = res.Body.Close()
			}
		})
	}
	const switches = 200
	for i := range switches {
		from, to := i%2, (i+1)%2
		w.route(session.Route{Service: "notes", Instance: instances[from], Held: true})
		closed[from].Store(true)
		closed[to].Store(false)
		w.route(session.Route{Service: "notes", Instance: instances[to]})
		enough := served.Load() + 2
		until(t, func() bool { return served.Load() >= enough || t.Failed() })
	}
	close(stop)
	clients.Wait()
	if late.Load() > 0 || served.Load() != sent.Load() {
		t.Errorf("%d requests after %d switches: %d served, %d of them by an instance out of service",
			sent.Load(), switches, served.Load(), late.Load())
	}
	t.Logf("%d requests over %d switches", sent.Load(), switches)
}

func TestHoldLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.HoldLimit = 50 * time.Millisecond })
	w.route(session.Route{Service: "notes", Held: true})
	status, body, header := get(t, w.listen("notes"), nil)
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "notes") {
		t.Errorf("got %d %q %v", status, body, header)
	}
}

func TestAwaitEndsWithContext(t *testing.T) {
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := w.router.Await(ctx, "notes", 1<<40); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// behind is the table of a node that just came back: its watch begins with what was long ago.
type behind struct {
	fabric.Table
	past chan fabric.Change
}

func (b *behind) Watch(ctx context.Context, prefix string) (<-chan fabric.Change, error) {
	changes, err := b.Table.Watch(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := make(chan fabric.Change)
	go func() {
		defer close(out)
		for _, from := range []<-chan fabric.Change{b.past, changes} {
			for c := range from {
				select {
				case out <- c:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// TestStartedWhileHeld starts a router on a node that does not know yet that a service is held.
func TestStartedWhileHeld(t *testing.T) {
	table := memory.New()
	old := newWorld(t, func(c *Config) { c.Table = table })
	old.table = table
	var late atomic.Int64
	former := old.backend(func(http.ResponseWriter, *http.Request) { late.Add(1) })
	old.route(session.Route{Service: "notes", Instance: former})
	stale, err := table.Get(t.Context(), session.RoutePrefix+"notes")
	if err != nil {
		t.Fatal(err)
	}
	old.route(session.Route{Service: "notes", Instance: former, Held: true})

	lagging := &behind{Table: table, past: make(chan fabric.Change)}
	young := newWorld(t, func(c *Config) { c.Self, c.Table = "bbbb", lagging })
	answered := make(chan int, 1)
	address := young.listen("notes")
	go func() {
		res, err := http.Get("http://" + address)
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		_ = res.Body.Close()
		answered <- res.StatusCode
	}()
	for range 3 { // once the last is taken the first was dealt with
		lagging.past <- fabric.Change{Entries: []fabric.Entry{stale}, Revision: stale.Revision}
	}
	until(t, func() bool { return young.router.held.Load() == 1 })
	close(lagging.past)
	young.table = table
	old.route(session.Route{Service: "notes", Instance: old.backend(says("new"))})
	if status := <-answered; status != http.StatusOK || late.Load() > 0 {
		t.Errorf("status %d, %d requests reached the former instance", status, late.Load())
	}
}

// noQuorum is a table that cannot be written.
type noQuorum struct{ fabric.Table }

func (noQuorum) Put(context.Context, string, []byte) (uint64, error) { return 0, fabric.ErrNoQuorum }

// TestStartedWithoutQuorum: what the node knows is better than nothing.
func TestStartedWithoutQuorum(t *testing.T) {
	table := memory.New()
	lone := newWorld(t, func(c *Config) { c.Table, c.HoldLimit = noQuorum{table}, 400*time.Millisecond })
	lone.table = table
	lone.put(session.RoutePrefix+"notes", session.Route{Service: "notes", Instance: lone.backend(says("here"))})
	lone.await("notes")
	if status, body, _ := get(t, lone.listen("notes"), nil); status != http.StatusOK || !strings.Contains(body, "here") {
		t.Errorf("%d %s", status, body)
	}
}

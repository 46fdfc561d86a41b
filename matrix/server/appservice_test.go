package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bridge is an application service, over HTTP.
type bridge struct {
	t     *testing.T
	http  *httptest.Server
	id    string
	more  []string // lines of its registration
	got   chan transaction
	mu    sync.Mutex
	seen  map[string]string // bodies of transactions, by id
	fails []int             // statuses of the next answers to transactions
	body  string            // of the next answers to transactions; "": {}
	other http.HandlerFunc  // all but transactions; nil: not found

	before func(*http.Request) // is called before a transaction is looked at
}

// transaction is what a service is sent.
type transaction struct {
	id        string
	text      string
	Events    []clientEvent
	Ephemeral []object
	Proposed  []object                             `json:"de.sorunome.msc2409.ephemeral"`
	ToDevice  []object                             `json:"de.sorunome.msc2409.to_device"`
	Lists     struct{ Changed, Left []string }     `json:"org.matrix.msc3202.device_lists"`
	Counts    map[string]map[string]map[string]int `json:"org.matrix.msc3202.device_one_time_keys_count"`
	Fallbacks map[string]map[string][]string       `json:"org.matrix.msc3202.device_unused_fallback_key_types"`
}

func newBridge(t *testing.T, id string, more ...string) *bridge {
	t.Helper()
	b := &bridge{t: t, id: id, more: more, got: make(chan transaction, 1000), seen: map[string]string{}}
	b.http = httptest.NewServer(b)
	t.Cleanup(b.http.Close)
	return b
}

// ServeHTTP checks who asks, and takes transactions.
func (b *bridge) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	if q.Header.Get("Authorization") != "Bearer hs-"+b.id || q.URL.Query().Get("access_token") != "hs-"+b.id {
		b.t.Errorf("%s %s: %v", q.Method, q.URL, q.Header)
	}
	id, ok := strings.CutPrefix(q.URL.Path, "/_matrix/app/v1/transactions/")
	if !ok {
		if b.other == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		b.other(w, q)
		return
	}
	text, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	if b.before != nil {
		b.before(q)
	}
	if q.Context().Err() != nil { // nobody waits for the answer any more
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, known := b.seen[id]; known && old != string(text) {
		b.t.Errorf("transaction %s was\n%s\nand is\n%s", id, old, text)
	}
	b.seen[id] = string(text)
	if len(b.fails) > 0 {
		status := b.fails[0]
		if b.fails = b.fails[1:]; status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
	}
	if b.body != "" {
		_, _ = w.Write([]byte(b.body))
		b.body = ""
		return
	}
	tx := transaction{id: id, text: string(text)}
	if err := json.Unmarshal(text, &tx); err != nil || q.Method != http.MethodPut {
		b.t.Errorf("%s: %v: %s", q.Method, err, text)
	}
	_, _ = w.Write([]byte("{}"))
	b.got <- tx
}

// registration is its file.
func (b *bridge) registration() string {
	lines := append([]string{"id: " + b.id, "url: " + b.http.URL, "as_token: as-" + b.id, "hs_token: hs-" + b.id, "sender_localpart: " + b.id + "bot"}, b.more...)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "rate_limited:") }) {
		lines = append(lines, "rate_limited: false")
	}
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "namespaces:") }) {
		lines = append(lines, fmt.Sprintf(`namespaces: {users: [{exclusive: true, regex: "@%[1]s_.*"}], aliases: [{exclusive: true, regex: "#%[1]s_.*"}], rooms: []}`, b.id))
	}
	return strings.Join(lines, "\n") + "\n"
}

// next is the next transaction that a function wants.
func (b *bridge) next(want func(tx transaction) bool) transaction {
	b.t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case tx := <-b.got:
			if want(tx) {
				return tx
			}
		case <-deadline:
			b.t.Fatal("the service is not sent what it is to get")
		}
	}
}

// heard are messages that the service is sent, until there are so many.
func (b *bridge) heard(n int) (all []string) {
	b.t.Helper()
	for len(all) < n {
		all = append(all, bodies(b.next(func(tx transaction) bool { return len(bodies(tx.Events)) > 0 }).Events)...)
	}
	return all
}

// bridged makes a homeserver with services.
func bridged(t *testing.T, database string, all []*bridge, settings ...string) *site {
	t.Helper()
	s := configured(t, database, append(settings, "application_services: []", "application_services: [services]")...)
	s.describe(all...)
	s.start()
	s.server.BeginServices(t.Context())
	t.Cleanup(func() { s.stop() })
	return s
}

// describe writes the services' registrations.
func (s *site) describe(all ...*bridge) {
	s.t.Helper()
	dir := filepath.Join(s.dir, "services")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, b := range all {
		if err := os.WriteFile(filepath.Join(dir, b.id+".yaml"), []byte(b.registration()), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// edit changes the registration of a service.
func (s *site) edit(id, from, to string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "services", id+".yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// as is a client with the token of a service.
func (s *site) as(b *bridge) *client {
	return &client{site: s, user: "@" + b.id + "bot:orrery.test", token: "as-" + b.id}
}

// ghost registers a user of a service, and is a client for it; its requests name the user.
func (s *site) ghost(b *bridge, name string) ghost {
	s.t.Helper()
	bot := s.as(b)
	id, _ := bot.do("POST", "register", object{"type": "m.login.application_service", "username": name, "inhibit_login": true})["user_id"].(string)
	return ghost{bot, id}
}

type ghost struct {
	bot *client
	id  string
}

func (g ghost) path(path string) string {
	sign := "?"
	if strings.Contains(path, "?") {
		sign = "&"
	}
	return path + sign + "user_id=" + url.QueryEscape(g.id)
}

func (g ghost) do(method, path string, body any) object {
	g.bot.t.Helper()
	return g.bot.do(method, g.path(path), body)
}

func (g ghost) join(room string) {
	g.bot.t.Helper()
	g.do("POST", "join/"+url.PathEscape(room), object{})
}

func (g ghost) send(room, txn, body string) {
	g.bot.t.Helper()
	g.do("PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%s", url.PathEscape(room), txn), object{"msgtype": "m.text", "body": body})
}

// TestBridge: a service hears what happens where its users are, in order, from when they come to when they go, and nothing else.
func TestBridge(t *testing.T) {
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBridge(t, "irc")
			s := bridged(t, database(t), []*bridge{b})
			anne := s.register("anne")
			room := anne.create(object{"preset": "public_chat"})
			other := anne.create(object{"preset": "public_chat"})
			anne.send(room, "1", "before")
			g := s.ghost(b, "irc_bob")
			g.join(room)
			anne.send(other, "2", "elsewhere")
			anne.send(room, "3", "hello")
			g.send(room, "4", "answer")
			tx := b.next(func(tx transaction) bool { return len(tx.Events) > 0 })
			if e := tx.Events[0]; e.Type != "m.room.member" || *e.StateKey != g.id || e.Content["membership"] != "join" {
				t.Errorf("%+v", e)
			}
			got := bodies(tx.Events)
			if got = append(got, b.heard(2-len(got))...); !slices.Equal(got, []string{"hello", "answer"}) {
				t.Errorf("heard %q", got)
			}
			g.do("POST", "rooms/"+room+"/leave", object{})
			anne.send(room, "5", "after")
			anne.do("POST", "rooms/"+room+"/invite", object{"user_id": g.id})
			tx = b.next(func(tx transaction) bool {
				if slices.Contains(bodies(tx.Events), "after") {
					t.Error("heard what was said after the last user had left")
				}
				return slices.ContainsFunc(tx.Events, func(e clientEvent) bool { return e.Content["membership"] == "invite" })
			})
			if state, _ := tx.Events[len(tx.Events)-1].Unsigned["invite_room_state"].([]any); len(state) < 3 {
				t.Errorf("invitation: %s", tx.text)
			}
		})
	}
}

// TestBridgeDown: what a service does not take is sent again, the same; all that comes meanwhile, also over restarts of the server, is there afterwards in order.
func TestBridgeDown(t *testing.T) {
	for _, name := range []string{"SQLite", "Pebble", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBridge(t, "irc")
			b.fails = []int{500, 404, 502, 302}
			s := bridged(t, databases[name](t), []*bridge{b})
			anne := s.register("anne")
			room := anne.create(object{"preset": "public_chat"})
			s.ghost(b, "irc_carl").join(room)
			var want []string
			for i := range 230 {
				want = append(want, fmt.Sprint(i))
				anne.send(room, fmt.Sprint(i), fmt.Sprint(i))
				if i == 100 {
					s.stop()
					b.body = "<html>somebody else's page</html>"
					s.start()
					s.server.BeginServices(t.Context())
				}
			}
			if got := b.heard(230); !slices.Equal(got, want) {
				t.Errorf("heard %q", got)
			}
		})
	}
}

// TestServicesOfACopy: a server that tells nobody anything keeps nothing for services either, which act on it all the same.
func TestServicesOfACopy(t *testing.T) {
	b := newBridge(t, "irc")
	s := bridged(t, "sqlite:homeserver.db", []*bridge{b})
	anne := s.register("anne")
	room := anne.create(object{"preset": "public_chat"})
	g := s.ghost(b, "irc_bob")
	g.join(room)
	again := func(outbound bool) {
		s.stop()
		s.config.Outbound = outbound
		s.start()
		s.server.BeginServices(t.Context())
	}
	again(false)
	anne.send(room, "1", "in the copy")
	g.send(room, "2", "also in the copy")
	again(true)
	anne.send(room, "3", "after it")
	if got := b.heard(1); got[0] != "after it" {
		t.Errorf("heard %q", got)
	}
}

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/matrix/server"
)

// site is a homeserver of a test.
type site struct {
	t      *testing.T
	dir    string
	config *server.Config
	server *server.Server
	http   *httptest.Server

	listener net.Listener     // where it is to serve; nil: anywhere
	now      func() time.Time // its clock; nil: the machine's
}

// newSite makes a homeserver with a database, and with lines of the configuration replaced: the old one, the new one, and so on.
func newSite(t *testing.T, database string, settings ...string) *site {
	t.Helper()
	s := configured(t, database, settings...)
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// newWebSite makes one that knows where it is, as base_url says.
func newWebSite(t *testing.T, settings ...string) *site {
	t.Helper()
	return newWebSiteBefore(t, func(*site) []string { return settings })
}

// newWebSiteBefore is newWebSite with lines that depend on where it is.
func newWebSiteBefore(t *testing.T, settings func(s *site) []string) *site {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := configured(t, "memory", `base_url: ""`, "base_url: http://"+l.Addr().String())
	s.listener = l
	path := filepath.Join(s.dir, server.ConfigFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.NewReplacer(settings(s)...).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.config, err = server.ReadConfig(path); err != nil {
		t.Fatal(err)
	}
	s.config.Limits = server.Limits{}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func configured(t *testing.T, database string, settings ...string) *site {
	t.Helper()
	path, err := server.Init("orrery.test", filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "secret"), []byte("shh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := strings.NewReplacer(append(settings, "sqlite:homeserver.db", database, "open_registration: false", "open_registration: true", "presence: true", "presence: false", `registration_secret_file: ""`, "registration_secret_file: secret")...)
	if err := os.WriteFile(path, []byte(r.Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: filepath.Dir(path)}
	if s.config, err = server.ReadConfig(path); err != nil {
		t.Fatal(err)
	}
	s.config.Limits = server.Limits{}
	return s
}

func (s *site) start() {
	s.t.Helper()
	if s.now != nil {
		s.config.Now = s.now
	}
	var err error
	if s.server, err = server.Open(s.t.Context(), s.config, slog.New(slog.NewTextHandler(s.t.Output(), nil))); err != nil {
		s.t.Fatal(err)
	}
	s.http = httptest.NewUnstartedServer(s.server.Handler())
	if s.listener != nil {
		_ = s.http.Listener.Close()
		s.http.Listener = s.listener
	}
	s.http.Start()
}

func (s *site) stop() {
	s.http.CloseClientConnections()
	s.http.Close()
	if err := s.server.Close(); err != nil {
		s.t.Error(err)
	}
}

// object is a JSON object.
type object = map[string]any

// client is a user on a device.
type client struct {
	*site

	user, device, token string
}

// register makes an account.
func (s *site) register(name string) *client {
	s.t.Helper()
	c := &client{site: s}
	var out struct {
		User    string `json:"user_id"`
		Device  string `json:"device_id"`
		Token   string `json:"access_token"`
		Session string `json:"session"`
	}
	c.want(http.StatusUnauthorized, "POST", "register", object{"username": name, "password": "pw-" + name}, &out)
	c.want(http.StatusOK, "POST", "register", object{"username": name, "password": "pw-" + name, "auth": object{"type": "m.login.dummy", "session": out.Session}}, &out)
	c.user, c.device, c.token = out.User, out.Device, out.Token
	return c
}

// request makes a request below the client-server API, or at a path that begins with /.
func (c *client) request(ctx context.Context, method, path string, body any) (int, []byte) {
	c.t.Helper()
	if !strings.HasPrefix(path, "/") {
		path = "/_matrix/client/v3/" + path
	}
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	q, err := http.NewRequestWithContext(ctx, method, c.http.URL+path, in)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		q.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, text
}

// want makes a request that must have a status, and reads its answer.
func (c *client) want(status int, method, path string, body, out any) {
	c.t.Helper()
	got, text := c.request(c.t.Context(), method, path, body)
	if got != status {
		c.t.Fatalf("%s %s: %d, not %d: %s", method, path, got, status, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			c.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
}

// do makes a request that must succeed.
func (c *client) do(method, path string, body any) object {
	c.t.Helper()
	var out object
	c.want(http.StatusOK, method, path, body, &out)
	return out
}

// refused makes a request that must be refused with a status and the standard's code.
func (c *client) refused(status int, code, method, path string, body any) {
	c.t.Helper()
	var out struct {
		Code string `json:"errcode"`
		Text string `json:"error"`
	}
	c.want(status, method, path, body, &out)
	if out.Code != code || out.Text == "" {
		c.t.Errorf("%s %s: %s %q, not %s", method, path, out.Code, out.Text, code)
	}
}

func (c *client) create(body object) string {
	c.t.Helper()
	id, _ := c.do("POST", "createRoom", body)["room_id"].(string)
	return id
}

func (c *client) join(room string) {
	c.t.Helper()
	c.do("POST", "join/"+url.PathEscape(room), object{})
}

func (c *client) send(room, txn, body string) string {
	c.t.Helper()
	id, _ := c.do("PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%s", url.PathEscape(room), txn), object{"msgtype": "m.text", "body": body})["event_id"].(string)
	return id
}

// synced is an answer to /sync.
type synced struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join, Leave map[string]struct {
			State       events
			AccountData events `json:"account_data"`
			Timeline    struct {
				Events  []clientEvent
				Limited bool
				Prev    string `json:"prev_batch"`
			}
		}
		Invite map[string]struct {
			State events `json:"invite_state"`
		}
	}
	AccountData events `json:"account_data"`
}

type events struct{ Events []clientEvent }

type clientEvent struct {
	ID       string `json:"event_id"`
	Type     string
	Sender   string
	StateKey *string `json:"state_key"`
	Content  object
	Unsigned object

	Timestamp int64 `json:"origin_server_ts"`
}

func (c *client) sync(since, more string) synced {
	c.t.Helper()
	var out synced
	path := "sync?" + more
	if since != "" {
		path += "&since=" + since
	}
	c.want(http.StatusOK, "GET", path, nil, &out)
	return out
}

func bodies(all []clientEvent) (found []string) {
	for _, e := range all {
		if e.Type == "m.room.message" {
			found = append(found, fmt.Sprint(e.Content["body"]))
		}
	}
	return found
}

// databases are all kinds of them.
var databases = map[string]func(t *testing.T) string{
	"memory":     func(*testing.T) string { return "memory" },
	"SQLite":     func(*testing.T) string { return "sqlite:homeserver.db" },
	"Pebble":     func(*testing.T) string { return "pebble:db" },
	"PostgreSQL": postgres,
}

// everywhere runs a test on every kind of database.
func everywhere(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	for name, database := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newSite(t, database(t)))
		})
	}
}

// onTwo runs a test in memory and on SQLite: one of what does not depend on the database.
func onTwo(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	for _, name := range []string{"memory", "SQLite"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newSite(t, databases[name](t)))
		})
	}
}

func postgres(t *testing.T) string {
	t.Helper()
	return testenv.PostgreSQL(t).NewDatabase(t, "")
}

// TestConversation: two people meet in a room and talk, while one of them waits; then the server is restarted.
func TestConversation(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"name": "Lounge", "preset": "private_chat", "invite": []string{bob.user}})
		first := bob.sync("", "")
		if len(first.Rooms.Invite[room].State.Events) < 4 {
			t.Errorf("invitation: %+v", first)
		}
		bob.refused(http.StatusForbidden, "M_FORBIDDEN", "GET", "rooms/"+room+"/messages?dir=b", nil)
		bob.join(room)
		joined := bob.sync(first.Next, "")
		if len(joined.Rooms.Join[room].Timeline.Events) == 0 || len(joined.Rooms.Invite) != 0 {
			t.Errorf("joined: %+v", joined)
		}
		heard := make(chan synced)
		go func() { heard <- bob.sync(joined.Next, "timeout=60000") }()
		id := anne.send(room, "1", "hello")
		if again := anne.send(room, "1", "hello"); again != id {
			t.Errorf("sent again it is %s, not %s", again, id)
		}
		got := <-heard
		if b := bodies(got.Rooms.Join[room].Timeline.Events); !slices.Equal(b, []string{"hello"}) {
			t.Errorf("heard %q", b)
		}
		var whoami object
		bob.want(http.StatusOK, "GET", "account/whoami", nil, &whoami)
		if whoami["user_id"] != bob.user || whoami["device_id"] != bob.device {
			t.Error(whoami)
		}
		if s.config.Database == "memory" {
			return
		}
		s.stop()
		s.start()
		anne.send(room, "2", "again")
		if anne.send(room, "1", "hello") != id {
			t.Error("a transaction is forgotten")
		}
		got = bob.sync(got.Next, "")
		if b := bodies(got.Rooms.Join[room].Timeline.Events); !slices.Equal(b, []string{"again"}) {
			t.Errorf("after a restart: %q", b)
		}
		if got = bob.sync("", ""); len(bodies(got.Rooms.Join[room].Timeline.Events)) != 2 {
			t.Errorf("from the beginning: %+v", got)
		}
	})
}

// TestRepeatedAtOnce: a message that is sent several times at the same time is there once.
func TestRepeatedAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{})
		ids := make(chan string)
		for range 10 {
			go func() { ids <- anne.send(room, "1", "hello") }()
		}
		first := <-ids
		for range 9 {
			if id := <-ids; id != first {
				t.Errorf("%s, not %s", id, first)
			}
		}
		if got := bodies(anne.sync("", "").Rooms.Join[room].Timeline.Events); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
}

// TestManySenders: all that was acknowledged is there, once, in one order for everybody.
func TestManySenders(t *testing.T) {
	everywhere(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{"preset": "public_chat"})
		since := anne.sync("", "").Next
		const senders, each = 8, 10
		done := make(chan []string)
		for i := range senders {
			go func() {
				var ids []string
				for n := range each {
					ids = append(ids, anne.send(room, fmt.Sprintf("%d-%d", i, n), fmt.Sprintf("%d-%d", i, n)))
				}
				done <- ids
			}()
		}
		want := map[string]bool{}
		for range senders {
			for _, id := range <-done {
				want[id] = true
			}
		}
		got := anne.sync(since, "filter="+url.QueryEscape(`{"room":{"timeline":{"limit":100}}}`)).Rooms.Join[room].Timeline
		var ids []string
		for _, e := range got.Events {
			if ids = append(ids, e.ID); !want[e.ID] {
				t.Errorf("%s was not acknowledged", e.ID)
			}
		}
		if len(ids) != senders*each || got.Limited {
			t.Errorf("%d events, limited %t", len(ids), got.Limited)
		}
		var paged []string
		for from, more := "", true; more; {
			var page struct {
				Chunk []clientEvent
				End   string
			}
			anne.want(http.StatusOK, "GET", "rooms/"+room+"/messages?dir=b&limit=7"+from, nil, &page)
			for _, e := range page.Chunk {
				if e.Type == "m.room.message" {
					paged = append(paged, e.ID)
				}
			}
			from, more = "&from="+page.End, page.End != ""
		}
		slices.Reverse(paged)
		if !slices.Equal(paged, ids) {
			t.Errorf("pages have %d events, or another order", len(paged))
		}
	})
}

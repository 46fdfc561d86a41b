package server_test

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/matrix/server"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// whole is a filter by which nothing is left out.
var whole = "filter=" + url.QueryEscape(`{"room":{"timeline":{"limit":1000}}}`)

// snapshot is a copy of the database of a server that does not run, as its configuration names it.
func (s *site) snapshot() string {
	s.t.Helper()
	kind, name, _ := strings.Cut(s.config.Database, ":")
	to := "copy" + rand.Text()
	switch kind {
	case "pebble":
		if err := os.CopyFS(filepath.Join(s.dir, to), os.DirFS(filepath.Join(s.dir, name))); err != nil {
			s.t.Fatal(err)
		}
	case "sqlite":
		text, err := os.ReadFile(filepath.Join(s.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(s.dir, to), text, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	default:
		u, err := url.Parse(s.config.Database)
		if err != nil {
			s.t.Fatal(err)
		}
		return testenv.PostgreSQL(s.t).NewDatabase(s.t, "TEMPLATE "+strings.TrimPrefix(u.Path, "/"))
	}
	return kind + ":" + to
}

// on starts the server again, on another database.
func (s *site) on(database string) {
	s.t.Helper()
	s.config.Database = database
	s.start()
}

// kept runs a test on every kind of database that outlives its server.
func kept(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	for _, name := range []string{"SQLite", "Pebble", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newSite(t, databases[name](t)))
		})
	}
}

func numbered(what string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(what, i))
	}
	return all
}

func (c *client) sendAll(room, what string, n int) {
	c.t.Helper()
	for i, body := range numbered(what, n) {
		c.send(room, what+fmt.Sprint(i), body)
	}
}

// inbox is the messages to a device after a token, and the next one, by sliding sync.
func (c *client) inbox(since string) (int, string) {
	c.t.Helper()
	var out struct {
		Extensions struct {
			ToDevice struct {
				Next   string `json:"next_batch"`
				Events []object
			} `json:"to_device"`
		}
	}
	c.want(http.StatusOK, "POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", object{"extensions": object{"to_device": object{"enabled": true, "since": since}}}, &out)
	return len(out.Extensions.ToDevice.Events), out.Extensions.ToDevice.Next
}

// TestRestored: a client that was told of what was lost when the database was restored begins anew, whatever was written since; one that was not goes on.
func TestRestored(t *testing.T) {
	kept(t, func(t *testing.T, s *site) {
		t.Helper()
		anne, bob := s.register("anne"), s.register("bob")
		room := anne.create(object{"preset": "public_chat"})
		bob.join(room)
		anne.send(room, "kept", "kept")
		known := bob.sync("", "").Next
		s.stop()
		early, late := s.snapshot(), s.snapshot()
		s.start()
		if got := bob.sync(known, whole+"&timeout=0"); got.Next != known || len(got.Rooms.Join) != 0 {
			t.Errorf("a restart: %+v", got)
		}
		_, inbox := bob.inbox("")
		anne.sendAll(room, "lost", 3)
		anne.do("PUT", "sendToDevice/m.x/1", object{"messages": object{bob.user: object{"*": object{}}}})
		lost := bob.sync(known, "").Next
		_, lostInbox := bob.inbox(inbox)
		for _, snapshot := range []string{early, late} { // the second time what is lost was written after a restore
			s.stop()
			s.on(snapshot)
			anne.do("PUT", "sendToDevice/m.x/1", object{"messages": object{bob.user: object{"*": object{}}}})
			anne.do("PUT", "profile/"+anne.user+"/displayname", object{"displayname": "Anne"})
			anne.do("POST", "keys/upload", object{"device_keys": object{"user_id": anne.user, "device_id": anne.device, "algorithms": []string{}, "keys": object{}, "signatures": object{}}})
			anne.sendAll(room, "new", 12)
			got := bob.sync(lost, whole)
			if b := bodies(got.Rooms.Join[room].Timeline.Events); !slices.Equal(b, append([]string{"kept"}, numbered("new", 12)...)) || !got.Rooms.Join[room].Timeline.Limited || len(got.AccountData.Events) == 0 {
				t.Errorf("who was told of what was lost does not begin anew: %q %+v", b, got)
			}
			if b := bodies(bob.sync(known, whole).Rooms.Join[room].Timeline.Events); !slices.Equal(b, numbered("new", 12)) {
				t.Errorf("who was not does not go on: %q", b)
			}
			n, next := bob.inbox(lostInbox)
			if again, _ := bob.inbox(next); n != 1 || again != 0 {
				t.Errorf("%d messages to the device, and then %d", n, again)
			}
			if changed, _ := bob.do("GET", "keys/changes?from="+lost+"&to="+got.Next, nil)["changed"].([]any); !slices.Contains(changed, any(anne.user)) {
				t.Errorf("keys that changed: %v", changed)
			}
			for path, n := range map[string]int{"dir=f&from=" + lost: 13, "dir=b&to=" + lost: 13, "dir=f&from=" + known: 12, "dir=b&to=" + known: 12, "dir=b&from=" + known: 1} {
				var page struct{ Chunk []clientEvent }
				if bob.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/messages?limit=1000&"+path, nil, &page); len(bodies(page.Chunk)) != n {
					t.Errorf("messages?%s has %q", path, bodies(page.Chunk))
				}
			}
			lost, lostInbox = got.Next, next
		}
	})
}

// TestForked: a token of one of two databases that were one does not count at the other, if it is of after that, however both go on.
func TestForked(t *testing.T) {
	kept(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{})
		common := anne.sync("", "").Next
		s.stop()
		forked := &site{t: t, dir: s.dir, config: new(*s.config)}
		forked.config.Database = s.snapshot()
		s.start()
		forked.start()
		defer forked.stop()
		there := &client{site: forked, user: anne.user, device: anne.device, token: anne.token}
		anne.sendAll(room, "here", 5)
		there.sendAll(room, "there", 5)
		here, away := anne.sync(common, "").Next, there.sync(common, "").Next
		s.stop()
		s.start()
		anne.sendAll(room, "more", 5)
		for _, c := range []struct {
			who   *client
			since string
			want  []string
		}{{anne, here, numbered("more", 5)}, {there, away, nil}, {anne, away, append(numbered("here", 5), numbered("more", 5)...)}, {there, here, numbered("there", 5)}} {
			if got := bodies(c.who.sync(c.since, whole+"&timeout=0").Rooms.Join[room].Timeline.Events); !slices.Equal(got, c.want) {
				t.Errorf("since %s: %q, not %q", c.since, got, c.want)
			}
		}
	})
}

// TestBackupGoesOn: a data folder that was written from a server that runs is a server whose clients were told what they had been by then.
func TestBackupGoesOn(t *testing.T) {
	s := newSite(t, "sqlite:homeserver.db")
	anne := s.register("anne")
	room := anne.create(object{})
	before := anne.sync("", "").Next
	path, err := server.Backup(t.Context(), s.config, filepath.Join(t.TempDir(), "backup"), nil)
	if err != nil {
		t.Fatal(err)
	}
	anne.sendAll(room, "lost", 3)
	after := anne.sync("", "").Next
	s.stop()
	if s.config, err = server.ReadConfig(path); err != nil {
		t.Fatal(err)
	}
	s.config.Limits = server.Limits{}
	s.start()
	anne.sendAll(room, "new", 5)
	for _, since := range []string{before, after} {
		got := anne.sync(since, whole).Rooms.Join[room].Timeline
		if b := bodies(got.Events); !slices.Equal(b, numbered("new", 5)) || got.Limited != (since == after) {
			t.Errorf("since %s: %q %v", since, b, got.Limited)
		}
	}
}

// TestTokensOfBefore: a token of before there were epochs counts for what was written before there were.
func TestTokensOfBefore(t *testing.T) {
	kept(t, func(t *testing.T, s *site) {
		t.Helper()
		anne := s.register("anne")
		room := anne.create(object{})
		anne.send(room, "1", "old")
		old, _, _ := strings.Cut(anne.sync("", "").Next, "_")
		s.stop()
		db, err := server.OpenDatabase(t.Context(), s.config, nil)
		if err != nil {
			t.Fatal(err)
		}
		kinds := store.Kept()
		epochs := kinds[slices.IndexFunc(kinds, func(one *table.Schema) bool { return one.Name == "epochs" })]
		if err := db.Update(t.Context(), func(tx table.Tx) error {
			var all [][]any
			for row, err := range tx.Scan(epochs, table.Range{}) {
				if err != nil {
					return err
				}
				all = append(all, row[:1])
			}
			for _, key := range all {
				if err := tx.Delete(epochs, key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		s.start()
		if got := anne.sync(old, "timeout=0"); len(got.Rooms.Join) != 0 || got.Next != old {
			t.Errorf("%+v", got)
		}
		anne.sendAll(room, "new", 3)
		got := anne.sync(old, "")
		if b := bodies(got.Rooms.Join[room].Timeline.Events); !slices.Equal(b, numbered("new", 3)) {
			t.Errorf("%q", b)
		}
		later, _, _ := strings.Cut(got.Next, "_") // no program wrote that
		if b := bodies(anne.sync(later, "").Rooms.Join[room].Timeline.Events); len(b) != 4 {
			t.Errorf("%q", b)
		}
	})
}

package server_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"modernc.org/sqlite"

	"orrery/internal/testenv"
	"orrery/matrix/server"
	"orrery/matrix/store"
)

// file is the database's, of a server on SQLite or Pebble.
func (s *site) file() string {
	_, name, _ := strings.Cut(s.config.Database, ":")
	return filepath.Join(s.dir, name)
}

// onSQLite runs a function with a connection of SQLite's own to the database of a server that runs.
func (s *site) onSQLite(f func(*sql.Conn) error) {
	s.t.Helper()
	db, err := sql.Open("sqlite", s.file()+"?_pragma=busy_timeout(60000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(s.t.Context())
	if err == nil {
		err = errors.Join(f(conn), conn.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// vacuumed is a copy of the file of a database of SQLite, of a server that runs.
func (s *site) vacuumed() string {
	s.t.Helper()
	to := s.file() + rand.Text()
	s.onSQLite(func(c *sql.Conn) error {
		_, err := c.ExecContext(s.t.Context(), "VACUUM INTO '"+to+"'")
		return err
	})
	return to
}

// swapped puts something in the place of a file or folder, which is moved away; nothing if it is "".
func swapped(t *testing.T, path, by string) {
	t.Helper()
	err := os.Rename(path, path+".old")
	if by != "" {
		err = errors.Join(err, os.Rename(by, path))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// postgresTables runs statements for each table that is kept, in one transaction of PostgreSQL.
func (s *site) postgresTables(first string, each ...string) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.config.Database)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) }()
	if err := pgx.BeginFunc(s.t.Context(), conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(s.t.Context(), first)
		for _, kind := range store.Kept() {
			for _, text := range each {
				if err == nil {
					_, err = tx.Exec(s.t.Context(), strings.ReplaceAll(text, "TABLE_", `"`+kind.Name+`"`))
				}
			}
		}
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
}

// recreated puts an empty database of PostgreSQL in the place of a server's, which is cut off.
func (s *site) recreated() {
	s.t.Helper()
	u, err := url.Parse(s.config.Database)
	if err != nil {
		s.t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	u.Path = "/postgres"
	conn, err := pgx.Connect(s.t.Context(), u.String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) }()
	for _, text := range []string{
		fmt.Sprintf(`ALTER DATABASE %q ALLOW_CONNECTIONS false`, name), fmt.Sprintf(`DROP DATABASE %q WITH (FORCE)`, name),
		fmt.Sprintf(`CREATE DATABASE %q ENCODING 'UTF8' TEMPLATE template0`, name),
	} {
		if _, err := conn.Exec(s.t.Context(), text); err != nil {
			s.t.Fatal(err)
		}
	}
}

// replacements are ways in which a database is replaced beneath a server that runs: each makes a snapshot and returns how it is put in its place.
var replacements = map[string]struct {
	database string
	empty    bool // nothing is there afterwards
	prepare  func(s *site) func()
}{
	"SQLite, another file": {"SQLite", false, func(s *site) func() {
		snapshot := s.vacuumed()
		return func() { swapped(s.t, s.file(), snapshot) }
	}},
	"SQLite, no file": {"SQLite", true, func(s *site) func() { return func() { swapped(s.t, s.file(), "") } }},
	"SQLite, restored": {"SQLite", false, func(s *site) func() {
		snapshot := s.vacuumed()
		return func() {
			s.onSQLite(func(c *sql.Conn) error {
				return c.Raw(func(driver any) error {
					restore, ok := driver.(interface {
						NewRestore(from string) (*sqlite.Backup, error)
					})
					if !ok {
						return errors.New("the driver restores nothing")
					}
					b, err := restore.NewRestore(snapshot)
					if err != nil {
						return err
					}
					_, err = b.Step(-1)
					return errors.Join(err, b.Finish())
				})
			})
		}
	}},
	"Pebble, another folder": {"Pebble", false, func(s *site) func() {
		s.stop()
		_, snapshot, _ := strings.Cut(s.snapshot(), ":")
		s.start()
		return func() { swapped(s.t, s.file(), filepath.Join(s.dir, snapshot)) }
	}},
	"PostgreSQL, restored": {"PostgreSQL", false, func(s *site) func() {
		s.postgresTables("CREATE SCHEMA snapshot", "CREATE TABLE snapshot.TABLE_ AS TABLE TABLE_")
		return func() {
			s.postgresTables("SELECT 1", "DELETE FROM TABLE_", "INSERT INTO TABLE_ SELECT * FROM snapshot.TABLE_")
		}
	}},
	"PostgreSQL, another database": {"PostgreSQL", true, func(s *site) func() { return s.recreated }},
}

// ends waits until nothing is served.
func (s *site) ends() {
	s.t.Helper()
	anybody := &client{site: s}
	testenv.Eventually(s.t, "nothing is served", func() bool {
		status, _ := anybody.request(s.t.Context(), "GET", "/_matrix/client/versions", nil)
		return status == http.StatusServiceUnavailable
	})
}

// TestReplacedBeneath: a server whose database is replaced while it runs serves nothing any more. What it acknowledged is in the database of before, and
// nothing is in the other one but what was there; started again it serves from that.
func TestReplacedBeneath(t *testing.T) {
	for name, way := range replacements {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, databases[way.database](t))
			anne := s.register("anne")
			room := anne.create(object{})
			anne.send(room, "1", "kept")
			replace := way.prepare(s)
			anne.sendAll(room, "lost", 3)
			lost := anne.sync("", "").Next
			var begin sync.Once
			begun := make(chan struct{})
			var replaced atomic.Bool
			var senders sync.WaitGroup
			for i := range 4 {
				senders.Go(func() {
					for n := 0; ; n++ {
						late := replaced.Load()
						status, text := anne.request(t.Context(), "PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%d-%d", url.PathEscape(room), i, n), object{"msgtype": "m.text", "body": "mixed"})
						begin.Do(func() { close(begun) })
						switch {
						case late && status != http.StatusServiceUnavailable, status != http.StatusOK && status != http.StatusServiceUnavailable:
							t.Errorf("%d %s", status, text)
							return
						case late:
							return
						}
					}
				})
			}
			<-begun
			replace()
			replaced.Store(true)
			senders.Wait()
			s.ends()
			for path, method := range map[string]string{"createRoom": "POST", "sync?since=" + lost: "GET", "account/whoami": "GET", "rooms/" + url.PathEscape(room) + "/messages?dir=b": "GET", "/_matrix/client/versions": "GET"} {
				anne.refused(http.StatusServiceUnavailable, "M_UNKNOWN", method, path, nil)
			}
			s.stop()
			s.start()
			if way.empty {
				s.register("anne") // nobody has that name
				return
			}
			if got := anne.texts(room); !slices.Equal(got, []string{"kept"}) {
				t.Errorf("%q", got)
			}
			anne.send(room, "2", "new")
			if got := anne.sync(lost, whole).Rooms.Join[room].Timeline; !got.Limited || !slices.Equal(bodies(got.Events), []string{"kept", "new"}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestReplacedBeneathReaders: it is noticed also if nobody writes.
func TestReplacedBeneathReaders(t *testing.T) {
	for name, way := range replacements {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, databases[way.database](t))
			anne := s.register("anne")
			replace := way.prepare(s)
			anne.create(object{}) // what is written after the snapshot
			replace()
			s.ends()
		})
	}
}

// TestTwoServers: of two servers that serve from one database the one that was started later goes on; a command beside a server disturbs nobody.
func TestTwoServers(t *testing.T) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, databases[name](t))
			anne := s.register("anne")
			room := anne.create(object{})
			due := anne.later("rooms/"+room+"/send/m.room.message/0", 3_600_000, object{"body": "later"})
			command := *s.config
			command.Command = true
			command.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
			beside, err := server.Open(t.Context(), &command, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, user := range []string{"bob", "carl"} {
				if _, err := beside.Accounts.Create(t.Context(), user, "pw", false, false); err != nil {
					t.Fatal(err)
				}
			}
			if err := beside.Close(); err != nil {
				t.Fatal(err)
			}
			if got := anne.waiting(); !slices.Equal(got, []string{due}) {
				t.Errorf("a command sent what the server is to send: %q", got)
			}
			anne.send(room, "1", "first")
			other := &site{t: t, dir: s.dir, config: s.config}
			other.start()
			defer other.stop()
			there := &client{site: other, user: anne.user, token: anne.token}
			there.send(room, "2", "second")
			anne.refused(http.StatusServiceUnavailable, "M_UNKNOWN", "PUT", "rooms/"+url.PathEscape(room)+"/send/m.room.message/3", object{"body": "third"})
			there.send(room, "4", "fourth")
			if got := there.texts(room); !slices.Equal(got, []string{"first", "second", "fourth"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

package server_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"orrery/internal/testenv"
)

// texts are the messages of a room, oldest first.
func (c *client) texts(room string) []string {
	c.t.Helper()
	var page struct{ Chunk []clientEvent }
	c.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/messages?dir=f&limit=1000&from=s0", nil, &page)
	return bodies(page.Chunk)
}

// TestDatabaseGone: while the database is away requests are answered by 503; when it is back they are answered as before.
func TestDatabaseGone(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *testenv.Postgres){
		"stopped": func(t *testing.T, p *testenv.Postgres) { t.Helper(); p.Stop(t) },
		"killed":  func(t *testing.T, p *testenv.Postgres) { t.Helper(); p.Kill(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, database := durable(t)
			s := newSite(t, database)
			anne := s.register("anne")
			room := anne.create(object{})
			anne.send(room, "1", "before")
			since := anne.sync("", "").Next
			end(t, p)
			for range 3 {
				anne.refused(http.StatusServiceUnavailable, "M_UNKNOWN", "PUT", "rooms/"+room+"/send/m.room.message/2", object{"body": "never"})
				anne.refused(http.StatusServiceUnavailable, "M_UNKNOWN", "GET", "rooms/"+room+"/messages?dir=f", nil)
				anne.refused(http.StatusServiceUnavailable, "M_UNKNOWN", "GET", "profile/"+anne.user, nil)
				anne.refused(http.StatusServiceUnavailable, "M_UNKNOWN", "POST", "login", object{"type": "m.login.password", "user": "anne", "password": "pw-anne"})
			}
			p.Start(t)
			testenv.Eventually(t, "the server sends again", func() bool {
				status, _ := anne.request(t.Context(), "PUT", "rooms/"+room+"/send/m.room.message/3", object{"msgtype": "m.text", "body": "after"})
				return status == http.StatusOK
			})
			for range 8 { // each of the connections
				anne.do("GET", "profile/"+anne.user, nil)
			}
			if got := bodies(anne.sync(since, "").Rooms.Join[room].Timeline.Events); !slices.Equal(got, []string{"after"}) {
				t.Errorf("%q", got)
			}
			if got := anne.texts(room); !slices.Equal(got, []string{"before", "after"}) {
				t.Errorf("%q", got)
			}
		})
	}
}

// durable is a database of a server of the test's own, which keeps what it commits, also when it is killed. It is reached by a socket: a port could be somebody
// else's when the server comes back.
func durable(t *testing.T) (*testenv.Postgres, string) {
	t.Helper()
	p := testenv.OwnPostgreSQL(t, "")
	at := p.NewDatabase(t, "")
	conn, err := pgx.Connect(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"synchronous_commit = on", "listen_addresses = ''"} {
		if _, err := conn.Exec(t.Context(), "ALTER SYSTEM SET "+change); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Stop(t)
	p.Start(t)
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.RawQuery = "", url.Values{"host": {p.SocketDir}, "port": {strconv.Itoa(p.Port)}}.Encode()
	return p, u.String()
}

// TestDatabaseKilled: what was sent while the database was killed is there once when it is back, in memory as in the database, whether the database had
// committed it or not.
func TestDatabaseKilled(t *testing.T) {
	const senders, rounds, each = 4, 4, 20
	p, database := durable(t)
	s := newSite(t, database)
	anne := s.register("anne")
	room := anne.create(object{})
	since := anne.sync("", "").Next
	var done sync.WaitGroup
	var acked atomic.Int64
	ids := make([][]string, senders)
	for i := range senders {
		done.Go(func() {
			for n := range rounds * each { // until it is acknowledged
				for {
					status, text := anne.request(t.Context(), "PUT", fmt.Sprintf("rooms/%s/send/m.room.message/%d-%d", url.PathEscape(room), i, n), object{"msgtype": "m.text", "body": "x"})
					if status == http.StatusOK {
						var out struct {
							ID string `json:"event_id"`
						}
						if err := json.Unmarshal(text, &out); err != nil {
							t.Error(err)
						}
						ids[i] = append(ids[i], out.ID)
						break
					}
					if status != http.StatusServiceUnavailable {
						t.Errorf("%d %s", status, text)
						return
					}
				}
				acked.Add(1)
			}
		})
	}
	for round := range rounds - 1 {
		testenv.Eventually(t, "some are sent", func() bool { return acked.Load() > int64(round*senders*each) })
		p.Kill(t)
		p.Start(t)
	}
	done.Wait()
	got := anne.sync(since, "filter="+url.QueryEscape(`{"room":{"timeline":{"limit":100}}}`)).Rooms.Join[room].Timeline.Events
	var page struct{ Chunk []clientEvent }
	anne.want(http.StatusOK, "GET", "rooms/"+url.PathEscape(room)+"/messages?dir=f&limit=1000&from="+since, nil, &page)
	find := func(id string) int {
		return slices.IndexFunc(page.Chunk, func(e clientEvent) bool { return e.ID == id })
	}
	for i := range ids {
		if !slices.IsSortedFunc(ids[i], func(a, b string) int { return cmp.Compare(find(a), find(b)) }) || find(ids[i][0]) < 0 {
			t.Errorf("what sender %d sent is not there, or not in order", i)
		}
	}
	if len(page.Chunk) != senders*rounds*each {
		t.Errorf("%d events, not %d", len(page.Chunk), senders*rounds*each)
	}
	if n := len(got); n == 0 || !slices.EqualFunc(got, page.Chunk[len(page.Chunk)-n:], func(a, b clientEvent) bool { return a.ID == b.ID }) {
		t.Errorf("/sync has other events: %d", n)
	}
}

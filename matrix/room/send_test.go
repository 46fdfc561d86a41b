package room_test

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/signature"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/sqldb"
)

// site is the rooms of a server in a database.
func site(tb testing.TB, db table.DB) *room.Rooms {
	tb.Helper()
	if err := store.Open(tb.Context(), db); err != nil {
		tb.Fatal(err)
	}
	stream, err := store.NewStream(tb.Context(), db)
	if err != nil {
		tb.Fatal(err)
	}
	return room.New(room.Config{Stream: stream, Server: "a.test", Key: signature.Key{ID: "ed25519:1", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}, Now: time.Now})
}

func member(user string) room.Draft {
	return room.Draft{Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(matrix.Join)})}
}

// crowded is a room of some members, of whom the first made it.
func crowded(tb testing.TB, rooms *room.Rooms, version string, members int) *room.Room {
	tb.Helper()
	v, err := matrix.FindVersion(version)
	if err != nil {
		tb.Fatal(err)
	}
	first := "@u0:a.test"
	create := canonical.Of(canonical.Member{Name: "room_version", Value: canonical.Text(v.ID)}, canonical.Member{Name: "creator", Value: canonical.Text(first)})
	rule := canonical.Of(canonical.Member{Name: "join_rule", Value: canonical.Text("public")})
	r, err := rooms.Create(tb.Context(), v, func(turn *room.Turn) error {
		drafts := []room.Draft{{Type: matrix.TypeCreate, Sender: first, StateKey: new(string), Content: create}, member(first), {Type: matrix.TypeJoinRules, Sender: first, StateKey: new(string), Content: rule}}
		for i := 1; i < members; i++ {
			drafts = append(drafts, member(fmt.Sprintf("@u%d:a.test", i)))
		}
		for _, d := range drafts {
			if _, err := turn.Send(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func message(i int) room.Draft {
	return room.Draft{
		Type: "m.room.message", Sender: fmt.Sprintf("@u%d:a.test", i%2), TxnID: fmt.Sprint("DEVICE ", i),
		Content: canonical.Of(canonical.Member{Name: "msgtype", Value: canonical.Text("m.text")}, canonical.Member{Name: "body", Value: canonical.Text("forty-three characters of text in a message")}),
	}
}

// TestJoined: members are those whose event says so, however they came and went, also after a start.
func TestJoined(t *testing.T) {
	db, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rooms := site(t, db)
	r := crowded(t, rooms, matrix.DefaultVersion, 5)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		user := fmt.Sprintf("@u%d:a.test", chance.IntN(8))
		is := matrix.Join
		if r.Membership(user) == matrix.Join {
			is = matrix.Leave
		}
		if err := r.Do(t.Context(), func(turn *room.Turn) error {
			_, err := turn.Send(room.Draft{Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(is)})})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, e := range r.States(matrix.TypeMember) {
			if who, _ := e.StateKey(); e.Membership() == matrix.Join {
				want = append(want, who)
			}
		}
		slices.Sort(want)
		got := r.Joined()
		if !slices.Equal(got, want) || r.Size() != len(want) {
			t.Fatalf("%q, not %q", got, want)
		}
		_ = append(got, "somebody")
	}
	again, err := site(t, db).Find(t.Context(), r.ID())
	if err != nil || !slices.Equal(again.Joined(), r.Joined()) {
		t.Error(again.Joined(), err)
	}
}

// TestEnds: the next event comes after those that have none after them, whether the store has them as rows, as older programs wrote them and forks need them, or not.
func TestEnds(t *testing.T) {
	for _, version := range []string{"2", matrix.DefaultVersion} {
		db, err := pebbledb.Open(pebbledb.Config{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		id := crowded(t, site(t, db), version, 2).ID()
		var sent []*room.Entry
		for i, rows := range [][]int{nil, nil, {1}, {2}, {2, 4}, nil, {6}} { // which of those that were sent are made rows, the newest being 1
			r, err := site(t, db).Find(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if err := db.Update(t.Context(), func(tx table.Tx) error {
				for _, row := range rows {
					e := sent[len(sent)-row]
					want = append(want, e.ID())
					if err := store.Extremities.Put(tx, store.Extremity{Room: r.Number(), EventID: e.ID(), Hash: e.Ref().Hash, Depth: e.Depth()}); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if r, err = site(t, db).Find(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if rows == nil {
				last, _, err := r.Timeline(t.Context(), 0, r.Last(), 1)
				if err != nil {
					t.Fatal(err)
				}
				want = []string{last[0].ID()}
			}
			for n := range 2 {
				var made *room.Entry
				if err := r.Do(t.Context(), func(turn *room.Turn) (err error) {
					made, err = turn.Send(message(10*i + n))
					return err
				}); err != nil {
					t.Fatal(err)
				}
				slices.Sort(want)
				if got := slices.Sorted(slices.Values(made.Prev())); !slices.Equal(got, want) {
					t.Errorf("version %s, step %d: after %q, not %q", version, i, got, want)
				}
				sent, want = append(sent, made), []string{made.ID()}
			}
			if err := db.View(t.Context(), func(tx table.Tx) error {
				all, err := store.Extremities.All(tx, table.Range{})
				if len(all) > 0 {
					t.Errorf("version %s, step %d: %v stay", version, i, all)
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// BenchmarkSend is a message of one sender into a room of 50 in SQLite, without HTTP.
func BenchmarkSend(b *testing.B) {
	db, err := sqldb.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	r := crowded(b, site(b, db), matrix.DefaultVersion, 50)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if err := r.Do(b.Context(), func(turn *room.Turn) error {
			_, err := turn.Send(message(i))
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
}

package sync_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	gosync "sync"
	"testing"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/keys"
	"orrery/matrix/room"
	"orrery/matrix/signature"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/watch"
)

// lossy is a database that can be lost in an update: after it has committed, before, or so that the commit comes later, with the next one.
type lossy struct {
	table.DB

	losing

	mu gosync.Mutex // guards what is lost
}

// losing is what is to be lost.
type losing struct {
	lose string
	late func(table.Tx) error
	lost func() // is called before the loss is told
}

func (l *lossy) take() losing {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.losing
	l.lose, l.late = "", nil
	return now
}

func (l *lossy) Update(ctx context.Context, f func(table.Tx) error) error {
	now := l.take()
	if now.late != nil {
		_ = l.DB.Update(ctx, now.late) // it may have nothing to do any more
	}
	if now.lost != nil && now.lose != "" {
		defer now.lost()
	}
	lost := fmt.Errorf("%w: the connection is lost", table.ErrUnavailable)
	switch now.lose {
	case "after":
		return errors.Join(l.DB.Update(ctx, f), lost)
	case "before", "late":
		if now.lose == "late" {
			l.mu.Lock()
			l.late = f
			l.mu.Unlock()
		}
		return errors.Join(lost, l.DB.Update(ctx, func(tx table.Tx) error { return errors.Join(f(tx), lost) }))
	}
	return l.DB.Update(ctx, f)
}

// house is a server's rooms, keys and answers, over a database.
type house struct {
	t      testing.TB
	lossy  *lossy
	db     *watch.DB
	stream *store.Stream
	rooms  *room.Rooms
	syncer *sync.Syncer
	keys   *keys.Keys
}

func newHouse(tb testing.TB) *house {
	tb.Helper()
	memory, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = memory.Close() })
	h := &house{t: tb, lossy: &lossy{DB: memory}}
	if err := store.Open(tb.Context(), h.lossy); err != nil {
		tb.Fatal(err)
	}
	h.start()
	return h
}

// start is a start of the server: it knows nothing but what the database has.
func (h *house) start() {
	h.t.Helper()
	h.db = watch.New(h.lossy)
	var err error
	if h.stream, err = store.NewStream(h.t.Context(), h.db); err != nil {
		h.t.Fatal(err)
	}
	h.syncer = sync.New(h.stream, h.db)
	h.rooms = h.newRooms(h.syncer)
	h.keys = keys.New(h.stream, h.syncer)
}

func (h *house) newRooms(s *sync.Syncer) *room.Rooms {
	rooms := room.New(room.Config{
		Stream: h.stream, Server: "a.test", Key: signature.Key{ID: "ed25519:1", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}, Now: time.Now,
		Committed: s.Committed, Watch: s.Watch,
	})
	s.Serve(rooms)
	return rooms
}

// fresh answers with nothing in memory.
func (h *house) fresh() *sync.Syncer {
	s := sync.New(h.stream, watch.New(h.lossy))
	h.newRooms(s)
	return s
}

func object(of ...any) canonical.Value {
	v := canonical.Of()
	for i := 0; i < len(of); i += 2 {
		name, _ := of[i].(string)
		switch x := of[i+1].(type) {
		case string:
			v = v.With(name, canonical.Text(x))
		case canonical.Value:
			v = v.With(name, x)
		}
	}
	return v
}

func member(who, is string) room.Draft {
	return room.Draft{Type: matrix.TypeMember, Sender: who, StateKey: &who, Content: object("membership", is)}
}

func state(who, kind string, content canonical.Value) room.Draft {
	return room.Draft{Type: kind, Sender: who, StateKey: new(string), Content: content}
}

// create makes a public room.
func (h *house) create(who string) *room.Room {
	h.t.Helper()
	version, err := matrix.FindVersion(matrix.DefaultVersion)
	if err != nil {
		h.t.Fatal(err)
	}
	r, err := h.rooms.Create(h.t.Context(), version, func(turn *room.Turn) error {
		for _, d := range []room.Draft{
			state(who, matrix.TypeCreate, object("room_version", version.ID)), member(who, matrix.Join),
			state(who, matrix.TypeJoinRules, object("join_rule", "public")), state(who, matrix.TypeHistoryVisibility, object("history_visibility", "shared")),
		} {
			if _, err := turn.Send(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// send sends an event; one that the room's rules do not allow is left out.
func (h *house) send(id string, d room.Draft) *room.Entry {
	r, err := h.rooms.Find(h.t.Context(), id)
	if err != nil {
		return nil
	}
	var sent *room.Entry
	if err := r.Do(h.t.Context(), func(turn *room.Turn) (err error) {
		if sent, err = turn.Send(d); err != nil || d.Redacts == "" {
			return err
		}
		what, err := r.Event(h.t.Context(), d.Redacts)
		if err == nil && what.Redacted == "" {
			turn.Redact(sent, what)
		}
		return err
	}); err != nil {
		return nil
	}
	return sent
}

// data sets account data.
func (h *house) data(user, roomID, kind, text string) {
	_ = h.stream.Update(h.t.Context(), func(tx table.Tx, advance func(int) (int64, error)) error {
		position, err := advance(1)
		if err != nil {
			return err
		}
		return store.AllAccountData.Put(tx, store.AccountData{User: user, Room: roomID, Type: kind, Position: position, JSON: []byte(text)})
	}, nil)
}

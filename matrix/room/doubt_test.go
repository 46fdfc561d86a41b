package room_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/signature"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
)

// lossy is a database whose connection is lost right after a commit.
type lossy struct {
	table.DB

	lose bool
}

func (l *lossy) Update(ctx context.Context, f func(table.Tx) error) error {
	if err := l.DB.Update(ctx, f); err != nil || !l.lose {
		return err
	}
	l.lose = false
	return fmt.Errorf("%w: the connection is lost", table.ErrUnavailable)
}

// TestCommitInDoubt: what was committed without anybody getting to know is in the room, and those who watch are told.
func TestCommitInDoubt(t *testing.T) {
	memory, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	db := &lossy{DB: memory}
	defer func() { _ = db.Close() }()
	if err := store.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	stream, err := store.NewStream(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	var watched []string
	rooms := room.New(room.Config{
		Stream: stream, Server: "a.test", Key: signature.Key{ID: "ed25519:1", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}, Now: time.Now,
		Watch: func(_ *room.Room, events []*room.Entry) {
			for _, e := range events {
				watched = append(watched, e.Type())
			}
		},
	})
	version, err := matrix.FindVersion(matrix.DefaultVersion)
	if err != nil {
		t.Fatal(err)
	}
	const anne = "@anne:a.test"
	send := func(r *room.Room, kind string) error {
		return r.Do(t.Context(), func(turn *room.Turn) error {
			_, err := turn.Send(room.Draft{Type: kind, Sender: anne, StateKey: new(string), Content: canonical.Of()})
			return err
		})
	}
	r, err := rooms.Create(t.Context(), version, func(turn *room.Turn) error {
		who := anne
		content := canonical.Of(canonical.Member{Name: "room_version", Value: canonical.Text(version.ID)})
		if _, err := turn.Send(room.Draft{Type: matrix.TypeCreate, Sender: who, StateKey: new(string), Content: content}); err != nil {
			return err
		}
		_, err := turn.Send(room.Draft{Type: matrix.TypeMember, Sender: who, StateKey: &who, Content: canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(matrix.Join)})})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	db.lose = true
	if err := send(r, "lost"); !errors.Is(err, table.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := rooms.Find(t.Context(), r.ID()); err != nil {
		t.Fatal(err)
	}
	if r.State(matrix.Key{Type: "lost"}) == nil || stream.Current() != r.Last() || watched[len(watched)-1] != "lost" {
		t.Errorf("position %d of %d, watched %q", stream.Current(), r.Last(), watched)
	}
	if err := send(r, "next"); err != nil {
		t.Fatal(err)
	}
	read, err := room.New(room.Config{Stream: stream, Server: "a.test"}).Find(t.Context(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	next := read.State(matrix.Key{Type: "next"})
	if read.State(matrix.Key{Type: "lost"}) == nil || next == nil || next.Depth() != r.State(matrix.Key{Type: "lost"}).Depth()+1 {
		t.Error("the store has another room")
	}
}

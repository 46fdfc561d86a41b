package sync

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"orrery/matrix/room"
	"orrery/matrix/table"
)

// typing is who types in a room (clause client-server API, typing notifications).
type typing struct {
	until    map[string]*time.Timer // by user, which ends it
	position int64
}

func (t *typing) event() json.RawMessage {
	who := slices.Sorted(maps.Keys(t.until))
	if who == nil {
		who = []string{}
	}
	text, _ := json.Marshal(map[string]any{"type": "m.typing", "content": map[string]any{"user_ids": who}})
	return text
}

// Type notes that a user types in a room for some time, or with 0 no more, and tells the members.
func (s *Syncer) Type(ctx context.Context, r *room.Room, user string, lasts time.Duration) error {
	e, err := s.ephemeral(ctx, r.ID())
	if err != nil {
		return err
	}
	e.mu.Lock()
	old, typed := e.typing.until[user]
	if typed {
		old.Stop()
		delete(e.typing.until, user)
	}
	if lasts > 0 {
		if e.typing.until == nil {
			e.typing.until = map[string]*time.Timer{}
		}
		after := context.WithoutCancel(ctx)
		e.typing.until[user] = time.AfterFunc(lasts, func() { _ = s.Type(after, r, user, 0) }) // a failure is repaired by the next change
	}
	e.mu.Unlock()
	if typed == (lasts > 0) {
		return nil // nothing to tell
	}
	var position int64
	err = s.stream.Update(ctx, func(_ table.Tx, advance func(int) (int64, error)) (err error) {
		position, err = advance(1)
		return err
	}, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.typing.position = max(e.typing.position, position)
		e.last = max(e.last, position)
	})
	s.WakeRoom(r)
	if s.follower != nil && err == nil {
		e.mu.Lock()
		event := e.typing.event()
		e.mu.Unlock()
		s.follower.Typing(ctx, r, event)
	}
	return err
}

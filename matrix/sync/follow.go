package sync

import (
	"context"
	"encoding/json"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Follower is told of what passes by besides events, for programs that are no clients. It must not wait.
type Follower interface {
	// Typing is told who types in a room, as an event.
	Typing(ctx context.Context, r *room.Room, event json.RawMessage)
	// Receipt is told of a receipt in the update that keeps it, Received after it was committed.
	Receipt(tx table.Tx, r *room.Room, receipt store.Receipt) error
	Received(ctx context.Context, r *room.Room)
	// Presence is told who came or went, as an event.
	Presence(ctx context.Context, user string, event json.RawMessage)
	// Devices is told that a user's devices or keys may have changed.
	Devices(user string)
}

// Follow lets somebody follow. It must be called before the first request.
func (s *Syncer) Follow(f Follower) { s.follower = f }

// followPresence tells the follower of a user's presence.
func (s *Syncer) followPresence(ctx context.Context, user string) {
	if s.follower == nil {
		return
	}
	if text, err := json.Marshal(map[string]any{"type": "m.presence", "sender": user, "content": s.presenceOf(user, s.now())}); err == nil {
		s.follower.Presence(ctx, user, text)
	}
}

// JoinedRooms are the rooms of which a user is a member.
func (s *Syncer) JoinedRooms(ctx context.Context, user string) (all []*room.Room, err error) {
	memberships, err := s.user(ctx, user)
	if err != nil {
		return nil, err
	}
	for id, m := range memberships {
		if m.is != matrix.Join {
			continue
		}
		r, err := s.rooms.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// ReceiptsOf are receipts of a room as an event that names it.
func ReceiptsOf(roomID string, all []store.Receipt) json.RawMessage {
	return WithRoom(receiptEvent(all), roomID)
}

// WithRoom is an event that names its room.
func WithRoom(event json.RawMessage, roomID string) json.RawMessage {
	name, _ := json.Marshal(roomID)
	return append(append([]byte(`{"room_id":`), name...), append([]byte{','}, event[1:]...)...)
}

package room

import (
	"context"

	"orrery/matrix"
)

// visibility is the event that says who may read a room's history.
var visibility = matrix.Key{Type: matrix.TypeHistoryVisibility}

// Visible are those of a room's events that a user may read (clause client-server API, room history visibility).
func (r *Room) Visible(ctx context.Context, user string, events []*Entry) ([]*Entry, error) {
	var found []*Entry
	for _, e := range events {
		ok, err := r.visible(ctx, user, e)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if e, err = r.erased(ctx, user, e); err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, nil
}

// erased is an event as it is, or redacted if its sender wanted to be forgotten and the reader was no member then.
func (r *Room) erased(ctx context.Context, user string, e *Entry) (*Entry, error) {
	if erased, err := r.rooms.c.Erased(ctx, e.Sender()); err != nil || !erased {
		return e, err
	}
	m, err := r.After(ctx, e, matrix.Key{Type: matrix.TypeMember, StateKey: user})
	if err != nil || m != nil && m.Membership() == matrix.Join {
		return e, err
	}
	redacted := *e
	redacted.Event = e.Event.Redacted()
	return &redacted, nil
}

func (r *Room) visible(ctx context.Context, user string, e *Entry) (bool, error) {
	now := r.Membership(user)
	rule := "shared"
	switch set := r.State(visibility); {
	case set == nil:
	case set.Order <= e.Order: // it was in force already
		rule = set.Content().Get("history_visibility").String()
	default:
		at, err := r.After(ctx, e, visibility)
		if err != nil {
			return false, err
		}
		if at != nil {
			rule = at.Content().Get("history_visibility").String()
		}
	}
	if rule == "world_readable" || rule != "invited" && rule != matrix.Join+"ed" && now == matrix.Join {
		return true, nil
	}
	m, err := r.After(ctx, e, matrix.Key{Type: matrix.TypeMember, StateKey: user})
	if err != nil {
		return false, err
	}
	then := ""
	if m != nil {
		then = m.Membership()
	}
	if key, isState := e.StateKey(); isState && e.Type() == matrix.TypeMember && key == user { // one sees oneself come and go
		return true, nil
	}
	return then == matrix.Join || rule == "invited" && then == matrix.Invite, nil
}

package api

import (
	"encoding/json"
	"net/http"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

func (a *API) stateRoutes() {
	a.in("GET rooms/{room}/state", func(q *request) (any, error) {
		_, all, err := a.stateFor(q)
		if err != nil {
			return nil, err
		}
		list := []json.RawMessage{}
		for _, e := range all {
			list = append(list, sync.Client(e, q.login.User, q.login.Device, true))
		}
		return list, nil
	})
	for _, path := range []string{"rooms/{room}/state/{type}", "rooms/{room}/state/{type}/{key}", "rooms/{room}/state/{type}/{$}"} {
		a.in("GET "+path, a.getState)
		a.in("PUT "+path, a.putState)
	}
}

// stateFor is a room's state for a user: the current one for members, for those who left the one when they did.
func (a *API) stateFor(q *request) (*room.Room, map[matrix.Key]*room.Entry, error) {
	r, err := a.readable(q)
	if err != nil {
		return nil, nil, err
	}
	m := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: q.login.User})
	if m != nil && (m.Membership() == matrix.Leave || m.Membership() == matrix.Ban) {
		if !r.WasJoined(q.Context(), q.login.User, m) {
			return nil, nil, forbidden("you never were a member of the room")
		}
		all, err := r.StateAt(q.Context(), m.After)
		return r, all, err
	}
	all := map[matrix.Key]*room.Entry{}
	for _, e := range r.States("") {
		all[e.Key()] = e
	}
	return r, all, nil
}

func (a *API) getState(q *request) (any, error) {
	_, all, err := a.stateFor(q)
	if err != nil {
		return nil, err
	}
	e := all[matrix.Key{Type: q.PathValue("type"), StateKey: q.PathValue("key")}]
	if e == nil {
		return nil, notFound("the room has no such state")
	}
	if q.URL.Query().Get("format") == "event" {
		return sync.Client(e, q.login.User, q.login.Device, true), nil
	}
	return json.RawMessage(e.Content().JSON()), nil
}

func (a *API) putState(q *request) (any, error) {
	r, content, err := a.content(q)
	if err != nil {
		return nil, err
	}
	kind, key := q.PathValue("type"), q.PathValue("key")
	if err := possible(r, kind, content); err != nil {
		return nil, err
	}
	if after, later, err := delay(q); later {
		if err != nil {
			return nil, err
		}
		return a.schedule(q, r, after, kind, &key, content)
	}
	ts, err := q.timestamp()
	if err != nil {
		return nil, err
	}
	if kind == canonicalAlias.Type {
		if err := a.checkAliases(q.Context(), r, content); err != nil {
			return nil, err
		}
	}
	if kind == matrix.TypeMember && content.Get("membership").String() == matrix.Invite {
		if err := a.invitable(q, key); err != nil {
			return nil, err
		}
	}
	var id string
	err = r.Do(q.Context(), func(t *room.Turn) error {
		if old := t.State(matrix.Key{Type: kind, StateKey: key}); old != nil && old.Sender() == q.login.User && old.Content().Equal(content) {
			id = old.ID() // nothing changes
			return errNothing
		}
		if kind == matrix.TypeMember && key == q.login.User {
			if err := a.mayReject(r, t, key, content.Get("membership").String()); err != nil {
				return err
			}
		}
		e, err := t.Send(room.Draft{Type: kind, Sender: q.login.User, StateKey: &key, Content: content, Time: ts})
		if err == nil {
			id = e.ID()
		}
		return err
	})
	if err == nil && kind == guestAccess.Type {
		err = a.dropGuests(q, r)
	}
	if err == nil && kind == typeTombstone {
		err = a.carryEnded(q.Context(), content)
	}
	return map[string]string{"event_id": id}, doneOr(err)
}

// possible is nil if there may be such a state of a room at all, whoever wants it (clause room version 12: creators have no entry among the levels).
func possible(r *room.Room, kind string, content canonical.Value) error {
	switch kind {
	case matrix.TypeCreate:
		return fail(http.StatusBadRequest, "M_BAD_STATE", "a room has one create event, with which it begins")
	case matrix.TypePowerLevels:
		levels := r.Levels()
		for user := range content.Get("users").Members {
			if levels.User(user) == auth.Infinite {
				return fail(http.StatusBadRequest, "M_BAD_STATE", user+" is a creator of the room, whose level cannot be set")
			}
		}
	}
	return nil
}

// members are the member events of a room, at some point if that is asked for (clause client-server API, GET members).
func (a *API) members(q *request) (any, error) {
	r, all, err := a.stateFor(q)
	if err != nil {
		return nil, err
	}
	query := q.URL.Query()
	if at := query.Get("at"); at != "" {
		position, holds, err := a.Syncer.ReadToken(at)
		if err != nil {
			return nil, err
		}
		if !holds {
			position = a.Stream.Current()
		}
		events, _, err := r.Timeline(q.Context(), 0, position, 1)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 { // before all that is known there is who came first
			if events, err = r.Page(q.Context(), table.Range{Limit: 2}); err != nil {
				return nil, err
			}
		}
		if all, err = r.StateAt(q.Context(), events[len(events)-1].After); err != nil {
			return nil, err
		}
	}
	chunk := []json.RawMessage{}
	for key, e := range all {
		is := e.Membership()
		if key.Type == matrix.TypeMember && (query.Get("membership") == "" || is == query.Get("membership")) && (query.Get("not_membership") == "" || is != query.Get("not_membership")) {
			chunk = append(chunk, sync.Client(e, q.login.User, q.login.Device, true))
		}
	}
	return map[string]any{"chunk": chunk}, nil
}

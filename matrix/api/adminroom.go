package api

import (
	"encoding/json"
	"net/http"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/admin"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// adminRooms are lists of rooms, and rooms.
func (a *API) adminRooms() {
	a.administer("GET v1/rooms", a.listRooms)
	a.administer("GET v1/rooms/{room}", func(q *request) (any, error) { return a.Admin.Room(q.Context(), q.PathValue("room")) })
	a.administer("GET v1/rooms/{room}/members", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		all := r.Joined()
		return map[string]any{"members": all, "total": len(all)}, nil
	})
	a.administer("GET v1/rooms/{room}/state", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		all := []json.RawMessage{}
		for _, e := range r.States("") {
			all = append(all, sync.Client(e, q.login.User, q.login.Device, true))
		}
		return map[string]any{"state": all}, nil
	})
	a.administer("GET v1/rooms/{room}/forward_extremities", a.ends)
	a.administer("GET v1/rooms/{room}/block", func(q *request) (any, error) {
		blocked, err := a.Admin.Blocked(q.Context(), q.PathValue("room"))
		return map[string]bool{"block": blocked}, err
	})
	a.administer("PUT v1/rooms/{room}/block", func(q *request) (any, error) {
		block, err := q.flag("block")
		if err != nil {
			return nil, err
		}
		return map[string]bool{"block": block}, a.Admin.Block(q.Context(), q.PathValue("room"), block)
	})
	a.administer("POST v1/rooms/{room}/make_room_admin", func(q *request) (any, error) {
		user, err := q.text("user_id")
		if err != nil {
			return nil, err
		}
		if user == "" {
			user = q.login.User
		}
		if err := matrix.ValidUser(user); err != nil {
			return nil, invalidParam(err.Error())
		}
		r, err := a.byName(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return empty, a.Admin.Empower(q.Context(), r.ID(), user)
	})
	a.administer("POST v1/join/{room}", a.adminJoin)
}

// adminJoin lets a user of this server join a room; into one that is not open to them the administrator, who must be there, invites them.
func (a *API) adminJoin(q *request) (any, error) {
	user, err := q.text("user_id")
	if err != nil {
		return nil, err
	}
	if _, err := a.Accounts.User(q.Context(), user); err != nil {
		return nil, err
	}
	r, err := a.byName(q.Context(), q.PathValue("room"))
	if err != nil {
		return nil, err
	}
	as := *q
	as.login, as.body = account.Login{User: user}, canonical.Of()
	rules := r.State(matrix.Key{Type: matrix.TypeJoinRules})
	open := rules != nil && rules.Content().Get("join_rule").String() == "public"
	if m := r.Membership(user); !open && m != matrix.Join && m != matrix.Invite {
		if err := r.Do(q.Context(), func(t *room.Turn) error {
			_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: q.login.User, StateKey: &user, Content: a.memberContent(&as, user, matrix.Invite)})
			return err
		}); err != nil {
			return nil, err
		}
	}
	return a.join(&as)
}

// roomOrders are what lists of rooms can be sorted by.
var roomOrders = map[string]string{
	"name": "name", "canonical_alias": "name", "joined_members": "members", "joined_local_members": "members", "version": "version", "state_events": "state", "creator": "creator",
}

// ends are the events of a room without events after them.
func (a *API) ends(q *request) (any, error) {
	r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
	if err != nil {
		return nil, err
	}
	ends, err := r.Ends(q.Context())
	all := make([]map[string]any, len(ends))
	for i, e := range ends {
		all[i] = map[string]any{"event_id": e.ID(), "depth": e.Depth(), "state_group": e.After, "received_ts": e.Timestamp()}
	}
	return map[string]any{"count": len(all), "results": all}, err
}

func (a *API) listRooms(q *request) (any, error) {
	query := q.URL.Query()
	from, limit, err := page(query)
	if err != nil {
		return nil, err
	}
	rooms, total, err := a.Admin.List(q.Context(), admin.RoomQuery{
		Search: query.Get("search_term"), Public: which(query, "public_rooms"), Empty: which(query, "empty_rooms"), Sort: roomOrders[query.Get("order_by")],
		Descending: query.Get("dir") == "b", From: from, Limit: limit,
	})
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"rooms": rooms, "offset": from, "total_rooms": total}
	if n, more := next(from, limit, total); more {
		answer["next_batch"] = n
	}
	if from > 0 {
		answer["prev_batch"] = max(0, from-limit)
	}
	return answer, nil
}

// adminDeletions take rooms away.
func (a *API) adminDeletions() {
	a.administer("DELETE v1/rooms/{room}", func(q *request) (any, error) {
		p, err := a.Admin.Delete(q.Context(), q.PathValue("room"), q.deletion())
		return viewShutdown(p), err
	})
	a.administer("DELETE v2/rooms/{room}", func(q *request) (any, error) {
		id, err := a.Admin.Begin(q.Context(), q.PathValue("room"), q.deletion())
		return map[string]string{"delete_id": id}, err
	})
	a.administer("GET v2/rooms/{one}/{other}", func(q *request) (any, error) { // delete_status/ID, or ROOM/delete_status
		switch one, other := q.PathValue("one"), q.PathValue("other"); {
		case one == "delete_status":
			if p, ok := a.Admin.Deletion(other); ok {
				return viewDeletion(p), nil
			}
			return nil, notFound("there is no such deletion")
		case other == "delete_status":
			return a.deletionsOf(one)
		}
		return nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "there is no such request")
	})
	a.administer("GET v1/scheduled_tasks", func(*request) (any, error) {
		all := []any{}
		for _, p := range a.Admin.Deletions() {
			one := map[string]any{"id": p.ID, "action": "shutdown_and_purge_room", "status": "active", "timestamp_ms": p.Begun, "resource_id": p.Room, "result": nil, "error": nil}
			if p.Status == admin.Complete || p.Status == admin.Failed {
				one["status"] = p.Status
			}
			if p.Why != "" {
				one["error"] = p.Why
			}
			all = append(all, one)
		}
		return map[string]any{"scheduled_tasks": all}, nil
	})
}

// deletionsOf are those of a room, the newest first.
func (a *API) deletionsOf(room string) (any, error) {
	all := []any{}
	for _, p := range a.Admin.Deletions() {
		if p.Room == room {
			all = append(all, viewDeletion(p))
		}
	}
	if len(all) == 0 {
		return nil, notFound("the room was not deleted since the server runs")
	}
	return map[string]any{"results": all}, nil
}

// deletion is what a request to delete a room asks for.
func (q *request) deletion() admin.Deletion {
	return admin.Deletion{Block: q.body.Get("block").IsTrue(), Purge: !q.body.Get("purge").IsFalse()}
}

func viewShutdown(p admin.Progress) map[string]any {
	return map[string]any{"kicked_users": p.Kicked, "failed_to_kick_users": []string{}, "local_aliases": []string{}, "new_room_id": nil}
}

func viewDeletion(p admin.Progress) map[string]any {
	v := map[string]any{"delete_id": p.ID, "room_id": p.Room, "status": p.Status, "shutdown_room": viewShutdown(p)}
	if p.Why != "" {
		v["error"] = p.Why
	}
	return v
}

// adminTimelines are what is said in rooms, of which an administrator need not be a member.
func (a *API) adminTimelines() {
	a.administer("GET v1/rooms/{room}/context/{event}", a.context)
	a.administer("GET v1/rooms/{room}/messages", a.messages)
	a.administer("GET v1/rooms/{room}/timestamp_to_event", a.eventAt)
	a.administer("GET v1/rooms/{room}/hierarchy", a.hierarchy)
	a.administer("GET v1/fetch_event/{event}", func(q *request) (any, error) {
		var in store.Room
		if err := a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
			e, ok, err := store.FindEvent(tx, q.PathValue("event"))
			if err == nil && ok {
				in, ok, err = store.Rooms.Get(tx, e.Room)
			}
			if err == nil && !ok {
				err = fail(http.StatusNotFound, "M_NOT_FOUND", "there is no such event")
			}
			return err
		}); err != nil {
			return nil, err
		}
		r, err := a.Rooms.Find(q.Context(), in.RoomID)
		if err != nil {
			return nil, err
		}
		e, err := r.Event(q.Context(), q.PathValue("event"))
		if err != nil {
			return nil, err
		}
		return map[string]any{"event": sync.Client(e, q.login.User, q.login.Device, true)}, nil
	})
}

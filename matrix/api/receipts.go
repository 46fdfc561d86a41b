package api

import (
	"time"

	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
)

const fullyRead = "m.fully_read"

// receiptRoutes say who has read what, and who types (clauses client-server API, receipts, read markers, typing notifications).
func (a *API) receiptRoutes() {
	a.in("POST rooms/{room}/receipt/{type}/{event}", func(q *request) (any, error) {
		r, err := a.member(q)
		if err != nil {
			return nil, err
		}
		thread := q.body.Get("thread_id")
		if thread.Kind() != canonical.None && thread.String() == "" {
			return nil, invalidParam("thread_id is not the id of an event, nor main")
		}
		return empty, a.receive(q, r, q.PathValue("type"), q.PathValue("event"), thread.String())
	})
	a.in("POST rooms/{room}/read_markers", func(q *request) (any, error) {
		r, err := a.member(q)
		if err != nil {
			return nil, err
		}
		for _, kind := range []string{fullyRead, sync.Read, sync.ReadPrivate} {
			if id := q.body.Get(kind).String(); id != "" {
				if err := a.receive(q, r, kind, id, ""); err != nil {
					return nil, err
				}
			}
		}
		return empty, nil
	})
	a.in("PUT rooms/{room}/typing/{user}", func(q *request) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		r, err := a.member(q)
		if err != nil {
			return nil, err
		}
		if !q.body.Get("typing").IsTrue() {
			return empty, a.Syncer.Type(q.Context(), r, q.login.User, 0)
		}
		ms, ok := q.body.Get("timeout").Int()
		if !ok || ms <= 0 {
			ms = 30_000
		}
		return empty, a.Syncer.Type(q.Context(), r, q.login.User, time.Duration(min(ms, 120_000))*time.Millisecond)
	})
}

func (a *API) receive(q *request, r *room.Room, kind, id, thread string) error {
	switch kind {
	case fullyRead:
		if thread != "" {
			return invalidParam("a read marker is of no thread")
		}
		return a.putData(q, r.ID(), fullyRead, object("event_id", id))
	case sync.Read, sync.ReadPrivate:
		e, err := r.Event(q.Context(), id)
		if err != nil {
			return err
		}
		defer a.Pushers.Wake(q.login.User) // less is unread
		return a.Syncer.Receive(q.Context(), r, store.Receipt{User: q.login.User, Type: kind, Thread: thread, EventID: id, Order: e.Order, Time: a.Now().UnixMilli()})
	}
	return invalidParam("there are no receipts of type " + kind)
}

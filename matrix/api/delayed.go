package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/delayed"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

const delayedPath = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"

// undelayed are types of events that are checked by more than the room's rules when they are sent, and so are sent at once only.
var undelayed = []string{matrix.TypeMember, matrix.TypeRedaction, canonicalAlias.Type, guestAccess.Type, typeTombstone}

// delayedRoutes are about events that are sent later, in the form in which clients use them (MSC4140). Those that change one need no login: whoever knows
// its id may.
func (a *API) delayedRoutes() {
	a.in("GET "+delayedPath, func(q *request) (any, error) {
		all, err := a.Delayed.Of(q.Context(), q.login.User)
		list := []delayedEvent{}
		for _, d := range all {
			list = append(list, showDelayed(d.DelayedEvent))
		}
		return map[string]any{"delayed_events": list}, err
	})
	a.in("GET "+delayedPath+"/{delayed}", func(q *request) (any, error) {
		d, became, err := a.Delayed.Find(q.Context(), q.login.User, q.PathValue("delayed"))
		if err != nil {
			return nil, err
		}
		e := showDelayed(d)
		if became != nil {
			e.EventID, e.Error, e.Time = became.EventID, became.Error, became.Time
		}
		return e, nil
	})
	a.open("POST "+delayedPath+"/{delayed}", func(q *request) (any, error) { return a.changeDelayed(q, q.body.Get("action").String()) })
	a.open("POST "+delayedPath+"/{delayed}/{action}", func(q *request) (any, error) { return a.changeDelayed(q, q.PathValue("action")) })
}

func (a *API) changeDelayed(q *request, action string) (any, error) {
	do := map[string]func(*request, string) error{
		"send":    func(q *request, id string) error { return a.Delayed.Send(q.Context(), id) },
		"cancel":  func(q *request, id string) error { return a.Delayed.Cancel(q.Context(), id) },
		"restart": func(q *request, id string) error { return a.Delayed.Restart(q.Context(), id) },
	}[action]
	if do == nil {
		return nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "there is no action "+action)
	}
	return empty, do(q, q.PathValue("delayed"))
}

// delayedEvent is one as clients see it.
type delayedEvent struct {
	ID       string          `json:"delay_id"`
	Room     string          `json:"room_id"`
	Type     string          `json:"type"`
	StateKey *string         `json:"state_key,omitempty"`
	Delay    int64           `json:"delay"`
	Since    int64           `json:"running_since"`
	Content  json.RawMessage `json:"content"`

	// Of one that is not to be sent any more:
	EventID string          `json:"event_id,omitempty"`         // it was sent
	Error   json.RawMessage `json:"error,omitempty"`            // it could not be
	Time    int64           `json:"origin_server_ts,omitempty"` // since when that is clear
}

func showDelayed(d store.DelayedEvent) delayedEvent {
	e := delayedEvent{ID: d.ID, Room: d.Room, Type: d.Type, Delay: d.Delay, Since: d.Since, Content: d.Content}
	if d.IsState {
		e.StateKey = &d.StateKey
	}
	return e
}

// delay is how much later an event is to be sent, and whether it is at all.
func delay(q *request) (time.Duration, bool, error) {
	s := q.URL.Query().Get("org.matrix.msc4140.delay")
	if s == "" {
		return 0, false, nil
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms <= 0 {
		return 0, true, invalidParam("the delay is not a number of milliseconds")
	}
	if ms > delayed.MostDelay.Milliseconds() {
		e := fail(http.StatusBadRequest, "M_UNKNOWN", "the delay is too long")
		e.More = map[string]any{"org.matrix.msc4140.errcode": "M_MAX_DELAY_EXCEEDED", "org.matrix.msc4140.max_delay": delayed.MostDelay.Milliseconds()}
		return 0, true, e
	}
	return time.Duration(ms) * time.Millisecond, true, nil
}

// schedule keeps an event to be sent later. The transaction of one that is no state counts once.
func (a *API) schedule(q *request, r *room.Room, after time.Duration, kind string, key *string, content canonical.Value) (any, error) {
	if r.Membership(q.login.User) != matrix.Join {
		return nil, forbidden("you are not a member of the room")
	}
	if slices.Contains(undelayed, kind) {
		return nil, forbidden("events of type " + kind + " are not sent later")
	}
	if err := a.Rooms.SelfDenied(room.Draft{Type: kind, StateKey: key, Content: content}); err != nil {
		return nil, err
	}
	d := store.DelayedEvent{User: q.login.User, Room: r.ID(), Type: kind, Content: content.JSON(), Delay: after.Milliseconds()}
	if key != nil {
		d.IsState, d.StateKey = true, *key
		id, err := a.Delayed.Schedule(q.Context(), d, nil)
		return map[string]string{"delay_id": id}, err
	}
	user, device, path := q.login.User, q.login.Device, q.URL.Path
	defer a.transactions.lock(user + " " + device + " " + path)()
	if known, ok, err := a.sent.find(q.Context(), a.Stream.DB(), user, device, path); err != nil || ok {
		return map[string]string{"delay_id": known}, err
	}
	id, err := a.Delayed.Schedule(q.Context(), d, func(tx table.Tx, id string) error {
		return store.Transactions.Put(tx, store.Transaction{User: user, Device: device, Path: path, Result: id, Time: a.Now().UnixMilli()})
	})
	a.sent.note(user, device, path, err)
	return map[string]string{"delay_id": id}, err
}

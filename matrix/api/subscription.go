package api

import (
	"errors"
	"net/http"
	"strconv"

	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// How many subscriptions are told at a time: by default, and at most (MSC4308: "servers may impose a smaller limit").
const (
	someSubscriptions = 100
	maxSubscriptions  = 500
)

// subscriptionRoutes are users' subscriptions to threads (MSC4306), and those that sliding sync left out (MSC4308).
func (a *API) subscriptionRoutes() {
	if !a.Subscriptions {
		return
	}
	const path = "/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{event}/subscription"
	a.in("GET "+path, a.subscription)
	a.in("PUT "+path, a.subscribe)
	a.in("DELETE "+path, a.unsubscribe)
	a.in("GET /_matrix/client/unstable/io.element.msc4308/thread_subscriptions", a.subscriptions)
}

func (a *API) subscription(q *request) (any, error) {
	r, root, err := a.visibleEvent(q)
	if err != nil {
		return nil, err
	}
	var row store.Subscription
	err = a.Stream.DB().View(q.Context(), func(tx table.Tx) (err error) {
		row, _, err = store.Subscriptions.Get(tx, q.login.User, r.ID(), root.ID())
		return err
	})
	if err == nil && !row.Subscribed {
		err = notFound("you are not subscribed to this thread")
	}
	return map[string]bool{"automatic": row.Automatic}, err
}

// subscribe subscribes a user to a thread. What a client does by itself changes nothing that the user did after the event for which it does so (MSC4306,
// server-side automatic subscription ordering): positions of events and of the end of a subscription are of one stream.
func (a *API) subscribe(q *request) (any, error) {
	r, root, err := a.visibleEvent(q)
	if err != nil {
		return nil, err
	}
	cause, err := a.cause(q, r, root)
	if err != nil {
		return nil, err
	}
	return empty, a.changeSubscription(q, r, root, func(row *store.Subscription) (bool, error) {
		switch {
		case row.Subscribed && (cause != nil || !row.Automatic):
			return false, nil
		case cause != nil && cause.Order <= row.Position:
			return false, fail(http.StatusConflict, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", "you have unsubscribed since that event")
		}
		row.Subscribed, row.Automatic = true, cause != nil
		return true, nil
	})
}

// cause is the event for which a client subscribes its user to a thread; nil if the user does it.
func (a *API) cause(q *request, r *room.Room, root *room.Entry) (*room.Entry, error) {
	if q.body.Get("automatic").Kind() == canonical.Null {
		return nil, nil //nolint:nilnil // there is none
	}
	id, err := q.text("automatic")
	if err != nil || id == "" {
		return nil, err
	}
	e, err := r.Event(q.Context(), id)
	if err != nil && !errors.Is(err, room.ErrNotFound) {
		return nil, err
	}
	var seen []*room.Entry
	if err == nil {
		if seen, err = q.visible(r, []*room.Entry{e}); err != nil {
			return nil, err
		}
	}
	if len(seen) == 0 || r.Thread(q.Context(), e) != root.ID() {
		return nil, fail(http.StatusBadRequest, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "the event is not in this thread")
	}
	return e, nil
}

func (a *API) unsubscribe(q *request) (any, error) {
	r, root, err := a.visibleEvent(q)
	if err != nil {
		return nil, err
	}
	return empty, a.changeSubscription(q, r, root, func(row *store.Subscription) (bool, error) {
		was := row.Subscribed
		row.Subscribed, row.Automatic = false, false
		return was, nil
	})
}

// changeSubscription changes a user's subscription to a thread if the function says so, and tells their devices.
func (a *API) changeSubscription(q *request, r *room.Room, root *room.Entry, with func(*store.Subscription) (bool, error)) error {
	err := a.Stream.Update(q.Context(), func(tx table.Tx, advance func(int) (int64, error)) error {
		row, _, err := store.Subscriptions.Get(tx, q.login.User, r.ID(), root.ID())
		if err != nil {
			return err
		}
		changed, err := with(&row)
		if err != nil || !changed {
			return err
		}
		row.User, row.Room, row.Thread = q.login.User, r.ID(), root.ID()
		if row.Position, err = advance(1); err != nil {
			return err
		}
		return store.Subscriptions.Put(tx, row)
	}, nil)
	a.Syncer.Wake(q.login.User)
	return err
}

// subscriptionLimit is how many subscriptions somebody gets who wants some, or does not say.
func subscriptionLimit(wanted *int) (int, error) {
	if wanted == nil {
		return someSubscriptions, nil
	}
	if *wanted <= 0 {
		return 0, invalidParam("limit is not greater than 0")
	}
	return min(*wanted, maxSubscriptions), nil
}

// subscriptions are the changes of subscriptions, the newest ones first.
func (a *API) subscriptions(q *request) (any, error) {
	query := q.URL.Query()
	if query.Get("dir") != "b" {
		return nil, invalidParam("dir is not b")
	}
	var wanted *int
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, invalidParam("limit is not a number")
		}
		wanted = &n
	}
	limit, err := subscriptionLimit(wanted)
	if err != nil {
		return nil, err
	}
	upTo, after := a.Stream.Current(), int64(0)
	if from := query.Get("from"); from != "" {
		if upTo, _, err = a.Syncer.ReadToken(from); err != nil {
			return nil, err
		}
	}
	if to := query.Get("to"); to != "" {
		if after, err = a.Syncer.ReadPos(to); err != nil {
			return nil, err
		}
	}
	told, more, err := a.Syncer.Subscriptions(q.Context(), q.login.User, after, upTo, limit)
	if err != nil || told == nil {
		return empty, err
	}
	if more > 0 {
		told.End = a.Syncer.Token(more)
	}
	return told, nil
}

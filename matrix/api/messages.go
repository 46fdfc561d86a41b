package api

import (
	"encoding/json"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// maxLooked is how many events are looked at, for one answer, for those that a filter wants.
const maxLooked = 2000

// eventFilter is that of the query.
func eventFilter(q *request) (f sync.EventFilter, err error) {
	if text := q.URL.Query().Get("filter"); text != "" {
		err = sync.ReadFilter([]byte(text), &f)
	}
	return f, err
}

// messages pages through a room (clause client-server API, GET messages). Tokens are those of /sync: what came up to a position.
func (a *API) messages(q *request) (any, error) {
	r, err := a.readable(q)
	if err != nil {
		return nil, err
	}
	f, err := eventFilter(q)
	if err != nil {
		return nil, err
	}
	n, err := limit(q, 10, 1000)
	if err != nil {
		return nil, err
	}
	if f.Limit != nil && *f.Limit > 0 {
		n = min(n, *f.Limit)
	}
	of, start, err := a.pageRange(q)
	if err != nil {
		return nil, err
	}
	events, end, err := a.page(q, r, of, n, &f)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"start": start}
	if end > 0 {
		answer["end"] = a.Syncer.Token(end - 1)
	}
	if answer["chunk"], err = a.clients(q, r, events); err != nil {
		return nil, err
	}
	if f.LazyLoadMembers {
		answer["state"], err = a.sendersOf(q, r, events)
	}
	return answer, err
}

// pageRange are the orders of the page that a query asks for, and where it begins.
func (a *API) pageRange(q *request) (of table.Range, from string, err error) {
	query := q.URL.Query()
	of.Descending = query.Get("dir") != "f"
	if from = query.Get("from"); from == "" {
		begin := int64(0)
		if of.Descending {
			begin = a.Stream.Current()
		}
		from = a.Syncer.Token(begin)
	}
	return of, from, a.between(&of, from, query.Get("to"))
}

// between makes a range what lies between two tokens, as far as they are there: the range begins at the first of them if it goes forward. What is after a token that
// does not hold begins with the first event; it may be asked what is before one.
func (a *API) between(of *table.Range, from, to string) error {
	if of.Descending {
		from, to = to, from
	}
	if from != "" {
		position, err := a.Syncer.ReadSince(from)
		if err != nil {
			return err
		}
		of.From = position + 1
	}
	if to != "" {
		position, _, err := a.Syncer.ReadToken(to)
		if err != nil {
			return err
		}
		of.Before = position + 1
	}
	return nil
}

// page is at most n events of a range that are shown to the user and that a filter wants; and the order before which, or from which on, there may be others: 0 if
// there are none.
func (a *API) page(q *request, r *room.Room, of table.Range, n int, f *sync.EventFilter) (found []*room.Entry, end int64, err error) {
	for looked := 0; len(found) < n && looked < maxLooked; {
		if of.Limit = n; looked > 0 { // few are wanted
			of.Limit = max(n, 100)
		}
		events, err := r.Page(q.Context(), of)
		if err != nil {
			return nil, 0, err
		}
		looked += len(events)
		wanted := make([]*room.Entry, 0, len(events))
		for _, e := range events {
			if f.Wants(e.Event) {
				wanted = append(wanted, e)
			}
		}
		seen, err := a.shown(q, r, wanted)
		if err != nil {
			return nil, 0, err
		}
		all := len(events) < of.Limit
		if left := n - len(found); len(seen) > left {
			seen, all = seen[:left], false
			events = upTo(events, seen[left-1])
		}
		found = append(found, seen...)
		if all {
			return found, 0, nil
		}
		end = following(events[len(events)-1].Order, of.Descending)
		if of.Descending {
			of.Before = end
		} else {
			of.From = end
		}
	}
	return found, end, nil
}

// upTo are the first of some events up to one of them.
func upTo(events []*room.Entry, last *room.Entry) []*room.Entry {
	for i, e := range events {
		if e.ID() == last.ID() {
			return events[:i+1]
		}
	}
	return events
}

// following is the bound of a range that goes on after an order.
func following(order int64, descending bool) int64 {
	if descending {
		return order
	}
	return order + 1
}

// sendersOf are the member events of those who sent some events, as they were then (clause client-server API, lazy-loading room members).
func (a *API) sendersOf(q *request, r *room.Room, events []*room.Entry) ([]json.RawMessage, error) {
	known, state := map[string]bool{}, []json.RawMessage{}
	for _, e := range events {
		if known[e.Sender()] {
			continue
		}
		known[e.Sender()] = true
		m, err := r.At(q.Context(), e.After, matrix.Key{Type: matrix.TypeMember, StateKey: e.Sender()})
		if err != nil {
			return nil, err
		}
		if m != nil {
			state = append(state, sync.Client(m, q.login.User, q.login.Device, true))
		}
	}
	return state, nil
}

// context is an event with some before and after it (clause client-server API, GET context).
func (a *API) context(q *request) (any, error) {
	r, e, err := a.visibleEvent(q)
	if err != nil {
		return nil, err
	}
	f, err := eventFilter(q)
	if err != nil {
		return nil, err
	}
	n, err := limit(q, 10, 100)
	if err != nil {
		return nil, err
	}
	before, after, err := a.around(q, r, e, n/2, n-n/2, &f)
	if err != nil {
		return nil, err
	}
	start, end := e, e
	if len(before) > 0 {
		start = before[len(before)-1]
	}
	if len(after) > 0 {
		end = after[len(after)-1]
	}
	state, err := a.contextState(q, r, end, append(append([]*room.Entry{e}, before...), after...), f.LazyLoadMembers)
	if err != nil {
		return nil, err
	}
	var shown [3][]json.RawMessage
	for i, events := range [][]*room.Entry{{e}, before, after} {
		if shown[i], err = a.clients(q, r, events); err != nil {
			return nil, err
		}
	}
	return map[string]any{
		"event": shown[0][0], "events_before": shown[1], "events_after": shown[2],
		"start": a.Syncer.Token(start.Order - 1), "end": a.Syncer.Token(end.Order), "state": state,
	}, nil
}

// contextState is the state at the end of some events; of members only those who sent them, for a client that loads members lazily.
func (a *API) contextState(q *request, r *room.Room, end *room.Entry, events []*room.Entry, lazy bool) ([]json.RawMessage, error) {
	at, err := r.StateAt(q.Context(), end.After)
	if err != nil {
		return nil, err
	}
	senders := map[string]bool{}
	for _, e := range events {
		senders[e.Sender()] = true
	}
	state := []json.RawMessage{}
	for key, s := range at {
		if !lazy || key.Type != matrix.TypeMember || senders[key.StateKey] {
			state = append(state, sync.Client(s, q.login.User, q.login.Device, true))
		}
	}
	return state, nil
}

// around are events before one, newest first, and after it, of those that the user may see and a filter wants.
func (a *API) around(q *request, r *room.Room, e *room.Entry, n, m int, f *sync.EventFilter) (before, after []*room.Entry, err error) {
	if before, _, err = a.page(q, r, table.Range{Before: e.Order, Descending: true}, n, f); err != nil {
		return nil, nil, err
	}
	after, _, err = a.page(q, r, table.Range{From: e.Order + 1}, m, f)
	return before, after, err
}

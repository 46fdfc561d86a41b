package room

import (
	"cmp"
	"context"
	"slices"

	"orrery/matrix/event"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Types of relations that are aggregated.
const (
	Replace = "m.replace"
	Thread  = "m.thread"
	Refer   = "m.reference"
)

// maxRecurse is how far relations of relations are followed.
const maxRecurse = 3

// relation is the event that an event relates to, and how; false if it relates to none.
func relation(e *event.Event) (target, rel string, ok bool) {
	r := e.Content().Get("m.relates_to")
	target, rel = r.Get("event_id").String(), r.Get("rel_type").String()
	return target, rel, target != "" && rel != ""
}

// Thread is the root of the thread that an event is in, by its own relation or by that of what it relates to; "" is the main timeline (clause
// client-server API, threaded read receipts). What cannot be read is taken to be there.
func (r *Room) Thread(ctx context.Context, e *Entry) string {
	for range maxRecurse {
		target, rel, ok := relation(e.Event)
		if !ok {
			return ""
		}
		if rel == Thread {
			return target
		}
		var err error
		if e, err = r.Event(ctx, target); err != nil {
			return ""
		}
	}
	return ""
}

// putRelation notes what an event relates to.
func putRelation(tx table.Tx, room int64, e *event.Event, order int64) error {
	target, rel, ok := relation(e)
	if !ok {
		return nil
	}
	return store.Relations.Put(tx, store.Relation{Room: room, Target: target, Order: order, Rel: rel, Type: e.Type(), Sender: e.Sender()})
}

// Wanted are relations that somebody asks for; empty fields want all.
type Wanted struct {
	Rel, Type string
	Recurse   bool
	Range     table.Range // of orders, and how many
}

// Relations are the events that relate to another one, in the order of the range.
func (r *Room) Relations(ctx context.Context, target string, w Wanted) (found []*Entry, err error) {
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		rows, err := r.related(tx, target, w, 1)
		if err != nil {
			return err
		}
		slices.SortFunc(rows, func(a, b store.Relation) int {
			if w.Range.Descending {
				a, b = b, a
			}
			return cmp.Compare(a.Order, b.Order)
		})
		if len(rows) > w.Range.Limit {
			rows = rows[:w.Range.Limit]
		}
		found, err = r.entries(tx, rows)
		return err
	})
	return found, err
}

func (r *Room) related(tx table.Tx, target string, w Wanted, depth int) ([]store.Relation, error) {
	of := w.Range
	of.Prefix = []any{r.row.ID, target}
	of.Limit = 0 // others are left out
	all, err := store.Relations.All(tx, of)
	if err != nil {
		return nil, err
	}
	var found []store.Relation
	for _, one := range all {
		if (w.Rel == "" || one.Rel == w.Rel) && (w.Type == "" || one.Type == w.Type) {
			found = append(found, one)
		}
		if !w.Recurse || depth == maxRecurse {
			continue
		}
		row, ok, err := store.Events.Get(tx, r.row.ID, one.Order)
		if err != nil || !ok {
			return nil, err
		}
		more, err := r.related(tx, row.EventID, w, depth+1)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func (r *Room) entries(tx table.Tx, rows []store.Relation) ([]*Entry, error) {
	var found []*Entry
	for _, row := range rows {
		e, err := r.rooms.entry(tx, r.version, r.row.ID, row.Order)
		if err != nil {
			return nil, err
		}
		found = append(found, e)
	}
	return found, nil
}

// Summary is what others say of an event by relating to it.
type Summary struct {
	Replaced *Entry // the newest that replaces it
	Thread   *ThreadSummary
	Referred []string // ids
}

// ThreadSummary is a thread of which an event is the root.
type ThreadSummary struct {
	Latest  *Entry
	Count   int
	Senders map[string]bool
}

// referred are those to which something may relate: what came after an event that is in memory is there, too.
func (r *Room) referred(events []*Entry) (may []*Entry) {
	r.mu.RLock()
	cached := r.timeline
	r.mu.RUnlock()
	targets := map[string]bool{}
	from := len(cached)
	for _, e := range events {
		at, ok := slices.BinarySearchFunc(cached, e.Order, byOrder)
		if !ok {
			may = append(may, e)
			continue
		}
		for ; from > at; from-- {
			if target, _, ok := relation(cached[from-1].Event); ok {
				targets[target] = true
			}
		}
	}
	for _, e := range events {
		if targets[e.ID()] {
			may = append(may, e)
		}
	}
	return may
}

// Summaries are those of some events, by their ids; events to which nothing relates have none. What some users said is left out: "Events from ignored users do not
// appear in the aggregation".
func (r *Room) Summaries(ctx context.Context, events []*Entry, without map[string]bool) (map[string]Summary, error) {
	found := map[string]Summary{}
	if events = r.referred(events); len(events) == 0 {
		return found, nil
	}
	err := r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		for _, e := range events {
			rows, err := store.Relations.All(tx, table.Range{Prefix: []any{r.row.ID, e.ID()}})
			if err != nil {
				return err
			}
			rows = slices.DeleteFunc(rows, func(row store.Relation) bool { return without[row.Sender] })
			if len(rows) == 0 {
				continue
			}
			if found[e.ID()], err = r.summary(tx, e, rows); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

func (r *Room) summary(tx table.Tx, of *Entry, rows []store.Relation) (Summary, error) {
	var s Summary
	for _, row := range rows {
		if row.Rel != Replace && row.Rel != Thread && row.Rel != Refer {
			continue
		}
		e, err := r.rooms.entry(tx, r.version, r.row.ID, row.Order)
		if err != nil {
			return s, err
		}
		switch row.Rel {
		case Replace:
			if of.Redacted == "" && replaces(e, of) && (s.Replaced == nil || cmp.Or(cmp.Compare(e.Timestamp(), s.Replaced.Timestamp()), cmp.Compare(e.ID(), s.Replaced.ID())) > 0) {
				s.Replaced = e
			}
		case Thread:
			if s.Thread == nil {
				s.Thread = &ThreadSummary{Senders: map[string]bool{of.Sender(): true}}
			}
			s.Thread.Latest, s.Thread.Senders[e.Sender()] = e, true
			s.Thread.Count++
		case Refer:
			s.Referred = append(s.Referred, e.ID())
		}
	}
	return s, nil
}

// replaces says whether an event may replace another one (clause client-server API, validity of replacement events).
func replaces(e, of *Entry) bool {
	_, stateA := e.StateKey()
	_, stateB := of.StateKey()
	_, rel, _ := relation(of.Event)
	_, hasNew := e.Content().Find("m.new_content")
	return e.Sender() == of.Sender() && e.Type() == of.Type() && !stateA && !stateB && rel != Replace && (hasNew || e.Type() == "m.room.encrypted")
}

// Threads are the roots of threads, the one with the newest event first, from those whose newest is before an order; and that of the last one's newest, 0 if there are no more.
func (r *Room) Threads(ctx context.Context, before int64, limit int, wanted func(root string, senders map[string]bool) bool) (roots []*Entry, next int64, err error) {
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		rows, err := store.Relations.All(tx, table.Range{Index: "rel", Prefix: []any{r.row.ID, Thread}, Descending: true})
		if err != nil {
			return err
		}
		newest, senders := map[string]int64{}, map[string]map[string]bool{}
		var order []string
		for _, row := range rows {
			if newest[row.Target] == 0 {
				newest[row.Target], senders[row.Target] = row.Order, map[string]bool{}
				order = append(order, row.Target)
			}
			senders[row.Target][row.Sender] = true
		}
		for _, target := range order {
			if newest[target] >= before {
				continue
			}
			row, ok, err := store.FindEvent(tx, target)
			if err != nil {
				return err
			}
			if !ok || row.Room != r.row.ID {
				continue
			}
			senders[target][row.Sender] = true
			if !wanted(target, senders[target]) {
				continue
			}
			if len(roots) == limit {
				return nil
			}
			root, err := parse(r.version, row)
			if err != nil {
				return err
			}
			roots, next = append(roots, root), newest[target]
		}
		next = 0
		return nil
	})
	return roots, next, err
}

package admin

import (
	"sync"

	"orrery/matrix"
	"orrery/matrix/event"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// maxSummaries is how many rooms' summaries are kept: a few MiB.
const maxSummaries = 10_000

// summaries are rooms as they are listed, by their numbers. One counts as long as the room has the state that it was made of.
type summaries struct {
	mu  sync.Mutex
	all map[int64]summary
}

type summary struct {
	state int64
	room  Room
}

func (s *summaries) get(row store.Room) (Room, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.all[row.ID]
	return known.room, ok && known.state == row.State
}

func (s *summaries) put(row store.Room, r Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil || len(s.all) >= maxSummaries {
		s.all = map[int64]summary{}
	}
	s.all[row.ID] = summary{row.State, r}
}

// summarise is a room as it is listed, read from the store; false if it has no state yet.
func (a *Admin) summarise(tx table.Tx, keys store.StateKeys, row store.Room) (r Room, ok bool, err error) {
	r, ok = a.summaries.get(row)
	if !ok {
		if r, ok, err = a.summary(tx, keys, row); err != nil || !ok {
			return r, false, err
		}
		a.summaries.put(row, r)
	}
	r.Public, r.Blocked = row.Public, row.Blocked
	return r, true, nil
}

func (a *Admin) summary(tx table.Tx, keys store.StateKeys, row store.Room) (r Room, ok bool, err error) {
	version, err := matrix.FindVersion(row.Version)
	if err != nil {
		return r, false, err
	}
	orders, states, err := keys.Read(tx, row.State)
	if err != nil || orders[matrix.TypeCreate] == 0 {
		return r, false, err
	}
	events := map[string]*event.Event{}
	for kind, order := range orders {
		e, ok, err := store.Events.Get(tx, row.ID, order)
		if err == nil && ok {
			events[kind], err = event.Parse(version, e.JSON)
		}
		if err != nil {
			return r, false, err
		}
	}
	r = describe(version, func(kind string) *event.Event { return events[kind] })
	r.ID, r.States = row.RoomID, states
	for m, err := range store.Members.Scan(tx, table.Range{Index: "room", Prefix: []any{row.ID}}) {
		if err != nil {
			return r, false, err
		}
		if m.Membership != matrix.Join {
			continue
		}
		if r.Members++; a.Accounts.Local(m.User) {
			r.Local++
		}
	}
	return r, true, nil
}

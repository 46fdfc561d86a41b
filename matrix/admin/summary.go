package admin

import (
	"strings"
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
	state     int64
	room      Room
	elsewhere map[string]Presence // memberships of users of other servers, by those
}

func (s *summaries) get(row store.Room) (summary, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.all[row.ID]
	return known, ok && known.state == row.State
}

func (s *summaries) put(row store.Room, made summary) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil || len(s.all) >= maxSummaries {
		s.all = map[int64]summary{}
	}
	s.all[row.ID] = made
}

// summarise is a room as it is listed, read from the store; false if it has no state yet.
func (a *Admin) summarise(tx table.Tx, keys store.StateKeys, row store.Room) (r Room, ok bool, err error) {
	s, ok, err := a.summaryOf(tx, keys, row)
	r = s.room
	r.Public, r.Blocked = row.Public, row.Blocked
	return r, ok, err
}

func (a *Admin) summaryOf(tx table.Tx, keys store.StateKeys, row store.Room) (s summary, ok bool, err error) {
	if s, ok = a.summaries.get(row); ok {
		return s, true, nil
	}
	if s, ok, err = a.summary(tx, keys, row); err == nil && ok {
		a.summaries.put(row, s)
	}
	return s, ok, err
}

func (a *Admin) summary(tx table.Tx, keys store.StateKeys, row store.Room) (s summary, ok bool, err error) {
	version, err := matrix.FindVersion(row.Version)
	if err != nil {
		return s, false, err
	}
	orders, states, err := keys.Read(tx, row.State)
	if err != nil || orders[matrix.TypeCreate] == 0 {
		return s, false, err
	}
	events := map[string]*event.Event{}
	for kind, order := range orders {
		e, ok, err := store.Events.Get(tx, row.ID, order)
		if err == nil && ok {
			events[kind], err = event.Parse(version, e.JSON)
		}
		if err != nil {
			return s, false, err
		}
	}
	r := describe(version, func(kind string) *event.Event { return events[kind] })
	r.ID, r.States = row.RoomID, states
	s.state = row.State
	for m, err := range store.Members.Scan(tx, table.Range{Index: "room", Prefix: []any{row.ID}}) {
		if err != nil {
			return s, false, err
		}
		local := a.Accounts.Local(m.User)
		if !local {
			s.add(matrix.Domain(m.User), m.Membership)
		}
		if m.Membership != matrix.Join {
			continue
		}
		if r.Members++; local {
			r.Local++
		}
	}
	s.room = r
	return s, true, nil
}

// add counts a membership of another server's user. Those who left count for nothing.
func (s *summary) add(server, membership string) {
	if !present(membership) && membership != matrix.Ban {
		return
	}
	if s.elsewhere == nil {
		s.elsewhere = map[string]Presence{}
	}
	p := s.elsewhere[server]
	p.add(membership)
	s.elsewhere[strings.Clone(server)] = p
}

package sync

import (
	"hash/maphash"
	"slices"
	"sync"

	"orrery/matrix"
	"orrery/matrix/room"
)

// Limits of what is remembered of introductions, which are in memory only: who was introduced and forgotten is introduced again.
const (
	maxIntroduced = 2000    // to a device
	maxAllTold    = 1 << 19 // to all devices, each of which counts as some
	deviceCounts  = 16
)

// introductions are the member events that devices which load members lazily were told: "if false, the server will only send events that it has not sent to the client
// already" (clause client-server API, lazy-loading room members, include_redundant_members).
type introductions struct {
	mu   sync.Mutex
	seed maphash.Seed
	all  map[device]*introduced
	sum  int // how many are remembered, with what devices count
}

// introduced is what a device was told. What it has confirmed, by the token that it asked with, is apart from what it may not have received.
type introduced struct {
	filter   *Filter // with which it asks
	had, got int64   // positions up to which it was told, and was told last
	known    []uint64
	fresh    []uint64
}

// acquaintance is what a device knows of members, as one request sees it, and what the answer tells it. They are sums of the event, the room, and since when the user is
// in it: who comes again may have forgotten all.
type acquaintance struct {
	seed  maphash.Seed
	off   bool // nothing is remembered
	known []uint64
	fresh []uint64
	upTo  int64
}

// introduction is a member event in a room.
type introduction struct {
	room  string
	stay  int64 // order of the event by which the user who is told is in the room
	order int64 // of the event
}

// begin is what the device of a request knows: as much as it shows that it has received.
func (x *introductions) begin(q *Request) *acquaintance {
	if !q.Filter.Room.State.LazyLoadMembers || q.Filter.Room.State.IncludeRedundantMembers || q.FullState || q.Device == "" {
		return &acquaintance{off: true}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all == nil {
		x.all, x.seed = map[device]*introduced{}, maphash.MakeSeed()
	}
	k := &acquaintance{seed: x.seed}
	d := x.all[device{q.User, q.Device}]
	switch {
	case d == nil || d.filter != q.Filter || q.Initial:
	case q.Since == d.got:
		k.known = slices.Concat(d.known, d.fresh)
		slices.Sort(k.known)
		if k.known = slices.Compact(k.known); len(k.known) > maxIntroduced {
			k.known = nil
		}
	case q.Since == d.had:
		k.known = d.known
	}
	return k
}

// tell notes what the answer to a request tells.
func (x *introductions) tell(q *Request, k *acquaintance) {
	if k.off {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	name := device{q.User, q.Device}
	since := q.Since
	if q.Initial {
		since = -1
	}
	old := x.all[name]
	if old != nil {
		x.sum -= deviceCounts + len(old.known) + len(old.fresh)
		delete(x.all, name)
	}
	if old != nil && old.got == k.upTo && old.had != since { // by its next token it does not show which of the answers it has
		return
	}
	x.all[name] = &introduced{q.Filter, since, k.upTo, k.known, k.fresh}
	x.sum += deviceCounts + len(k.known) + len(k.fresh)
	for other, d := range x.all {
		if x.sum <= maxAllTold {
			break
		}
		x.sum -= deviceCounts + len(d.known) + len(d.fresh)
		delete(x.all, other)
	}
}

// again begins an answer anew.
func (k *acquaintance) again(upTo int64) { k.fresh, k.upTo = nil, upTo }

func (k *acquaintance) sum(r *room.Room, stay int64, e *room.Entry) uint64 {
	return maphash.Comparable(k.seed, introduction{r.ID(), stay, e.Order})
}

// knows says whether a device knows a member event.
func (k *acquaintance) knows(r *room.Room, stay int64, e *room.Entry) bool {
	if len(k.known) == 0 {
		return false
	}
	_, found := slices.BinarySearch(k.known, k.sum(r, stay, e))
	return found
}

// meet notes those of some events that are told which are of members.
func (k *acquaintance) meet(r *room.Room, stay int64, told ...[]*room.Entry) {
	if k.off {
		return
	}
	for _, events := range told {
		for _, e := range events {
			if _, isState := e.StateKey(); isState && e.Type() == matrix.TypeMember {
				k.fresh = append(k.fresh, k.sum(r, stay, e))
			}
		}
	}
}

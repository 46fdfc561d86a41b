package membership

import (
	"context"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// getNodeState is memberlist's own, with its own lock, for a name that it knows; it panics for another. memberlist tells
// nobody whom it suspects: its events are for the living and the dead, the State of the nodes that it gives out is always
// zero, and neither its metrics nor its log lines name the suspects that others told it of. If a later version has
// no such method, the binary does not link; TestSuspect sees whether it still means the same.
//
//go:linkname getNodeState github.com/hashicorp/memberlist.(*Memberlist).getNodeState
func getNodeState(list *memberlist.Memberlist, name string) memberlist.NodeStateType

// How often memberlist is asked whom it suspects: more rarely where there are many to ask about. A suspicion that is over sooner may pass unseen.
const (
	lookEvery   = 200 * time.Millisecond
	lookForEach = 4 * time.Millisecond
)

// observe notes who is suspect, who is not any more, and which of the dead have left.
func (m *Membership) observe(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last, next := time.Now(), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		m.strained(now.Sub(last) - lookEvery)
		if last = now; now.Before(next) {
			continue
		}
		m.refute()
		next = now.Add(time.Duration(m.events.alive.Load()) * lookForEach)
		told := 0
		for _, id := range m.doubtful() { // in random order
			state, known := m.believed(id)
			if !known {
				continue
			}
			if m.reconsider(id, state); state == memberlist.StateSuspect && told < maxTold {
				m.tell(id)
				told++
			}
		}
	}
}

// doubtful are the members of which memberlist may know more than it told.
func (m *Membership) doubtful() []fabric.NodeID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []fabric.NodeID
	for id, known := range m.members {
		if id != m.config.Identity.ID && (known.State.Present() || known.newlyDead) {
			known.newlyDead = false
			all = append(all, id)
		}
	}
	return all
}

// believed is memberlist's own state of a node; unknown for one that it has dropped, as it does with the dead after a while.
func (m *Membership) believed(id fabric.NodeID) (state memberlist.NodeStateType, known bool) {
	defer func() {
		if recover() != nil {
			known = false
		}
	}()
	return getNodeState(m.list, string(id)), true
}

// reconsider takes in what memberlist believes of a node.
func (m *Membership) reconsider(id fabric.NodeID, state memberlist.NodeStateType) {
	if state == memberlist.StateLeft {
		m.left(id)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.members[id]
	if known == nil {
		return
	}
	now := known.State
	switch {
	case now == fabric.MemberAlive && state == memberlist.StateSuspect:
		now = fabric.MemberSuspect
	case now == fabric.MemberSuspect && state == memberlist.StateAlive:
		now = fabric.MemberAlive
	}
	if now != known.State { // its death and return are told by events
		known.State, known.Since = now, time.Now()
		m.wake(m.changed)
	}
}

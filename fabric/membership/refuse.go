package membership

import (
	"fmt"

	"orrery/fabric"
)

// refused says why a node cannot be a member.
func (m *Membership) refused(id fabric.NodeID) error {
	if m.config.Refused != nil && m.config.Refused(id) {
		return fmt.Errorf("node %s is refused", id)
	}
	return nil
}

// Expel drops all nodes that Config.Refused names, from now on also those that live. memberlist itself goes on asking one for its health as long as it
// answers, which it can until the gossip's key is another one; nobody is told of it.
func (m *Membership) Expel() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, known := range m.members {
		if m.refused(id) == nil {
			continue
		}
		if known.State.Present() {
			m.events.alive.Add(-1)
		}
		m.repair.noted(known, nil)
		delete(m.members, id)
		m.wake(m.changed)
	}
	for id := range m.candidates {
		if m.refused(id) != nil {
			delete(m.candidates, id)
		}
	}
}

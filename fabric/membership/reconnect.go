package membership

import (
	"context"
	"math/rand/v2"
	"time"

	"orrery/fabric"
)

const (
	firstRetry    = 500 * time.Millisecond
	lastRetry     = 15 * time.Second
	maxCandidates = 4096
)

// candidate is a node that should be a member, as long as it does not leave.
type candidate struct {
	beacon fabric.Beacon // Gossip is where to try
	due    time.Time
	pause  time.Duration
}

// Found tells of a node of the cluster; discovery calls it. Who is a member already is not disturbed.
func (m *Membership) Found(b fabric.Beacon) {
	if b.Cluster != m.config.Identity.Cluster || b.ID == m.config.Identity.ID || b.Gossip == "" || m.refused(b.ID) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.candidates[b.ID]
	if c == nil && len(m.candidates) >= maxCandidates {
		return
	}
	if c == nil || c.beacon.Gossip != b.Gossip {
		c = &candidate{pause: firstRetry}
		m.candidates[b.ID] = c
	}
	c.beacon = b
	m.wake(m.changed) // its Via may be news
	m.wake(m.kick)
}

// remember makes a candidate of every member, so that one that dies is looked for. The caller holds the lock.
func (m *Membership) remember(id fabric.NodeID, gossip string, state fabric.MemberState) {
	if id == m.config.Identity.ID {
		return
	}
	if state == fabric.MemberLeft {
		delete(m.candidates, id)
		return
	}
	c := m.candidates[id]
	if c == nil {
		c = &candidate{beacon: fabric.Beacon{Cluster: m.config.Identity.Cluster, ID: id}, pause: firstRetry}
		m.candidates[id] = c
	}
	if state == fabric.MemberAlive {
		c.beacon.Gossip, c.pause, c.due = gossip, firstRetry, time.Time{}
	}
}

// moved notes that a node, perhaps restarted, is at another address than the one where it is still believed to be. Once it is
// dead there, it is tried here.
func (m *Membership) moved(id fabric.NodeID, gossip string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.candidates[id]; c != nil && c.beacon.Gossip != gossip {
		c.beacon.Gossip, c.pause, c.due = gossip, firstRetry, time.Time{}
	}
}

// reconnect tries the candidates that are not members, each ever less often, and for ever.
func (m *Membership) reconnect(ctx context.Context) {
	tick := time.NewTicker(firstRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.kick:
		}
		for _, address := range m.due(time.Now()) {
			if ctx.Err() != nil {
				return
			}
			// Its error is in the log, and the next round is the remedy.
			_, _ = m.list.Join([]string{address})
		}
	}
}

// due lists the addresses to try now, and plans when to try them again.
func (m *Membership) due(now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addresses []string
	for id, c := range m.candidates {
		if known := m.members[id]; known != nil && known.State.Present() || now.Before(c.due) {
			continue
		}
		c.due = now.Add(c.pause/2 + rand.N(c.pause))
		c.pause = min(2*c.pause, lastRetry)
		addresses = append(addresses, c.beacon.Gossip)
	}
	return addresses
}

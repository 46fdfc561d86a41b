package membership

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"orrery/fabric"
)

const (
	firstRetry    = 500 * time.Millisecond
	lastRetry     = 15 * time.Second
	maxCandidates = 4096
	maxJoins      = 4 // at once; one takes up to five seconds where nothing answers
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

// remember makes a candidate of a member that died, so that it is looked for, and ends the looking for one that is back or left. The caller holds the lock.
func (m *Membership) remember(id fabric.NodeID, gossip string, state fabric.MemberState) {
	c := m.candidates[id]
	switch {
	case id == m.config.Identity.ID:
	case state == fabric.MemberLeft:
		delete(m.candidates, id)
	case c == nil && state == fabric.MemberDead:
		b := fabric.Beacon{Cluster: m.config.Identity.Cluster, ID: id, Gossip: gossip}
		m.candidates[id] = &candidate{beacon: b, pause: firstRetry, due: time.Now().Add(firstRetry)}
	case c != nil && state == fabric.MemberAlive:
		c.beacon.Gossip, c.pause, c.due = gossip, firstRetry, time.Time{}
	}
}

// moved notes that a node, perhaps restarted, is at another address than the one where it is still believed to be. Once it is
// dead there, it is tried here.
func (m *Membership) moved(id fabric.NodeID, gossip string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.candidates[id]
	if c == nil {
		c = &candidate{beacon: fabric.Beacon{Cluster: m.config.Identity.Cluster, ID: id}}
		m.candidates[id] = c
	}
	if c.beacon.Gossip != gossip {
		c.beacon.Gossip, c.pause, c.due = gossip, firstRetry, time.Time{}
	}
}

// reconnect tries the candidates that are not members, each ever less often, and for ever. It makes the exchanges of repair, too.
func (m *Membership) reconnect(ctx context.Context) {
	var joins sync.WaitGroup
	defer joins.Wait()
	places := make(chan struct{}, maxJoins)
	tick := time.NewTicker(firstRetry)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-m.kick:
		}
		for _, address := range m.due(time.Now(), cap(places)-len(places)) {
			places <- struct{}{}
			joins.Go(func() {
				// Its error is in the log, and the next round is the remedy.
				_, _ = m.list.Join([]string{address})
				<-places
			})
		}
	}
}

// due lists the addresses to try now, at most n, and plans when to try them again.
func (m *Membership) due(now time.Time, n int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addresses []string
	if n > 0 {
		addresses = m.exchange()
	}
	lost := false
	for id, c := range m.candidates { // in random order
		known := m.members[id]
		if known != nil && (known.State.Present() || lost) || now.Before(c.due) {
			continue
		}
		if len(addresses) >= n {
			break
		}
		// One that is back brings back all that it sees. To try more at once would burden a cluster that is in trouble.
		lost = lost || known != nil
		c.due = now.Add(c.pause/2 + rand.N(c.pause))
		c.pause = min(2*c.pause, lastRetry)
		if m.repair.there < 2 {
			c.pause = firstRetry // who is alone tries hard
		}
		addresses = append(addresses, c.beacon.Gossip)
	}
	return addresses
}

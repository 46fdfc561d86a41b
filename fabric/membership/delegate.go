package membership

import (
	"bytes"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// memberlist calls the methods of this file, partly with its own locks held: they never call it, and never wait.
var (
	_ memberlist.Delegate         = (*Membership)(nil)
	_ memberlist.EventDelegate    = (*Membership)(nil)
	_ memberlist.AliveDelegate    = (*Membership)(nil)
	_ memberlist.ConflictDelegate = (*Membership)(nil)
)

// NotifyJoin is memberlist's: a node is alive.
func (m *Membership) NotifyJoin(n *memberlist.Node) { m.set(n, fabric.MemberAlive) }

// NotifyUpdate is memberlist's: a living node says other things of itself.
func (m *Membership) NotifyUpdate(n *memberlist.Node) { m.set(n, fabric.MemberAlive) }

// NotifyLeave is memberlist's: a node is dead or left; it does not say which.
func (m *Membership) NotifyLeave(n *memberlist.Node) { m.set(n, fabric.MemberDead) }

// set writes down what memberlist believes of a node.
func (m *Membership) set(n *memberlist.Node, state fabric.MemberState) {
	said, err := readMeta(n)
	if err != nil {
		return // NotifyAlive refused it; dead ones keep what they said
	}
	id := fabric.NodeID(n.Name)
	if m.refused(id) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if state == fabric.MemberAlive {
		delete(m.leavers, id)
	} else if m.leavers[id] {
		state = fabric.MemberLeft
	}
	now := fabric.Member{
		ID: id, Name: said.Name, Address: said.RPC, State: state, Version: said.Version, Zone: said.Zone, Roles: said.Roles, Since: time.Now(), Via: viaGossip,
	}
	if id == m.config.Identity.ID {
		now.Via = viaSelf
	}
	before := m.members[id]
	if before != nil && before.State == state {
		now.Since = before.Since
	}
	after := &member{Member: now, gossip: n.Address(), said: n.Meta, newlyDead: state == fabric.MemberDead}
	m.members[id] = after
	m.count(before, after)
	m.remember(id, n.Address(), state)
	m.wake(m.changed)
}

// count takes in what a change of a member means for how many there are. The caller holds our lock and memberlist's.
func (m *Membership) count(before, after *member) {
	m.repair.noted(before, after)
	was := before != nil && before.State.Present()
	is := after.State.Present()
	switch {
	case was == is:
		return
	case !is:
		m.events.alive.Add(-1)
		if after.State == fabric.MemberDead {
			m.stats.deaths.Add(1)
		}
	default:
		m.events.alive.Add(1)
	}
	m.adjust()
}

// left takes in that a node said it leaves.
func (m *Membership) left(id fabric.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.members[id]
	if known == nil {
		return
	}
	m.leavers[id] = true
	if known.State == fabric.MemberDead {
		known.State = fabric.MemberLeft
		delete(m.candidates, id)
		m.wake(m.changed)
	}
}

// NotifyAlive is memberlist's: it asks whether a node may be a member.
func (m *Membership) NotifyAlive(n *memberlist.Node) error {
	if err := m.refused(fabric.NodeID(n.Name)); err != nil {
		return err
	}
	m.adjust()
	m.mu.Lock()
	known := m.members[fabric.NodeID(n.Name)]
	m.mu.Unlock()
	if known != nil && bytes.Equal(known.said, n.Meta) {
		return nil // as nearly always, where many join
	}
	_, err := readMeta(n)
	return err
}

// NotifyConflict is memberlist's: a living node's id appears at a second address. A copied identity folder does that, and so does a node that
// was restarted elsewhere before it was noticed to be gone.
func (m *Membership) NotifyConflict(existing, other *memberlist.Node) {
	m.config.Logger.Warn("node appears at two addresses (a copied identity, or a restart that was not noticed yet)",
		"node", existing.Name, "address", existing.Address(), "other", other.Address())
	m.moved(fabric.NodeID(existing.Name), other.Address())
}

// NodeMeta is memberlist's: what this node says of itself.
func (m *Membership) NodeMeta(int) []byte { return m.meta }

// NotifyMsg is memberlist's: an event came, or a doubt.
func (m *Membership) NotifyMsg(content []byte) {
	if m.isDoubt(content) {
		return
	}
	if leaver, ok := m.events.take(content); ok {
		m.left(leaver)
	}
}

// GetBroadcasts is memberlist's: what to send along.
func (m *Membership) GetBroadcasts(overhead, limit int) [][]byte {
	return m.events.pending(overhead, limit)
}

// LocalState is memberlist's: what a full exchange carries besides the members.
func (m *Membership) LocalState(bool) []byte { return m.events.state() }

// MergeRemoteState is memberlist's: the far side's LocalState.
func (m *Membership) MergeRemoteState(content []byte, _ bool) { m.events.merge(content) }

// logWriter passes memberlist's lines on, which look like "2006/01/02 15:04:05 [WARN] memberlist: text".
type logWriter struct {
	logger interface {
		Debug(msg string, args ...any)
		Warn(msg string, args ...any)
	}
	stats   *stats
	garbage func() // is told of what is no gossip of this cluster
}

// Write takes one line. What memberlist calls an error is mostly somebody else's trouble, which heals.
func (w logWriter) Write(line []byte) (int, error) {
	_, rest, _ := strings.Cut(strings.TrimSpace(string(line)), "[")
	level, text, _ := strings.Cut(rest, "] ")
	text = strings.TrimPrefix(text, "memberlist: ")
	if level == "WARN" || level == "ERR" {
		if w.stats.line(text) && w.garbage != nil {
			w.garbage()
		}
		w.logger.Warn("gossip", "detail", text)
	} else {
		w.logger.Debug("gossip", "detail", text)
	}
	return len(line), nil
}

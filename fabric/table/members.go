package table

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"orrery/fabric"
	"orrery/fabric/table/kv"
	"orrery/fabric/table/voters"
)

// lag is how many entries a learner may be behind and count as caught up.
const lag = 64

// ErrLastNode says that a table's only node cannot be removed from it.
var ErrLastNode = errors.New("it is the table's last node")

// Status is what this node knows of the table.
type Status struct {
	Self      fabric.NodeID   `json:"self"`
	Leader    fabric.NodeID   `json:"leader"` // empty: none known
	Term      uint64          `json:"term"`
	Voters    []fabric.NodeID `json:"voters"`   // sorted
	Learners  []fabric.NodeID `json:"learners"` // sorted
	Committed uint64          `json:"committed"`
	Applied   uint64          `json:"applied"`
	First     uint64          `json:"first"`    // index of the oldest entry in the log
	Revision  uint64          `json:"revision"` // of the table as far as it is applied here
}

// Has says whether a node belongs to the table.
func (s Status) Has(id fabric.NodeID) bool {
	return slices.Contains(s.Voters, id) || slices.Contains(s.Learners, id)
}

// Status returns what this node knows now, without asking another one.
func (t *Table) Status() Status {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.status
	s.Voters, s.Learners = slices.Clone(s.Voters), slices.Clone(s.Learners)
	return s
}

// Add takes a node into the table, or changes its address. Any node of the table can be asked, any number of times. It returns when the
// node belongs to the table, as a learner at first; it gets the log, and a vote if one is due, once it runs.
//
// A node whose directory was lost must be removed before it is added again: a voter that forgot what it
// promised could make the table forget too.
func (t *Table) Add(ctx context.Context, id fabric.NodeID, address string) error {
	if _, err := raftID(id); err != nil {
		return err
	}
	if _, err := t.Put(ctx, MemberPrefix+string(id), []byte(address)); err != nil {
		return fmt.Errorf("cannot add node %s to the table: %w", id, err)
	}
	return t.await(ctx, func(s Status) bool { return s.Has(id) })
}

// Remove takes a node out of the table, also one that is gone for good. Any node of the table can be asked. It returns
// when the node does not belong to the table any more. The node that leaves can be asked too: then it returns when
// the others do not need it any more; it may be closed, and may never hear of its own removal.
func (t *Table) Remove(ctx context.Context, id fabric.NodeID) error {
	members, err := t.List(ctx, MemberPrefix)
	if err != nil {
		return fmt.Errorf("cannot remove node %s from the table: %w", id, err)
	}
	key := MemberPrefix + string(id)
	if len(members) == 1 && members[0].Key == key {
		return fmt.Errorf("cannot remove node %s from the table: %w", id, ErrLastNode)
	}
	if err := t.Delete(ctx, key, 0); err != nil {
		return fmt.Errorf("cannot remove node %s from the table: %w", id, err)
	}
	return t.await(ctx, func(s Status) bool {
		if id == t.config.Self {
			return !slices.Contains(s.Voters, id)
		}
		return !s.Has(id)
	})
}

// await waits until this node's status is as it should be.
func (t *Table) await(ctx context.Context, met func(Status) bool) error {
	for {
		t.mu.RLock()
		ok, changed := met(t.status), t.changed
		t.mu.RUnlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t.gaveUp(ctx.Err())
		case <-t.finished:
			return t.Err()
		}
	}
}

// publishStatus shows others how things are.
func (l *loop) publishStatus() {
	basic := l.node.BasicStatus()
	first, err := l.store.FirstIndex()
	if err != nil {
		first = 0 // the store's tail is in memory and has no errors
	}
	s := Status{
		Self:      l.t.config.Self,
		Term:      basic.GetTerm(),
		Committed: basic.GetCommit(),
		Applied:   l.store.Applied(),
		First:     first,
		Revision:  l.store.Machine().Revision(),
	}
	if basic.Lead != raft.None {
		s.Leader = nodeID(basic.Lead)
	}
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	s.Voters, s.Learners = l.t.status.Voters, l.t.status.Learners
	if conf := l.store.Conf(); conf != l.shown {
		l.shown = conf
		s.Voters = names(conf.GetVoters())
		s.Learners = names(conf.GetLearners(), conf.GetLearnersNext())
		close(l.t.changed)
		l.t.changed = make(chan struct{})
	}
	l.t.status = s
}

func names(lists ...[]uint64) []fabric.NodeID {
	ids := []fabric.NodeID{}
	for _, n := range slices.Sorted(slices.Values(slices.Concat(lists...))) {
		ids = append(ids, nodeID(n))
	}
	return ids
}

// group is what a leader remembers of the others.
type group struct {
	managed   uint64            // tick of the last look at the members
	revision  uint64            // of the table at that time
	heard     map[uint64]uint64 // tick at which a node was last heard of
	snapshots map[uint64]uint64 // tick at which a snapshot on its way is given up
}

// begin gives every node the benefit of the doubt under a new leader.
func (g *group) begin(now uint64) {
	clear(g.heard)
	clear(g.snapshots)
	g.managed, g.revision = now, 0
}

// manage is the leader's housekeeping: it notes who is there, repeats snapshots that got lost, and brings the
// configuration a step closer to the members in the table.
func (l *loop) manage() {
	if !l.leading {
		return
	}
	status := l.node.Status()
	for id, p := range status.Progress {
		if _, ok := l.group.heard[id]; !ok || p.RecentActive {
			l.group.heard[id] = l.now
		}
		l.checkSnapshot(id, p)
	}
	revision := l.store.Machine().Revision()
	if revision == l.group.revision && l.now-l.group.managed < electionTicks {
		return
	}
	l.group.managed, l.group.revision = l.now, revision
	l.reconfigure(status)
}

// checkSnapshot gives up a snapshot that a node should have confirmed by now, so that Raft sends another one.
func (l *loop) checkSnapshot(id uint64, p tracker.Progress) {
	deadline, ok := l.group.snapshots[id]
	switch {
	case !ok:
	case p.State != tracker.StateSnapshot:
		delete(l.group.snapshots, id)
	case l.now > deadline:
		delete(l.group.snapshots, id)
		l.node.ReportSnapshot(id, raft.SnapshotFailure)
	}
}

func (l *loop) reconfigure(status raft.Status) {
	if conf := l.store.Conf(); len(conf.GetVotersOutgoing()) > 0 {
		return // in the middle of a change, which Raft ends by itself
	}
	step := voters.Next(l.t.self, l.nodes(status))
	if step.TransferTo != 0 {
		l.node.TransferLeader(step.TransferTo)
		return
	}
	if len(step.Changes) == 0 {
		return
	}
	change := &raftpb.ConfChangeV2{}
	for _, c := range step.Changes {
		change.Changes = append(change.Changes, &raftpb.ConfChangeSingle{Type: confType(c.Kind).Enum(), NodeId: new(c.ID)})
	}
	// Raft turns a change that comes while another one is pending into nothing; the next look tries again.
	if err := l.node.ProposeConfChange(change); err != nil {
		l.t.config.Logger.Debug("configuration change dropped", "err", err)
	}
}

func confType(k voters.Kind) raftpb.ConfChangeType {
	switch k {
	case voters.Promote:
		return raftpb.ConfChangeAddNode
	case voters.Remove:
		return raftpb.ConfChangeRemoveNode
	case voters.Learn:
	}
	return raftpb.ConfChangeAddLearnerNode
}

// nodes joins who should be in the group with who is.
func (l *loop) nodes(status raft.Status) []voters.Node {
	known := map[uint64]*voters.Node{}
	node := func(id uint64) *voters.Node {
		if known[id] == nil {
			known[id] = &voters.Node{ID: id}
		}
		return known[id]
	}
	for _, id := range wanted(l.store.Machine()) {
		node(id).Wanted = true
	}
	for id, p := range status.Progress {
		n := node(id)
		n.Learner, n.Voter = p.IsLearner, !p.IsLearner
		n.CaughtUp = p.State == tracker.StateReplicate && p.Match+lag >= status.GetCommit()
		n.Active = l.now-l.group.heard[id] < awayTicks
	}
	all := make([]voters.Node, 0, len(known))
	for _, n := range known {
		all = append(all, *n)
	}
	return all
}

// wanted reads the members that the table should have.
func wanted(m *kv.Machine) []uint64 {
	var ids []uint64
	for _, e := range m.List(MemberPrefix) {
		// A key that somebody else put there and that names no node is nobody's.
		if id, err := raftID(fabric.NodeID(strings.TrimPrefix(e.Key, MemberPrefix))); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

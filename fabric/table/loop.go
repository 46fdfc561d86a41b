package table

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"orrery/fabric"
	"orrery/fabric/table/disk"
	"orrery/fabric/table/kv"
)

// batch bounds how many requests are taken in before Raft's next step, so that they share one sync of the disk.
const batch = 256

// loop is the one goroutine that runs Raft and writes to the disk. Nothing else touches what it holds.
type loop struct {
	t     *Table
	node  *raft.RawNode
	store *disk.Store

	now     uint64            // ticks so far
	shown   *raftpb.ConfState // whose members the published status has
	lead    uint64
	leading bool

	proposals proposals
	queries   queries
	group     group
}

func newLoop(t *Table, store *disk.Store) (*loop, error) {
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        t.self,
		ElectionTick:              electionTicks,
		HeartbeatTick:             1,
		Storage:                   store,
		Applied:                   store.Applied(),
		MaxSizePerMsg:             1 << 20,
		MaxCommittedSizePerReady:  4 << 20,
		MaxUncommittedEntriesSize: 16 << 20,
		MaxInflightMsgs:           64,
		CheckQuorum:               true,
		PreVote:                   true,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{t.config.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot start raft: %w", err)
	}
	l := &loop{t: t, node: node, store: store}
	l.proposals = proposals{client: t.self, incarnation: store.Incarnation(), next: 1, floor: 1, waiting: map[uint64]*write{}}
	l.queries = queries{self: t.self, incarnation: store.Incarnation()}
	l.group = group{heard: map[uint64]uint64{}, snapshots: map[uint64]uint64{}}
	l.publishStatus()
	return l, nil
}

// run drives Raft until the table is closed or the disk fails.
func (l *loop) run() {
	err := l.serve()
	if closing := l.store.Close(); closing != nil {
		l.t.config.Logger.Warn("cannot close the table's database", "err", closing)
	}
	if err == nil {
		err = fmt.Errorf("table: %w", fabric.ErrClosed)
	} else {
		l.t.config.Logger.Error("table stopped", "err", err)
	}
	l.t.mu.Lock()
	l.t.err = err
	l.t.mu.Unlock()
	l.t.hub.Close()
	close(l.t.finished)
}

func (l *loop) serve() (err error) {
	// Raft panics when its invariants are broken, for example by a peer that lost its disk. That ends this table
	// and not the services of the node.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("table stopped by a broken invariant: %v", p)
		}
	}()
	// A node that is alone need not wait for an election timeout.
	if c := l.store.Conf(); len(c.GetVoters()) == 1 && c.GetVoters()[0] == l.t.self {
		if err := l.node.Campaign(); err != nil {
			return fmt.Errorf("cannot campaign: %w", err)
		}
	}
	ticker := time.NewTicker(l.t.config.Tick)
	defer ticker.Stop()
	for {
		for l.node.HasReady() {
			if err := l.ready(); err != nil {
				return err
			}
		}
		l.publishStatus()
		select {
		case <-l.t.stopping:
			return nil
		case <-ticker.C:
			l.tick()
		case m := <-l.t.inbox:
			l.step(m)
		case w := <-l.acceptWrites():
			l.accept(w)
		case r := <-l.t.reads:
			l.queries.waiting = append(l.queries.waiting, r)
		}
		l.drain()
		l.ask()
	}
}

// acceptWrites is nil, so that writers wait, while too many writes are under way.
func (l *loop) acceptWrites() <-chan *write {
	if len(l.proposals.waiting) >= maxWrites {
		return nil
	}
	return l.t.writes
}

// drain takes in what else is there already.
func (l *loop) drain() {
	for range batch {
		select {
		case m := <-l.t.inbox:
			l.step(m)
		case w := <-l.acceptWrites():
			l.accept(w)
		case r := <-l.t.reads:
			l.queries.waiting = append(l.queries.waiting, r)
		default:
			return
		}
	}
}

func (l *loop) step(m *raftpb.Message) {
	if err := l.node.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		l.t.config.Logger.Debug("raft message refused", "from", nodeID(m.GetFrom()), "kind", m.GetType(), "err", err)
	}
}

func (l *loop) tick() {
	l.now++
	l.node.Tick()
	l.repropose(false)
	l.manage()
}

// ready carries out one round of what Raft wants: store, then send, then apply.
func (l *loop) ready() error {
	rd := l.node.Ready()
	var restored *kv.Machine
	if !raft.IsEmptySnap(rd.Snapshot) {
		var err error
		if restored, err = kv.Restore(rd.Snapshot.GetData()); err != nil {
			return fmt.Errorf("cannot use the leader's snapshot: %w", err)
		}
	}
	if err := l.store.Save(rd, restored); err != nil {
		return err
	}
	if restored != nil {
		l.replace(restored)
	}
	l.send(rd.Messages)
	if err := l.apply(rd.CommittedEntries); err != nil {
		return err
	}
	l.queries.answered(rd.ReadStates, l.store.Applied())
	if rd.SoftState != nil {
		l.follow(rd.SoftState)
	}
	l.node.Advance(rd)
	return nil
}

// follow notes a change of leader. What the old one may have lost is asked of the new one at once.
func (l *loop) follow(s *raft.SoftState) {
	changed := s.Lead != raft.None && s.Lead != l.lead
	l.lead, l.leading = s.Lead, s.RaftState == raft.StateLeader
	if changed {
		l.group.begin(l.now)
		l.queries.asked = 0
		l.repropose(true)
	}
}

func (l *loop) send(messages []*raftpb.Message) {
	for _, m := range messages {
		encoded, err := proto.Marshal(m)
		if err != nil {
			l.t.config.Logger.Warn("raft message not sent", "kind", m.GetType(), "err", err)
			continue
		}
		if m.GetType() == raftpb.MsgSnap {
			patience := uint64(electionTicks * (10 + len(encoded)>>20))
			l.group.snapshots[m.GetTo()] = l.now + patience
		}
		l.t.config.Transport.Send(nodeID(m.GetTo()), encoded)
	}
}

// replace makes a snapshot of the leader the state of this node.
func (l *loop) replace(restored *kv.Machine) {
	l.t.mu.Lock()
	defer l.t.mu.Unlock()
	changed := restored.Difference(l.t.machine)
	l.t.machine = restored
	l.t.hub.Publish(fabric.Change{Entries: changed, Revision: restored.Revision()})
	l.answerFrom(restored)
}

// apply carries out committed entries and answers those who wait for them.
func (l *loop) apply(entries []*raftpb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	change := disk.Change{
		Applied: entries[len(entries)-1].GetIndex(),
		Entries: map[string]fabric.Entry{},
		Clients: map[uint64]struct{}{},
	}
	var answers []func()
	l.t.mu.Lock()
	for _, e := range entries {
		answer, err := l.applyEntry(e, &change)
		if err != nil {
			l.t.mu.Unlock()
			return fmt.Errorf("cannot apply log entry %d: %w", e.GetIndex(), err)
		}
		if answer != nil {
			answers = append(answers, answer)
		}
	}
	if len(change.Entries) > 0 {
		l.t.hub.Publish(fabric.Change{Entries: slices.Collect(maps.Values(change.Entries)), Revision: l.t.machine.Revision()})
	}
	l.t.mu.Unlock()
	if err := l.store.SaveApplied(change); err != nil {
		return err
	}
	for _, answer := range answers {
		answer()
	}
	return l.store.Trim()
}

// applyEntry applies one entry; the caller holds the table's lock and calls what it returns without it.
func (l *loop) applyEntry(e *raftpb.Entry, change *disk.Change) (func(), error) {
	switch {
	case e.GetType() != raftpb.EntryNormal:
		conf, err := l.applyConf(e)
		change.Conf = conf
		return nil, err
	case len(e.GetData()) == 0:
		return nil, nil // a new leader's first entry
	}
	c, err := kv.DecodeCommand(e.GetData())
	if err != nil {
		return nil, err
	}
	result, changed := l.t.machine.Apply(c)
	change.Clients[c.Client] = struct{}{}
	if changed != nil {
		change.Entries[changed.Key] = *changed
	}
	return l.proposals.applied(c, result), nil
}

func (l *loop) applyConf(e *raftpb.Entry) (*raftpb.ConfState, error) {
	var conf raftpb.ConfChangeI = &raftpb.ConfChangeV2{}
	if e.GetType() == raftpb.EntryConfChange {
		conf = &raftpb.ConfChange{}
	}
	if err := proto.Unmarshal(e.GetData(), conf.(proto.Message)); err != nil { //nolint:forcetypeassert // both are messages
		return nil, fmt.Errorf("configuration change: %w", err)
	}
	return l.node.ApplyConfChange(conf), nil
}

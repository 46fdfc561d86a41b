package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
	"orrery/internal/fault"
)

// What the chain table's keeper and its reporter want of a node.

// measureEvery is how often the size of a replica, and where to cut it, are looked for.
const measureEvery = 5 * time.Second

// figures are what a replica is measured by.
type figures struct {
	at            replica.Instant
	reads, writes uint64 // as of at
	report        placement.Replica
}

// Reports says how the replicas are that have something on the disk.
func (n *Node) Reports() []placement.Replica {
	all := *n.runners.Load()
	reports := make([]placement.Replica, 0, len(all))
	for _, id := range slices.Sorted(maps.Keys(all)) {
		reports = append(reports, all[id].report())
	}
	return reports
}

// report says how the replica is, with figures that may be some seconds old.
func (r *runner) report() placement.Replica {
	status := r.status()
	r.mu.RLock()
	failed, scope := r.failed, r.scope
	r.mu.RUnlock()
	r.fmu.Lock()
	defer r.fmu.Unlock()
	now := r.node.Now()
	if f := &r.figures; f.at == 0 || now-f.at >= measureEvery {
		reads, writes := r.readCount.Load(), r.writeCount.Load()
		if passed := (now - f.at).Seconds(); f.at > 0 {
			f.report.Reads, f.report.Writes = float64(reads-f.reads)/passed, float64(writes-f.writes)/passed
		}
		f.at, f.reads, f.writes = now, reads, writes
		r.measure(&f.report, scope)
	}
	report := r.figures.report
	report.Status, report.Clean = status, r.clean
	report.Chain, report.Self = r.id, r.node.config.Self // also before it has a config
	if failed != nil {
		report.Failed = failed.Error()
	}
	return report
}

// measure looks for the size, and for a key that cuts it in two. What cannot be found out is left out: it is a hint.
func (r *runner) measure(report *placement.Replica, scope chain.Range) {
	size, err := r.store.Size()
	if err != nil {
		return
	}
	report.Bytes = size
	if report.Split, err = r.store.Middle(scope); err != nil {
		report.Split = nil
	}
}

// Drop deletes what the disk has of a chain.
func (n *Node) Drop(id chain.ID) error {
	n.mu.Lock()
	r := n.runner(id)
	if r != nil {
		next := maps.Clone(*n.runners.Load())
		delete(next, id)
		n.runners.Store(&next)
	}
	n.mu.Unlock()
	if r != nil {
		if err := r.close(); err != nil {
			return fmt.Errorf("chain %d: %w", id, err)
		}
	}
	if err := n.config.Disk.Remove(id); err != nil {
		return fmt.Errorf("chain %d: %w", id, err)
	}
	return nil
}

// Part makes this node's replica of a chain that is split off from another one, as soon as that can be done.
func (n *Node) Part(from chain.ID, s placement.Split) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.runner(from)
	if n.closed || r == nil || n.runner(s.Child) != nil || n.parting[s.Child] {
		return
	}
	n.parting[s.Child] = true
	n.work.Go(func() {
		defer func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			delete(n.parting, s.Child)
		}()
		if err := r.part(s); err != nil {
			r.broken(err)
		}
	})
}

// part waits until the boundary is applied and makes the new replica of what is there. If the replica is stopped before, or is in no config with
// the boundary any more, that is no error: Part is called again.
func (r *runner) part(s placement.Split) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	for asked := 0; ; asked++ {
		status := r.status()
		if status.Epoch >= s.Epoch {
			sequence, epoch, ok, err := r.parting(s)
			if err != nil {
				return err
			}
			if ok {
				return r.parted(s, sequence, epoch)
			}
			if asked%20 == 0 {
				r.boundary()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// parted makes the new replica, unless this one was stopped meanwhile.
func (r *runner) parted(s placement.Split, sequence, epoch uint64) error {
	r.pmu.Lock()
	defer r.pmu.Unlock()
	if r.ctx.Err() != nil {
		return nil
	}
	if err := fault.Point("chain.part"); err != nil {
		return err
	}
	if err := errors.Join(r.store.Part(s.Child, s.Range, sequence, epoch), fault.Point("chain.parted")); err != nil {
		return err
	}
	_, err := r.node.add(s.Child)
	return err
}

// parting is the entry as of which a chain is split off; ok is false if it is not applied.
func (r *runner) parting(s placement.Split) (sequence, epoch uint64, ok bool, err error) {
	r.mu.RLock()
	line := r.config.Line
	r.mu.RUnlock()
	if line.Epoch > s.Epoch { // it began anew since then: with this replica alone, and without entries of before
		return line.Sequence, line.Epoch, r.applied.Load() >= line.Sequence, nil
	}
	return r.store.Boundary(s.Epoch, r.applied.Load())
}

// boundary asks for an entry without changes. Only a head can take it.
func (r *runner) boundary() {
	var client [8]byte
	_, _ = rand.Read(client[:])
	command := chain.Command{Client: binary.BigEndian.Uint64(client[:]) | 1, Request: 1, Floor: 1}
	_ = r.inbox.put(input{write: &writing{command: command}}, 64, false) // if there is no room there are other entries
}

// leavings are keys in a replica's store that are another chain's. It has them if it was away while the chain was split: what it had then stayed, and the log may have had more.
type leavings struct {
	settled bool        // nothing of the chain is being split off. Otherwise, and where that is not known, its part is perhaps yet to be made
	kept    chain.Range // out of this range nothing is left
	up      uint64      // nothing comes any more once this is applied; 0: that is not known
	release func()      // of the log; nil: it need not be kept
}

// keepLog sees to it that the log reaches back to the boundary while the chain is split, also where the process ends before the part is made.
func (r *runner) keepLog(on bool) {
	switch l := &r.spare; {
	case on && l.release == nil:
		l.release = r.store.Hold()
	case !on && l.release != nil:
		l.release()
		l.release = nil
	}
}

// tidy removes keys that are another chain's, once no split is under way and what the replica had missed is applied. They would do no harm but for their size, and that they expire.
func (r *runner) tidy() error {
	s := r.core.Status()
	l := &r.spare
	switch {
	case !l.settled || !s.Linked || s.State != chain.Serving || l.kept.Includes(r.scope) && r.scope.Includes(l.kept):
		l.up = 0
		return nil
	case l.up == 0:
		l.up = max(s.Last, 1)
	}
	if s.Committed < l.up {
		return nil
	}
	l.kept, l.up = r.scope, 0
	return r.store.Keep(r.scope)
}

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
	"orrery/internal/clock"
	"orrery/internal/fault"
)

// pieceSize is about how many bytes of state one piece of a copy has.
const pieceSize = 256 << 10

// copy sends a copy of the state to a successor that is too far behind for the log, over a connection of its own.
func (r *runner) copy(c replica.Copy) {
	release := r.store.Hold()
	r.work.Go(func() {
		defer release()
		begun := time.Now()
		err := r.sendCopy(c)
		log := r.node.config.Logger
		if err != nil && r.ctx.Err() == nil {
			log.WarnContext(r.ctx, "copy of a chain not sent", "chain", uint64(r.id), "to", c.To.Node, "error", err)
			clock.Wait(r.ctx, pause) // it will be asked for again
		} else if err == nil {
			log.InfoContext(r.ctx, "copy of a chain sent", "chain", uint64(r.id), "to", c.To.Node, "took", time.Since(begun))
			clock.Wait(r.ctx, r.node.config.ResendAfter) // what follows is kept until the receiver has said hello
		}
		_ = r.inbox.put(input{copied: &c.To}, 0, true)
	})
}

func (r *runner) sendCopy(c replica.Copy) error {
	view, err := r.store.View()
	if err != nil {
		return err
	}
	defer view.Close()
	dial, cancel := context.WithTimeout(r.ctx, 2*time.Second)
	raw, err := r.node.config.Dial(dial, c.To.Node)
	cancel()
	if err != nil {
		return err
	}
	to := conn.New(raw, conn.Config{Framing: wire.Framing, Room: 4 * pieceSize, WriteTimeout: 10 * time.Second})
	defer func() { _ = to.Close() }()
	defer context.AfterFunc(r.ctx, func() { to.End(fabric.ErrClosed) })()
	ended := make(chan struct{})
	go func() { // the receiver ends the connection when it has all
		defer close(ended)
		for {
			if _, err := to.Read(); err != nil {
				return
			}
		}
	}()
	defer func() { to.End(fabric.ErrClosed); <-ended }()
	head := wire.Copy{Chain: r.id, Epoch: c.Epoch, From: r.node.config.Self, To: c.To, Applied: view.Applied(), AppliedEpoch: view.AppliedEpoch()}
	send := func(records []wire.Record) error {
		if err := fault.Point("chain.copy.piece"); err != nil {
			return err
		}
		head.Records = records
		frame := wire.AppendCopy(nil, &head)
		head.Piece++
		if err := to.Write(frame); err != nil {
			return err
		}
		if !clock.Wait(r.ctx, time.Duration(float64(len(frame))/float64(r.node.config.CopyRate)*float64(time.Second))) {
			return r.ctx.Err()
		}
		return nil
	}
	if err := view.Records(pieceSize, send); err != nil {
		return err
	}
	head.Last = true
	if err := send(nil); err != nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(time.Minute):
		return errors.New("the receiver does not say that it has all")
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// incoming is a copy that a session receives.
type incoming struct {
	head wire.Copy
	next uint64
	disk *disk.Incoming
}

// takeCopy takes a piece of a copy. After the last one it ends the connection.
func (s *session) takeCopy(frame []byte) error {
	c, err := wire.DecodeCopy(frame)
	if err != nil {
		return err
	}
	if c.From.Node != s.who.ID || c.To != s.node.config.Self {
		return fmt.Errorf("%w: a copy from node %s to node %s", fabric.ErrForbidden, c.From.Node, c.To.Node)
	}
	r := s.node.runner(c.Chain)
	if r == nil || !r.wantsCopy(c) {
		s.node.metrics.refused.WithLabelValues("epoch").Inc()
		return fmt.Errorf("chain %d: no copy is wanted in epoch %d", c.Chain, c.Epoch)
	}
	in, err := s.addCopy(c)
	if err != nil || !c.Last {
		return err
	}
	s.copy = nil
	if err := s.node.install(r, in); err != nil {
		return err
	}
	return errCopied
}

// addCopy puts a piece to what came before it. There is one place for copies of a chain, and the newest copy has it.
func (s *session) addCopy(c *wire.Copy) (*incoming, error) {
	n := s.node
	n.cmu.Lock()
	defer n.cmu.Unlock()
	if s.copy == nil {
		begun, err := n.config.Disk.Receive(c.Chain)
		if err != nil {
			return nil, err
		}
		s.copy = &incoming{head: *c, disk: begun}
		n.receiving[c.Chain] = s.copy
	}
	in := s.copy
	if n.receiving[c.Chain] != in {
		return nil, fmt.Errorf("chain %d: another copy has begun", c.Chain)
	}
	if c.Chain != in.head.Chain || c.Epoch != in.head.Epoch || c.From != in.head.From || c.Applied != in.head.Applied || c.Piece != in.next {
		return nil, fmt.Errorf("%w: piece %d of another copy", chain.ErrCorrupt, c.Piece)
	}
	in.next++
	return in, in.disk.Add(c.Records)
}

// errCopied ends a connection whose copy is complete.
var errCopied = errors.New("the copy is complete")

// wantsCopy says whether the replica is being filled in that epoch by that predecessor. Only such a one can be replaced: it has promised nothing.
func (r *runner) wantsCopy(c *wire.Copy) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	members := r.config.Members
	n := len(members)
	return r.failed == nil && r.config.Epoch == c.Epoch && n > 1 && members[n-2].Replica == c.From &&
		members[n-1] == chain.Member{Replica: r.node.config.Self, State: chain.Syncing}
}

// install lets a complete copy take the place of a replica's store, and the replica begin anew with it.
func (n *Node) install(r *runner, in *incoming) error {
	r.mu.RLock()
	config := r.config
	r.mu.RUnlock()
	fresh, err := n.replace(r, func() error { return in.disk.Complete(in.head.Applied, in.head.AppliedEpoch) })
	if err != nil {
		return fmt.Errorf("chain %d: copy not taken over: %w", r.id, err)
	}
	n.mu.Lock()
	for _, newest := range n.chains.Chains { // one may have come meanwhile
		if newest.ID == r.id {
			config = newest
		}
	}
	settled := slices.Contains(n.chains.Settled, r.id)
	n.mu.Unlock()
	fresh.configure(config, settled)
	return nil
}

// replace stops a replica, changes its store, and opens it anew.
func (n *Node) replace(r *runner, change func() error) (*runner, error) {
	n.rmu.Lock()
	defer n.rmu.Unlock()
	if n.runner(r.id) != r {
		return nil, chain.ErrNotServing
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	err := change()
	fresh, err2 := n.openRunner(r.id)
	if err := errors.Join(err, err2); err != nil {
		r.fail(err) // it has ended, and has to say so
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.runner(r.id) != r {
		return nil, errors.Join(fabric.ErrClosed, fresh.close())
	}
	next := maps.Clone(*n.runners.Load())
	next[r.id] = fresh
	n.runners.Store(&next)
	return fresh, nil
}

// renew lets a replica with which an operator begins its chain anew do so. If the chain begins empty, the part of it that is yet to be split off does, too: what
// was made before is of what the operator gave up.
func (n *Node) renew(r *runner, c chain.Config, child chain.ID) (*runner, error) {
	if r.born >= c.Line.Epoch || !slices.Contains(c.Members, chain.Member{Replica: n.config.Self, State: chain.Serving}) {
		return r, nil
	}
	n.config.Logger.Warn("chain begins anew with what this node has of it, as an operator wishes", "chain", uint64(r.id), "empty", c.Line.Empty)
	fresh, err := n.replace(r, func() error {
		if c.Line.Empty && child != 0 {
			if err := n.Drop(child); err != nil {
				return err
			}
		}
		return n.config.Disk.Renew(r.id, c.Line)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot begin anew: %w", err)
	}
	return fresh, nil
}

package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/internal/fault"
)

// patience is how long a step of the table may take before it is tried again.
const patience = 5 * time.Second

// parallel is how many writes are under way at a time.
const parallel = 32

// reign is the time in which this node is keeper.
type reign struct {
	keeper  *Keeper
	state   *placement.Keeper
	record  placement.KeeperRecord
	waiters map[fabric.NodeID]waiter

	ctx        context.Context //nolint:containedctx // of the reign
	work       sync.WaitGroup
	slots      chan struct{}
	events     chan func() error // what goroutines of the reign have to say
	news       bool              // something happened since the last confirmation began
	confirming bool
}

// reign keeps the chain table until another keeper begins, this node does not lead any more, or ctx ends.
func (k *Keeper) reign(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	now := &reign{
		keeper: k, waiters: map[fabric.NodeID]waiter{}, ctx: ctx, slots: make(chan struct{}, parallel), events: make(chan func() error, 2*parallel),
	}
	defer now.work.Wait()
	defer cancel()
	changes, err := now.begin()
	if err != nil {
		return err
	}
	k.config.Logger.InfoContext(ctx, "this node keeps the chain table", "generation", now.record.Generation)
	over := make(chan struct{})
	defer close(over)
	k.announce(over)
	defer k.announce(nil)
	return now.run(changes)
}

func (now *reign) clock() placement.Instant { return time.Since(now.keeper.begun) }

// begin makes this node the keeper.
func (now *reign) begin() (<-chan fabric.Change, error) {
	ctx, cancel := context.WithTimeout(now.ctx, patience)
	defer cancel()
	c := now.keeper.config
	last, err := c.Table.Get(ctx, placement.KeeperKey)
	if err != nil && !errors.Is(err, fabric.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		if now.record, err = placement.DecodeKeeper(last.Value); err != nil {
			return nil, err
		}
	}
	now.record = placement.KeeperRecord{Generation: now.record.Generation + 1, Node: c.Self}
	if _, err := c.Table.CompareAndSwap(ctx, placement.KeeperKey, last.Revision, now.record.Encode()); err != nil {
		return nil, err
	}
	entries, err := c.Table.List(ctx, placement.Prefix)
	if err != nil {
		return nil, err
	}
	if now.state, err = placement.New(c.Placement, now.record, now.clock(), entries); err != nil {
		return nil, err
	}
	return c.Table.Watch(now.ctx, placement.Prefix)
}

func (now *reign) run(changes <-chan fabric.Change) error {
	tick := time.NewTicker(now.keeper.config.Tick)
	defer tick.Stop()
	for {
		var err error
		select {
		case <-now.ctx.Done():
			return now.ctx.Err()
		case what := <-now.keeper.inbox:
			what(now)
			now.news = true
		case event := <-now.events:
			err = event()
		case c, ok := <-changes:
			if !ok {
				return fmt.Errorf("the table is closed: %w", fabric.ErrClosed)
			}
			err = now.observe(c)
		case <-tick.C:
			now.news = true
			if !now.keeper.config.Leads() {
				return ErrNotKeeper
			}
		}
		if err != nil {
			return err
		}
		now.confirm()
	}
}

func (now *reign) observe(c fabric.Change) error {
	for _, e := range c.Entries {
		if err := now.state.Observe(e); err != nil {
			return err
		}
	}
	now.news = true
	return nil
}

// confirm reads the clock, makes sure that this is the keeper, and then decides as of that reading.
func (now *reign) confirm() {
	if !now.news || now.confirming {
		return
	}
	now.news, now.confirming = false, true
	asOf := now.clock()
	now.work.Go(func() {
		ctx, cancel := context.WithTimeout(now.ctx, patience)
		defer cancel()
		e, err := now.keeper.config.Table.Get(ctx, placement.KeeperKey)
		now.tell(func() error {
			now.confirming = false
			if err != nil {
				return nil //nolint:nilerr // no majority: nothing is decided
			}
			record, err := placement.DecodeKeeper(e.Value)
			switch {
			case err != nil:
				return err
			case record != now.record:
				return placement.DeposedError{Generation: record.Generation}
			}
			now.step(asOf)
			return nil
		})
	})
}

func (now *reign) tell(event func() error) {
	select {
	case now.events <- event:
	case <-now.ctx.Done():
	}
}

func (now *reign) step(asOf placement.Instant) {
	out := now.state.Step(asOf, time.Now().UnixMilli())
	for _, g := range out.Grants {
		if w := now.waiters[g.Node]; w.answer != nil && w.incarnation == g.Incarnation {
			w.answer <- &g
			delete(now.waiters, g.Node)
		}
	}
	for _, c := range out.Changes {
		now.write(c, nil)
	}
}

// write does a change, and tells how it ended.
func (now *reign) write(c placement.Change, done chan<- error) {
	now.work.Go(func() {
		select {
		case now.slots <- struct{}{}:
			defer func() { <-now.slots }()
		case <-now.ctx.Done():
			return
		}
		err := fault.Point("keeper.write")
		var revision uint64
		if err == nil {
			revision, err = now.swap(c)
		}
		err = errors.Join(err, fault.Point("keeper.written"))
		if err == nil {
			now.keeper.config.Logger.InfoContext(now.ctx, "chain table changed", "change", c.Reason)
			now.tell(func() error {
				now.state.Written(c.Key, revision)
				now.news = true
				finish(done, nil)
				return nil
			})
			return
		}
		now.reload(c.Key)
		finish(done, err)
	})
}

// finish tells whoever waits for a write, if somebody does.
func finish(done chan<- error, err error) {
	if done != nil {
		done <- err
	}
}

func (now *reign) swap(c placement.Change) (uint64, error) {
	ctx, cancel := context.WithTimeout(now.ctx, patience)
	defer cancel()
	if c.Value == nil {
		return 0, now.keeper.config.Table.Delete(ctx, c.Key, c.Revision)
	}
	return now.keeper.config.Table.CompareAndSwap(ctx, c.Key, c.Revision, c.Value)
}

// reload takes over what a key has, after a write of which nobody knows how it ended.
func (now *reign) reload(key string) {
	for now.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(now.ctx, patience)
		e, err := now.keeper.config.Table.Get(ctx, key)
		cancel()
		if err != nil && !errors.Is(err, fabric.ErrNotFound) {
			continue // waited for the table already
		}
		now.tell(func() error {
			now.news = true
			return now.state.Load(fabric.Entry{Key: key, Value: e.Value, Revision: e.Revision})
		})
		return
	}
}

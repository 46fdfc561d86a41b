// Package keeper runs the chain table: on the node that leads fabric.Table a Keeper, which grants leases and changes the records of
// chains as placement decides; on every node a Reporter, which tells the keeper how the node's replicas are, and tells them their configs and leases.
//
// The Keeper owns its goroutine and those of the writes that are under way; Run waits for them. All of placement's rules on who is
// keeper are kept here, see the comment of that package.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// ErrNotKeeper says that another node keeps the chain table, or nobody at the moment.
var ErrNotKeeper = errors.New("not the keeper of the chain table")

// Config is what a Keeper needs.
type Config struct {
	Self  fabric.NodeID
	Table fabric.Table
	// Leads says whether this node leads the table, as far as it knows. It is a hint: the records say who the keeper is.
	Leads     func() bool
	Placement placement.Config
	Tick      time.Duration // how often decisions are made without a reason; 0: 50 ms
	Logger    *slog.Logger  // nil: discard
}

// Keeper is this node's part in keeping the chain table.
type Keeper struct {
	config Config
	begun  time.Time
	inbox  chan func(*reign) // of the reign, if there is one

	mu   sync.Mutex
	over <-chan struct{} // of the reign; nil: there is none
}

// New makes a keeper that does nothing before Run.
func New(c Config) *Keeper {
	if c.Tick == 0 {
		c.Tick = 50 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keeper{config: c, begun: time.Now(), inbox: make(chan func(*reign))}
}

// Run keeps the chain table whenever this node leads the table, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.config.Tick)
	defer tick.Stop()
	for {
		if k.config.Leads() {
			if err := k.reign(ctx); err != nil && ctx.Err() == nil {
				k.config.Logger.WarnContext(ctx, "chain table not kept by this node any more", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// do runs something in the reign's goroutine. over is closed when the reign ends.
func (k *Keeper) do(ctx context.Context, what func(*reign)) (over <-chan struct{}, err error) {
	k.mu.Lock()
	over = k.over
	k.mu.Unlock()
	if over == nil {
		return nil, ErrNotKeeper
	}
	select {
	case k.inbox <- what:
		return over, nil
	case <-over:
		return nil, ErrNotKeeper
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (k *Keeper) announce(over <-chan struct{}) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = over
}

// Report takes what a node says, and returns the grant that answers it.
func (k *Keeper) Report(ctx context.Context, r *placement.Report) (*placement.Grant, error) {
	answer := make(chan *placement.Grant, 1)
	over, err := k.do(ctx, func(now *reign) {
		now.state.Report(now.clock(), *r)
		now.waiters[r.Node] = waiter{r.Incarnation, answer}
	})
	if err != nil {
		return nil, err
	}
	select {
	case g := <-answer:
		return g, nil
	case <-over:
		return nil, fmt.Errorf("the report is not answered: %w", ErrNotKeeper)
	case <-ctx.Done():
		return nil, fmt.Errorf("the report is not answered, the table has perhaps no majority: %w", ctx.Err())
	}
}

// waiter is a node that waits for its grant.
type waiter struct {
	incarnation uint64
	answer      chan *placement.Grant
}

// order runs a command of an operator, and waits until it is written.
func (k *Keeper) order(ctx context.Context, command func(*placement.Keeper, placement.Instant) (placement.Change, error)) error {
	done := make(chan error, 1)
	over, err := k.do(ctx, func(now *reign) {
		c, err := command(now.state, now.clock())
		if err != nil || c.Key == "" { // nothing is to be written
			done <- err
			return
		}
		now.write(c, done)
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-over:
		return fmt.Errorf("nobody knows whether it was done: %w", ErrNotKeeper)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CreateBucket creates a bucket with the name, factor, durability and partitions of b. Its chains come soon after; Anywhere waits for them.
func (k *Keeper) CreateBucket(ctx context.Context, b placement.Bucket) error {
	b.Created = time.Now().UnixMilli()
	return k.order(ctx, func(p *placement.Keeper, _ placement.Instant) (placement.Change, error) { return p.CreateBucket(b) })
}

// DeleteBucket deletes a bucket and all its keys.
func (k *Keeper) DeleteBucket(ctx context.Context, name string) error {
	return k.order(ctx, func(p *placement.Keeper, _ placement.Instant) (placement.Change, error) { return p.DeleteBucket(name) })
}

// Move begins to move a chain's replica to another node.
func (k *Keeper) Move(ctx context.Context, id chain.ID, from, to fabric.NodeID) error {
	return k.order(ctx, func(p *placement.Keeper, now placement.Instant) (placement.Change, error) {
		return p.Move(now, id, from, to)
	})
}

// Split begins to split a chain at a key.
func (k *Keeper) Split(ctx context.Context, id chain.ID, key []byte) error {
	return k.order(ctx, func(p *placement.Keeper, now placement.Instant) (placement.Change, error) {
		return p.Split(now, id, key)
	})
}

// Drain says whether a node is to hold no replicas.
func (k *Keeper) Drain(ctx context.Context, id fabric.NodeID, drain bool) error {
	return k.order(ctx, func(p *placement.Keeper, _ placement.Instant) (placement.Change, error) { return p.Drain(id, drain) })
}

// Recover lets a chain begin anew of which those that served are lost, or says what that would mean.
func (k *Keeper) Recover(ctx context.Context, q placement.RecoverRequest) (*placement.Recovery, error) {
	answer := new(placement.Recovery)
	err := k.order(ctx, func(p *placement.Keeper, now placement.Instant) (c placement.Change, err error) {
		*answer, c, err = p.Recover(now, q)
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// Overview is how all buckets, chains and nodes are.
func (k *Keeper) Overview(ctx context.Context) (*placement.Overview, error) {
	answer := make(chan *placement.Overview, 1)
	if _, err := k.do(ctx, func(now *reign) { answer <- new(now.state.Overview(now.clock())) }); err != nil {
		return nil, err
	}
	return <-answer, nil // the reign took it, so it runs it
}

package keeper

import (
	"context"
	"errors"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/internal/clock"
)

const (
	askPatience  = 1200 * time.Millisecond // for the keeper's answer; a new one is there in about a second
	pingPatience = 500 * time.Millisecond
)

// Last is what a node needs to say what it knew last of the chain table.
type Last struct {
	Table  fabric.Table
	Voters func() []fabric.NodeID // of the table, as far as this node knows
	Heard  func() time.Time       // when there was a keeper last
	Ping   func(ctx context.Context, id fabric.NodeID) error
}

// Known is Overview, or, where the keeper cannot be asked, what this node knew last, with Stale.
func (a *Anywhere) Known(ctx context.Context) (*placement.Overview, error) {
	asking, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	for {
		o, err := a.Overview(asking)
		switch {
		case err == nil || ctx.Err() != nil || errors.Is(err, fabric.ErrForbidden):
			return o, err
		case errors.Is(err, ErrNotKeeper) && clock.Wait(asking, 50*time.Millisecond):
			continue // a new one may be coming
		}
		return a.Last.overview(ctx, err)
	}
}

// overview is what this node knew last; why is the error that the keeper could not be asked by.
func (l *Last) overview(ctx context.Context, why error) (*placement.Overview, error) {
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	changes, err := l.Table.Watch(ctx, placement.Prefix)
	if err != nil {
		return nil, err
	}
	o, err := placement.FromRecords((<-changes).Entries)
	if err != nil {
		return nil, err
	}
	o.Stale = &placement.Stale{Why: why.Error(), Since: l.Heard()}
	voters := l.Voters()
	o.Stale.Voters = make([]placement.Voter, len(voters))
	var pings sync.WaitGroup
	for i, id := range voters {
		pings.Go(func() {
			v := placement.Voter{Node: id, Answers: true}
			if err := l.Ping(ctx, id); err != nil {
				v.Answers, v.Why = false, err.Error()
			}
			o.Stale.Voters[i] = v
		})
	}
	pings.Wait()
	return &o, nil
}

// Heard says when a keeper answered this node's report last; the zero time: none has.
func (p *Reporter) Heard() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.grant.ID.Number == 0 {
		return time.Time{}
	}
	return time.Now().Add(p.sent - p.config.Replicas.Now()).UTC()
}

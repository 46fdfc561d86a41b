package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"orrery/state"
)

// pauseFor is how long a pause of writers lasts that nobody renews.
const pauseFor = 30 * time.Second

// pauses counts who wants writers paused, by the server's address.
type pauses struct {
	mu    sync.Mutex
	count map[string]int
}

// change adds to a count, and calls do while nobody else does.
func (p *pauses) change(address string, by int, do func(count int) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == nil {
		p.count = map[string]int{}
	}
	p.count[address] += by
	return do(p.count[address])
}

// Quiesce pauses whoever writes to the server (CLIENT PAUSE ... WRITE, https://redis.io/docs/latest/commands/client-pause/), in its
// other databases, too: a server cannot pause one. The pause is renewed until resume; without, it ends by itself.
func (m *Module) Quiesce(ctx context.Context, t state.Target) (resume func(context.Context) error, err error) {
	var address string
	pause := func(ctx context.Context) error {
		return m.with(ctx, t, "keep still", func(d *database) error {
			_, address = d.server.address()
			return d.explain(d.session.do(ctx, "CLIENT", "PAUSE", pauseFor.Milliseconds(), "WRITE").Err())
		})
	}
	if err := pause(ctx); err != nil {
		return nil, err
	}
	_ = m.pauses.change(address, 1, func(int) error { return nil })
	renewing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	renewed := make(chan error, 1)
	go func() { renewed <- renew(renewing, pause) }()
	return func(ctx context.Context) error {
		cancel()
		lapsed := <-renewed
		return errors.Join(lapsed, m.pauses.change(address, -1, func(count int) error {
			if count > 0 {
				return nil
			}
			return m.with(ctx, t, "let go on", func(d *database) error {
				return d.explain(d.session.do(ctx, "CLIENT", "UNPAUSE").Err())
			})
		}))
	}, nil
}

// renew goes on pausing until ctx ends, or says why it could not.
func renew(ctx context.Context, pause func(context.Context) error) error {
	tick := time.NewTicker(pauseFor / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := pause(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("clients may have written again: %w", err)
			}
		}
	}
}

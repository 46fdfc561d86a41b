package agent

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"orrery/deploy"
	"orrery/fabric/rpc"
)

// settle brings the node back to what the table says, and then keeps house: operations whose
// coordinator is gone, and snapshots that are due.
func (n *Node) settle(ctx context.Context) error {
	if err := n.base.Ready(ctx); err != nil {
		return err
	}
	if err := n.boot(ctx); err != nil {
		return err
	}
	tending, ctx := errgroup.WithContext(ctx)
	tending.Go(func() error { return n.engine.Tend(ctx) })
	tending.Go(func() error { return n.sweep(ctx) })
	tending.Go(func() error { return n.keepSchedule(ctx) })
	return tending.Wait()
}

// sweep ends what has expired until ctx ends: forks and leases.
func (n *Node) sweep(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		if err := n.local.keeper.Sweep(ctx); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "cannot sweep", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// enroll asks another node to take this one into the table.
func (n *Node) enroll(ctx context.Context, to *rpc.Peer, address string) error {
	return tell(ctx, target{peer: to}, procEnroll, &EnrollRequest{address, canShare() == nil})
}

// retry repeats something that fails while the cluster is not there yet, until ctx ends.
func retry(ctx context.Context, do func(context.Context) error, failed func(error)) error {
	pause := 50 * time.Millisecond
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := do(attempt)
		cancel()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		failed(err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// boot activates what the table still gives to this node, and points traffic to it.
func (n *Node) boot(ctx context.Context) error {
	err := retry(ctx, func(ctx context.Context) error {
		own, err := n.owns(ctx)
		if err != nil {
			return err
		}
		if err := n.local.keeper.Boot(ctx, own); err != nil {
			n.log.ErrorContext(ctx, "some components could not be brought back", "error", err)
		}
		return nil
	}, func(err error) { n.log.InfoContext(ctx, "waiting for the table", "error", err) })
	if err != nil {
		return err
	}
	if err := n.engine.Resume(ctx, n.logEvent); err != nil && ctx.Err() == nil {
		n.log.ErrorContext(ctx, "some services could not be brought back", "error", err)
	}
	return nil
}

func (n *Node) logEvent(e deploy.Event) {
	if e.Done {
		n.log.Info("recovery", "service", e.Service, "action", e.Action, "error", e.Err)
	}
}

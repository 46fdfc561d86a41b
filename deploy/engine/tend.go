package engine

import (
	"context"
	"errors"
	"slices"

	"orrery/deploy"
)

// Tend looks after interrupted operations until ctx ends: it recovers manifests whose journal nobody renews, and
// clears nodes that are back. Every node may run it; one of them does the work. It returns nil.
func (e *Engine) Tend(ctx context.Context) error {
	for ctx.Err() == nil {
		names, err := e.Manifests(ctx)
		if err != nil && ctx.Err() == nil {
			e.Logger.WarnContext(ctx, "cannot look for interrupted operations", "err", err)
		}
		for _, name := range names {
			err := e.Recover(ctx, name, nil)
			if err != nil && !errors.Is(err, deploy.ErrBusy) && ctx.Err() == nil {
				e.Logger.WarnContext(ctx, "interrupted operation is not at its end yet", "manifest", name, "err", err)
			}
		}
		_ = wait(ctx, 2*e.Lease) // its error is that ctx ended
	}
	return nil
}

// pending says whether a journal holds something that can be done now.
func (e *Engine) pending(j journal) bool {
	_, byID := e.members()
	return j.Phase != phaseClosed || slices.ContainsFunc(j.Leftovers, func(l leftover) bool { return usable(byID[l.Node]) })
}

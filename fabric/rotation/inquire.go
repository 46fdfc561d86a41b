package rotation

import (
	"context"
	"errors"
	"time"

	"orrery/fabric"
	"orrery/internal/clock"
)

// Inquire asks known nodes for their keys, again and again, while this node is lonely: it may have been put out while it was away, or the gossip may have
// another key, neither of which it would hear. It returns nil when ctx ends, and fabric.ErrEvicted when this node was put out.
func (r *Rotator) Inquire(ctx context.Context, lonely func() bool, known func() []fabric.NodeID) error {
	for clock.Wait(ctx, time.Second) {
		if !lonely() {
			continue
		}
		for _, id := range known() {
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			answer, err := r.config.Ask(attempt, id)
			cancel()
			switch {
			case errors.Is(err, fabric.ErrEvicted):
				return err
			case err != nil: // perhaps another one answers
				continue
			}
			if err := r.Adopt(answer); err != nil {
				r.config.Logger.ErrorContext(ctx, "gossip with the others is not possible", "error", err)
			}
		}
	}
	return nil
}

package redis

import (
	"context"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(d *database) error {
		empty, err := d.empty(ctx)
		found = err == nil && !empty
		return err
	})
	return found, err
}

package mongodb

import (
	"context"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder. A database without collections is none for the server, and there is nothing to lose in it.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(d *database) error {
		set, err := d.there(ctx)
		found = len(set) > 0
		return err
	})
	return found, err
}

package influxdb

import (
	"context"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(d *database) error {
		found, err = d.exists(ctx, d.name)
		return err
	})
	return found, err
}

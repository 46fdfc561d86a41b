package postgresql

import (
	"context"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	if k, err := mark.Read[forkMark](t); err != nil || k.Method != "" {
		return err == nil, err
	}
	err = m.with(ctx, t, "look for", func(d *database) error {
		found, err = d.exists(ctx, d.name)
		return err
	})
	return found, err
}

package ldap

import (
	"context"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(d *directory) error {
		found, err = d.exists(d.base)
		return err
	})
	return found, err
}

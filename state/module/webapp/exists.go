package webapp

import (
	"context"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(s site) error {
		found, err = m.files.Exists(ctx, s.as(s.state(), ""))
		return err
	})
	return found, err
}

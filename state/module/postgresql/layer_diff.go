package postgresql

import (
	"context"

	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/postgresql/layered"
)

var _ state.ForkComparer = (*Module)(nil)

// CompareFork implements state.ForkComparer for layers, which keep what they changed in tables of their own.
func (m *Module) CompareFork(ctx context.Context, origin, fork state.Target, visit func(ofFork bool, i state.Item) error) (bool, error) {
	k, err := mark.Read[forkMark](fork)
	if err != nil || k.Method != state.ForkLayered {
		return false, err
	}
	err = m.with(ctx, origin, "read the origin's rows of", func(source *database) error {
		there, err := source.connect(ctx, source.name)
		if err != nil {
			return err
		}
		defer closeConn(ctx, there)
		return m.with(ctx, fork, "read the changes of", func(d *database) error {
			here, err := d.connect(ctx, d.name)
			if err != nil {
				return err
			}
			defer closeConn(ctx, here)
			return layered.Changes(ctx, here, there, func(ofLayer bool, r layered.Row) error {
				return visit(ofLayer, state.Item{Part: r.Table, Key: r.Key, Content: r.Text, Within: r.Key != nil})
			})
		})
	})
	return true, err
}

package etcd

import (
	"context"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(k *keyspace) error {
		there, _, err := k.page(ctx, nil, 0, 1)
		found = len(there) > 0
		return err
	})
	return found, err
}

package agent

import (
	"context"

	"orrery/state/store"
)

// OpenStore opens the store of a machine's folder beside whoever else uses it.
func OpenStore(ctx context.Context, dir string) (*store.Store, error) {
	return openStore(ctx, dir, nil)
}

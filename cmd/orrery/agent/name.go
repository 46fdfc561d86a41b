package agent

import (
	"cmp"
	"context"
	"errors"
	"time"

	"orrery/fabric"
)

// nameKey is where the table has the cluster's name.
const nameKey = "fabric/cluster"

// clusterName is the cluster's name for people, or its id while the name is not known here.
func (n *Node) clusterName() string {
	name := n.settings.Cluster
	if known := n.cluster.Load(); known != nil {
		name = *known
	}
	return cmp.Or(name, n.identity.Cluster)
}

// followName puts the cluster's name into the table, where this is the node that was told it, and otherwise learns it from there.
func (n *Node) followName(ctx context.Context) error {
	if err := n.base.Ready(ctx); err != nil {
		return err
	}
	for n.settings.Cluster != "" {
		_, err := n.table.CompareAndSwap(ctx, nameKey, 0, []byte(n.settings.Cluster))
		if err == nil || errors.Is(err, fabric.ErrConflict) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	changes, err := n.table.Watch(ctx, nameKey)
	if err != nil {
		return err
	}
	for change := range changes {
		for _, e := range change.Entries {
			if name := string(e.Value); e.Key == nameKey && name != "" {
				n.cluster.Store(&name)
			}
		}
	}
	return ctx.Err()
}

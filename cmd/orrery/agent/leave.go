package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"orrery/fabric/chain/placement"
)

// leave takes this node out of the cluster for good. It is refused while services live
// here, or keys are nowhere else, for they would be lost to the cluster.
func (n *Node) leave(ctx context.Context) error {
	placed, err := placements(ctx, n.shared)
	if err != nil {
		return err
	}
	var here []string
	for _, p := range placed {
		if p.Node == n.identity.ID {
			here = append(here, p.Service.Name)
		}
	}
	if len(here) > 0 {
		return fmt.Errorf("node %s cannot leave: services live on it: %s (move them by the manifest's distribution, or deploy remove)", n.identity.Name, strings.Join(here, ", "))
	}
	left, err := n.base.Depart(ctx)
	switch {
	case left:
		return errors.Join(err, removeFile(filepath.Join(n.dir, settingsFile)))
	case errors.Is(err, placement.ErrOnlyCopy):
		return fmt.Errorf("%w (orrery kv drain %s moves them, and orrery kv chains shows when that is done)", err, n.identity.Name)
	}
	return err
}

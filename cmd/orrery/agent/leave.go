package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"orrery/fabric/authority"
)

// leave takes this node out of the cluster for good. It is refused while services live
// here, for their state would be lost to the cluster.
func (n *Node) leave(ctx context.Context) error {
	select { // a node that is just arriving would claim its name again
	case <-n.enrolled:
	case <-ctx.Done():
		return fmt.Errorf("node %s cannot leave: it has not found its cluster yet: %w", n.identity.Name, ctx.Err())
	}
	placed, err := placements(ctx, n.table)
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
	if err := n.registrar.ReleaseName(ctx, n.identity.Name, n.identity.ID); err != nil {
		return err
	}
	if err := n.table.Remove(ctx, n.identity.ID); err != nil {
		return err
	}
	err = errors.Join(n.members.Leave(ctx), authority.Remove(filepath.Join(n.dir, "identity")), removeFile(filepath.Join(n.dir, settingsFile)))
	n.stop(errLeft)
	return err
}

// errLeft is why a node that left stops.
var errLeft = errors.New("the node has left the cluster")

package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// leave takes this node out of the cluster for good. It is refused while services live
// here, or keys are nowhere else, for they would be lost to the cluster.
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
	overview, err := n.chains.anywhere.Overview(ctx)
	if err != nil {
		return fmt.Errorf("node %s cannot leave: %w", n.identity.Name, err)
	}
	if err := onlyHere(overview, n.identity.ID); err != nil {
		return fmt.Errorf("node %s cannot leave: %w (orrery kv drain %s moves them, and orrery kv chains shows when that is done)", n.identity.Name, err, n.identity.Name)
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

// onlyHere says which chain has a replica on a node, and none that serves elsewhere.
func onlyHere(o *placement.Overview, id fabric.NodeID) error {
	for _, c := range o.Chains {
		here, elsewhere := false, false
		for _, m := range c.Members {
			here = here || m.Node == id
			elsewhere = elsewhere || m.Node != id && m.State == chain.Serving && m.Gone == ""
		}
		if here && !elsewhere {
			return fmt.Errorf("nobody else has the keys of chain %d of bucket %s", c.ID, c.Bucket)
		}
	}
	return nil
}

// errLeft is why a node that left stops.
var errLeft = errors.New("the node has left the cluster")

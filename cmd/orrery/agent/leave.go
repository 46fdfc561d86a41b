package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/shared"
	"orrery/fabric/table"
	"orrery/internal/clock"
)

// leave takes this node out of the cluster for good. It is refused while services live
// here, or keys are nowhere else, for they would be lost to the cluster.
func (n *Node) leave(ctx context.Context) error {
	select { // a node that is just arriving would claim its name again
	case <-n.enrolled:
	case <-ctx.Done():
		return fmt.Errorf("node %s cannot leave: it has not found its cluster yet: %w", n.identity.Name, ctx.Err())
	}
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
	all, err := n.table.List(ctx, table.MemberPrefix)
	if err != nil {
		return err
	}
	if len(all) == 1 {
		return fmt.Errorf("node %s cannot leave: it is the cluster's last node", n.identity.Name)
	}
	if err := n.replaced(ctx); err != nil {
		return fmt.Errorf("node %s cannot leave: %w (orrery kv drain %s moves them, and orrery kv chains shows when that is done)", n.identity.Name, err, n.identity.Name)
	}
	if err := n.drain(ctx, n.identity.ID); err != nil { // no place is kept for it
		return err
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

// sharedTime is how long a node that leaves waits for another to have the shared keys: one that has just come gets them by itself.
const sharedTime = 10 * time.Second

// replaced says which chain needs this node's replica.
func (n *Node) replaced(ctx context.Context) error {
	for deadline := time.Now().Add(sharedTime); ; {
		overview, err := n.chains.anywhere.Overview(ctx)
		if err != nil {
			return err
		}
		bucket, err := onlyHere(overview, n.identity.ID)
		if bucket != shared.Bucket || time.Now().After(deadline) || !clock.Wait(ctx, 50*time.Millisecond) {
			return err
		}
	}
}

// onlyHere says which chain has a replica on a node, and none that serves elsewhere. If there are several it is not the shared keys'.
func onlyHere(o *placement.Overview, id fabric.NodeID) (bucket string, err error) {
	for _, c := range o.Chains {
		here, elsewhere := false, false
		for _, m := range c.Members {
			here = here || m.Node == id
			elsewhere = elsewhere || m.Node != id && m.State == chain.Serving && m.Gone == ""
		}
		if here && !elsewhere {
			bucket, err = c.Bucket, fmt.Errorf("nobody else has the keys of chain %d of bucket %s", c.ID, c.Bucket)
			if bucket != shared.Bucket {
				return bucket, err
			}
		}
	}
	return bucket, err
}

// errLeft is why a node that left stops.
var errLeft = errors.New("the node has left the cluster")

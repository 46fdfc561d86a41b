package agent

import (
	"context"
	"fmt"
	"slices"

	"orrery/deploy"
	"orrery/fabric"
)

// withBackup names a service and the newest backup of it that another node has.
func (n *Node) withBackup(ctx context.Context, p deploy.Placement) string {
	name := fmt.Sprintf("service %s of %s", p.Service.Name, p.Manifest)
	all, err := n.engine.Backups(ctx, p.Manifest)
	if err != nil {
		return fmt.Sprintf("%s (its backups are not known: %v)", name, err)
	}
	for _, b := range slices.Backward(all) {
		for _, s := range b.Snapshots {
			if s.Service == p.Service.Name && slices.ContainsFunc(s.Nodes, func(id fabric.NodeID) bool { return id != p.Node && slices.Contains(n.Nodes(), id) }) {
				return fmt.Sprintf("%s (last backup %s)", name, b.Time.Format("2006-01-02 15:04:05"))
			}
		}
	}
	return name + " (without a backup on another node)"
}

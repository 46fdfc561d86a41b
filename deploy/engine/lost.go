package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/deploy"
	"orrery/deploy/plan"
	"orrery/fabric"
	"orrery/state"
)

// A service whose node was put out of the cluster for good runs nowhere: nobody can stop it there, and nobody has to. Its state is that of the newest backup that a node has.

// disown records, for a manifest's services on nodes that were put out, that they run nowhere. Repeating it is fine, and it is not undone: it says what is.
func (o *operation) disown(ctx context.Context) error {
	now, err := o.placements(ctx, o.name)
	if err != nil {
		return err
	}
	for _, p := range now {
		if !o.Out(p.Node) {
			continue
		}
		value, err := json.Marshal(retired{Placement: p.Placement})
		if err != nil {
			return err
		}
		if _, err := o.Table.Put(ctx, retiredPrefix+o.name+"/"+p.Service.Name, value); err != nil {
			return fmt.Errorf("cannot record where %s was: %w", p.Service.Name, err)
		}
		if err := o.Table.Delete(ctx, placementKey(o.name, p.Service.Name), p.revision); err != nil && !errors.Is(err, fabric.ErrNotFound) {
			return fmt.Errorf("cannot record that %s runs nowhere: %w", p.Service.Name, err)
		}
		o.note(p.Service.Name, fmt.Sprintf("given up on node %s, which was put out of the cluster", p.NodeName))
		if err := o.remove(ctx, p.Service.Name); err != nil {
			return err
		}
	}
	return nil
}

// lose moves what is placed on nodes that were put out to last, where services are that run nowhere, and finds out what there is of their state. It returns the placements that are left.
func (e *Engine) lose(ctx context.Context, manifest string, now []placed, last map[string]retired, in *plan.Input) ([]placed, error) {
	for _, p := range now {
		if e.Out(p.Node) {
			last[p.Service.Name] = retired{Placement: p.Placement}
		}
	}
	now = slices.DeleteFunc(now, func(p placed) bool { return e.Out(p.Node) })
	for service, r := range last {
		if !e.Out(r.Node) {
			continue
		}
		if in.Out == nil {
			in.Out, in.Saved = map[fabric.NodeID]bool{}, map[state.Ref]time.Time{}
		}
		in.Out[r.Node] = true
		r.Snapshots, r.from = map[string]state.SnapshotID{}, map[string][]fabric.NodeID{}
		if err := e.saved(ctx, manifest, &r, in); err != nil {
			return nil, err
		}
		last[service] = r
	}
	return now, nil
}

// saved finds the newest backup of each component of a service that a node has.
func (e *Engine) saved(ctx context.Context, manifest string, r *retired, in *plan.Input) error {
	backups, err := e.Backups(ctx, manifest)
	if err != nil {
		return err
	}
	for _, b := range backups { // the oldest first
		for _, s := range b.Snapshots {
			i := slices.IndexFunc(r.Service.Components, func(c state.Component) bool { return c.Ref() == s.Ref })
			if nodes := e.haveBackup(s); s.Service == r.Service.Name && i >= 0 && len(nodes) > 0 {
				name := r.Service.Components[i].Name
				r.Snapshots[name], r.from[name], in.Saved[s.Ref] = s.Snapshot, nodes, b.Time
			}
		}
	}
	return nil
}

// haveBackup are the nodes that have a snapshot of a backup and can be asked for it.
func (e *Engine) haveBackup(s deploy.BackedUp) []fabric.NodeID {
	_, byID := e.members()
	return slices.DeleteFunc(slices.Clone(s.Nodes), func(id fabric.NodeID) bool { return e.Out(id) || !usable(byID[id]) })
}

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// Backup takes a snapshot of every stateful component of a manifest and brings each to one more living
// node, if there is one. Either all snapshots were taken and the backup is recorded, or there is none.
func (e *Engine) Backup(ctx context.Context, name string, progress func(deploy.Event)) (deploy.Backup, error) {
	var b deploy.Backup
	_, err := e.operate(ctx, name, kindBackup, progress, func(ctx context.Context, o *operation) error {
		var err error
		b, err = o.backup(ctx)
		return err
	})
	return b, err
}

func (o *operation) backup(ctx context.Context) (deploy.Backup, error) {
	now, err := o.placements(ctx, o.name)
	if err != nil {
		return deploy.Backup{}, err
	}
	if len(now) == 0 {
		return deploy.Backup{}, fmt.Errorf("nothing of manifest %s runs: %w", o.name, deploy.ErrNotFound)
	}
	began := time.Now().UTC()
	b := deploy.Backup{ID: began.Format("20060102-150405-") + strings.ToLower(newID()[:4]), Manifest: o.name, Time: began}
	var from []placed
	for _, p := range now {
		stateful, err := o.stateful(ctx, p.Node, p.Service.Components)
		if err != nil {
			return deploy.Backup{}, fmt.Errorf("cannot back up %s on %s: %w", p.Service.Name, p.NodeName, err)
		}
		for _, c := range stateful {
			b.Snapshots = append(b.Snapshots, deploy.BackedUp{Service: p.Service.Name, Ref: c.Ref()})
			from = append(from, p)
		}
	}
	err = parallel(ctx, len(from), func(ctx context.Context, i int) error {
		return o.backUp(ctx, &b.Snapshots[i], from[i])
	})
	if err != nil {
		return deploy.Backup{}, err
	}
	value, err := json.Marshal(b)
	if err != nil {
		return deploy.Backup{}, err
	}
	if _, err := o.Table.Put(ctx, deploy.BackupPrefix+o.name+"/"+b.ID, value); err != nil {
		return deploy.Backup{}, fmt.Errorf("cannot record the backup: %w", err)
	}
	return b, nil
}

// backUp takes one component's snapshot and brings it to another node.
func (o *operation) backUp(ctx context.Context, b *deploy.BackedUp, p placed) error {
	k, err := o.keeper(p.Node)
	if err != nil {
		return err
	}
	err = o.do(ctx, b.Service, "snapshot "+b.Ref.Component, func(ctx context.Context) (int64, error) {
		g, err := k.Snapshot(ctx, b.Ref, "backup")
		b.Snapshot, b.Size, b.Stored, b.Nodes = g.Snapshot, g.Size, g.Stored, []fabric.NodeID{p.Node}
		return g.Stored, err
	}, p.Node)
	if err != nil {
		return err
	}
	for _, other := range o.others(p.Node) {
		err := o.transfer(ctx, b.Service, b.Ref, b.Snapshot, p.Node, other)
		if err == nil {
			b.Nodes = append(b.Nodes, other)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		o.Logger.WarnContext(ctx, "node takes no copy of the backup", "node", o.nodeName(other), "component", b.Ref.Component, "err", err)
	}
	return nil
}

// others are the living nodes but one, beginning with the one that follows it by name.
func (e *Engine) others(than fabric.NodeID) []fabric.NodeID {
	_, byID := e.members()
	self := byID[than].Name
	var living []fabric.Member
	for _, m := range byID {
		if m.ID != than && m.State.Present() {
			living = append(living, m)
		}
	}
	slices.SortFunc(living, func(a, b fabric.Member) int {
		if (a.Name > self) != (b.Name > self) {
			if a.Name > self {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	out := make([]fabric.NodeID, len(living))
	for i, m := range living {
		out[i] = m.ID
	}
	return out
}

// Backups lists a manifest's backups, oldest first.
func (e *Engine) Backups(ctx context.Context, name string) ([]deploy.Backup, error) {
	entries, err := e.Table.List(ctx, deploy.BackupPrefix+name+"/")
	if err != nil {
		return nil, fmt.Errorf("cannot list the backups of %s: %w", name, err)
	}
	out := make([]deploy.Backup, len(entries))
	for i, entry := range entries {
		if err := json.Unmarshal(entry.Value, &out[i]); err != nil {
			return nil, fmt.Errorf("backup %s cannot be read: %w", entry.Key, err)
		}
	}
	return out, nil
}

// Restore brings services (all for none given) back to a backup's state, each where it lives now; id "" is the newest
// backup. What was there before stays in the history with the reason "pre-restore". Either all
// services are restored or, with deploy.ErrUndone, none.
func (e *Engine) Restore(ctx context.Context, name, id string, services []string, progress func(deploy.Event)) (deploy.Outcome, error) {
	b, err := e.findBackup(ctx, name, id)
	if err != nil {
		return deploy.Outcome{}, err
	}
	return e.operate(ctx, name, kindRestore, progress, func(ctx context.Context, o *operation) error {
		all, err := o.restoring(ctx, b, services)
		if err != nil {
			return err
		}
		return o.carryOut(ctx, deploy.Plan{Manifest: name}, all, nil)
	})
}

func (e *Engine) findBackup(ctx context.Context, name, id string) (deploy.Backup, error) {
	all, err := e.Backups(ctx, name)
	if err != nil {
		return deploy.Backup{}, err
	}
	for _, b := range slices.Backward(all) {
		if id == "" || b.ID == id {
			return b, nil
		}
	}
	if id == "" {
		return deploy.Backup{}, fmt.Errorf("manifest %s has no backup: %w", name, deploy.ErrNotFound)
	}
	return deploy.Backup{}, fmt.Errorf("backup %s of %s: %w", id, name, deploy.ErrNotFound)
}

// restoring is the work of bringing services to a backup's state.
func (o *operation) restoring(ctx context.Context, b deploy.Backup, services []string) ([]work, error) {
	now, err := o.placements(ctx, o.name)
	if err != nil {
		return nil, err
	}
	var all []work
	for _, p := range now {
		if len(services) > 0 && !slices.Contains(services, p.Service.Name) {
			continue
		}
		if _, byID := o.members(); !usable(byID[p.Node]) {
			return nil, fmt.Errorf("cannot restore %s: node %s, where it lives, is out of reach (start it, or name other services)", p.Service.Name, p.NodeName)
		}
		w := work{
			Step:   deploy.Step{Kind: deploy.StepUpgrade, Service: p.Service.Name, From: p.NodeName, To: p.NodeName, Why: "restore backup " + b.ID},
			Before: &p.Placement, After: &p.Placement, Restore: true,
			Snapshots: map[string]state.SnapshotID{}, From: map[string][]fabric.NodeID{},
		}
		for _, one := range b.Snapshots {
			i := slices.IndexFunc(p.Service.Components, func(c state.Component) bool { return c.Ref() == one.Ref })
			if one.Service == p.Service.Name && i >= 0 {
				w.Carry = append(w.Carry, p.Service.Components[i])
				w.Snapshots[one.Ref.Component], w.From[one.Ref.Component] = one.Snapshot, one.Nodes
			}
		}
		if len(w.Carry) > 0 {
			all = append(all, w)
		}
	}
	for _, name := range services {
		if !slices.ContainsFunc(all, func(w work) bool { return w.service() == name }) {
			return nil, fmt.Errorf("service %s in backup %s, running: %w", name, b.ID, deploy.ErrNotFound)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("service of backup %s that runs: %w", b.ID, deploy.ErrNotFound)
	}
	return all, nil
}

// restore replaces the state of a service's components by snapshots.
func (o *operation) restore(ctx context.Context, w *work) error {
	for _, c := range w.Carry {
		if err := o.fetch(ctx, w, c); err != nil {
			return err
		}
	}
	k, err := o.keeper(w.After.Node)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := o.hold(ctx, w.After.Service); err != nil {
		return err
	}
	refs := refsOf(w.After.Service.Components)
	if err := o.deactivate(ctx, w.service(), w.After.Node, without(refs, w.Carry)); err != nil {
		return err
	}
	w.Previous = map[string]state.SnapshotID{}
	for _, c := range w.Carry {
		// State that is broken cannot be read; it is what the restore is for.
		err := o.do(ctx, w.service(), "snapshot "+c.Name, func(ctx context.Context) (int64, error) {
			g, err := k.Snapshot(ctx, c.Ref(), "pre-restore")
			if err == nil {
				w.Previous[c.Name] = g.Snapshot
			}
			return g.Stored, err
		}, w.After.Node)
		if err != nil {
			o.Logger.WarnContext(ctx, "state before the restore cannot be kept", "component", c.Name, "err", err)
		}
	}
	if err := o.write(ctx, func(j *journal) {
		j.Work = slices.Clone(j.Work)
		j.Work[j.At], j.Doing = *w, "restore"
	}); err != nil {
		return err
	}
	for _, c := range w.Carry {
		err := o.do(ctx, w.service(), "restore "+c.Name, func(ctx context.Context) (int64, error) {
			return 0, k.Restore(ctx, c.Ref(), w.Snapshots[c.Name])
		}, w.After.Node)
		if err != nil {
			return err
		}
	}
	endpoint, err := o.activate(ctx, w.After)
	if err != nil {
		return err
	}
	err = o.switchTo(ctx, w.After, endpoint)
	o.paused(w.service(), time.Since(began))
	return err
}

// fetch makes sure that the node has a snapshot; any node that has it will do.
func (o *operation) fetch(ctx context.Context, w *work, c state.Component) error {
	nodes := w.From[c.Name]
	here := slices.Contains(nodes, w.After.Node) || w.From == nil
	var problems []error
	for _, from := range nodes {
		if from == w.After.Node {
			continue
		}
		err := o.transfer(ctx, w.service(), c.Ref(), w.Snapshots[c.Name], from, w.After.Node)
		if err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	if here {
		return nil // the keeper verifies it before it touches anything
	}
	return fmt.Errorf("no node can give snapshot %.12s of %s: %w", w.Snapshots[c.Name], c.Name, errors.Join(problems...))
}

// unrestore gives a service the state back that it had before an interrupted restore, and brings it
// into service if it can run with it.
func (o *operation) unrestore(ctx context.Context, w *work) error {
	k, err := o.keeper(w.After.Node)
	if err != nil {
		return err
	}
	for _, c := range w.Carry {
		id, ok := w.Previous[c.Name]
		if !ok {
			continue
		}
		err := o.do(ctx, w.service(), "give "+c.Name+" back what it was", func(ctx context.Context) (int64, error) {
			return 0, k.Restore(ctx, c.Ref(), id)
		}, w.After.Node)
		if err != nil {
			return err
		}
	}
	endpoint, err := o.activate(ctx, w.After)
	if err != nil {
		_, unreachable := o.whileAlive(ctx, []fabric.NodeID{w.After.Node}, func(ctx context.Context) (int64, error) {
			_, err := k.List(ctx)
			return 0, err
		})
		if unreachable != nil {
			return err
		}
		o.Logger.WarnContext(ctx, "service does not run with the state it had", "service", w.service(), "err", err)
		return o.remove(ctx, w.service())
	}
	return o.switchTo(ctx, w.After, endpoint)
}

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// The small actions that steps consist of. All are safe to repeat.

// keeper reaches a node's keeper.
func (o *operation) keeper(node fabric.NodeID) (state.Keeper, error) {
	k, err := o.Machines.Keeper(node)
	if err != nil {
		return nil, fmt.Errorf("node %s is out of reach: %w", o.nodeName(node), err)
	}
	return k, nil
}

// provide brings the files of components to a node.
func (o *operation) provide(ctx context.Context, p *deploy.Placement) error {
	var artifacts []string
	for _, c := range p.Service.Components {
		for _, hash := range c.Files {
			artifacts = append(artifacts, hash)
		}
	}
	if len(artifacts) == 0 {
		return nil
	}
	slices.Sort(artifacts)
	artifacts = slices.Compact(artifacts)
	return o.do(ctx, p.Service.Name, "bring files to "+p.NodeName, func(ctx context.Context) (int64, error) {
		return 0, o.Machines.Provide(ctx, p.Node, artifacts)
	}, p.Node)
}

// activate starts a placement's components in order and returns where its endpoint answers; nil for a service without.
func (o *operation) activate(ctx context.Context, p *deploy.Placement) (*deploy.Endpoint, error) {
	k, err := o.keeper(p.Node)
	if err != nil {
		return nil, err
	}
	var endpoint *deploy.Endpoint
	for _, c := range p.Service.Components {
		err := o.do(ctx, p.Service.Name, fmt.Sprintf("activate %s on %s", c.Name, p.NodeName), func(ctx context.Context) (int64, error) {
			status, err := k.Activate(ctx, c)
			if err == nil && c.Name == p.Service.Endpoint {
				if status.Exports["address"] == "" {
					return 0, fmt.Errorf("component %s exports no address (its module must, or choose another endpoint)", c.Name)
				}
				endpoint = &deploy.Endpoint{Node: p.Node, Address: status.Exports["address"]}
			}
			return 0, err
		}, p.Node)
		if err != nil {
			return nil, err
		}
	}
	return endpoint, nil
}

// deactivate stops components on a node in the opposite order; those that are not there are stopped.
func (o *operation) deactivate(ctx context.Context, service string, node fabric.NodeID, refs []state.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	k, err := o.keeper(node)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(refs) {
		err := o.do(ctx, service, fmt.Sprintf("deactivate %s on %s", r.Component, o.nodeName(node)), func(ctx context.Context) (int64, error) {
			return 0, existing(k.Deactivate(ctx, r))
		}, node)
		if err != nil {
			return err
		}
	}
	return nil
}

// existing drops the error that says that there is nothing to act on.
func existing(err error) error {
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	return err
}

func refsOf(components []state.Component) []state.Ref {
	refs := make([]state.Ref, len(components))
	for i, c := range components {
		refs[i] = c.Ref()
	}
	return refs
}

// without are those of refs that are not among components.
func without(refs []state.Ref, components []state.Component) []state.Ref {
	return slices.DeleteFunc(slices.Clone(refs), func(r state.Ref) bool {
		return slices.ContainsFunc(components, func(c state.Component) bool { return c.Ref() == r })
	})
}

// hold keeps back a service's requests; a service without an endpoint has none.
func (o *operation) hold(ctx context.Context, s deploy.Service) error {
	if s.Endpoint == "" {
		return nil
	}
	return o.do(ctx, s.Name, "hold requests", func(ctx context.Context) (int64, error) {
		return 0, o.Traffic.Hold(ctx, s.Name)
	})
}

// switchTo sends a service's requests to where it answers.
func (o *operation) switchTo(ctx context.Context, p *deploy.Placement, to *deploy.Endpoint) error {
	if to == nil {
		return o.remove(ctx, p.Service.Name)
	}
	return o.do(ctx, p.Service.Name, "send requests to "+p.NodeName, func(ctx context.Context) (int64, error) {
		public, err := o.public(p.Service)
		if err != nil {
			return 0, err
		}
		return 0, o.Traffic.Switch(ctx, p.Service.Name, *to, public)
	})
}

// remove makes the routers forget a service.
func (o *operation) remove(ctx context.Context, service string) error {
	return o.do(ctx, service, "end its requests", func(ctx context.Context) (int64, error) {
		return 0, o.Traffic.Remove(ctx, service)
	})
}

// public resolves the node of a public address.
func (e *Engine) public(s deploy.Service) (*deploy.PublicOn, error) {
	if s.Public == nil {
		return nil, nil //nolint:nilnil // a service without a public address is an ordinary one
	}
	byName, _ := e.members()
	m, ok := byName[s.Public.Node]
	if !ok {
		return nil, fmt.Errorf("node %s of the public address is not a member: %w", s.Public.Node, deploy.ErrNotFound)
	}
	return &deploy.PublicOn{Node: m.ID, Address: s.Public.Address}, nil
}

// place is the point of no return: it makes after the service's placement if before, or nothing, still is.
func (o *operation) place(ctx context.Context, w *work) error {
	action := "give the service up"
	if w.After != nil {
		action = "place the service on " + w.After.NodeName
	}
	return o.do(ctx, w.service(), action, func(ctx context.Context) (int64, error) {
		now, err := o.placement(ctx, o.name, w.service())
		if err != nil {
			return 0, err
		}
		if now.revision != w.revision {
			return 0, fmt.Errorf("the placement of %s: %w", w.service(), fabric.ErrConflict)
		}
		key := placementKey(o.name, w.service())
		if w.After == nil {
			return 0, o.Table.Delete(ctx, key, w.revision)
		}
		value, err := json.Marshal(w.After)
		if err != nil {
			return 0, err
		}
		_, err = o.swap(ctx, key, w.revision, value)
		return 0, err
	})
}

// carried brings the newest state of a component from its node into the stage on another, and returns its snapshot.
func (o *operation) carried(ctx context.Context, w *work, c state.Component, from, to fabric.NodeID) (state.SnapshotID, error) {
	source, err := o.keeper(from)
	if err != nil {
		return "", err
	}
	var g state.Generation
	err = o.do(ctx, w.service(), fmt.Sprintf("snapshot %s on %s", c.Name, o.nodeName(from)), func(ctx context.Context) (int64, error) {
		g, err = source.Snapshot(ctx, c.Ref(), "move")
		return g.Stored, err
	}, from)
	if err != nil {
		return "", err
	}
	return g.Snapshot, o.stage(ctx, w, c, g.Snapshot, from, to)
}

// stage brings a snapshot from one node into the stage on another.
func (o *operation) stage(ctx context.Context, w *work, c state.Component, id state.SnapshotID, from, to fabric.NodeID) error {
	if err := o.transfer(ctx, w.service(), c.Ref(), id, from, to); err != nil {
		return err
	}
	target, err := o.keeper(to)
	if err != nil {
		return err
	}
	return o.do(ctx, w.service(), fmt.Sprintf("stage %s on %s", c.Name, o.nodeName(to)), func(ctx context.Context) (int64, error) {
		return 0, target.Stage(ctx, c, id)
	}, to)
}

func (o *operation) transfer(ctx context.Context, service string, r state.Ref, id state.SnapshotID, from, to fabric.NodeID) error {
	if from == to {
		return nil
	}
	return o.do(ctx, service, fmt.Sprintf("transfer %s to %s", r.Component, o.nodeName(to)), func(ctx context.Context) (int64, error) {
		n, err := o.Machines.Transfer(ctx, r, id, from, to)
		o.mu.Lock()
		defer o.mu.Unlock()
		o.outcome.Moved += n
		return n, err
	}, from, to)
}

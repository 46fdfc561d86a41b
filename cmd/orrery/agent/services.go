package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

// placements reads who owns which service.
func placements(ctx context.Context, table fabric.Table) ([]deploy.Placement, error) {
	return records[deploy.Placement](ctx, table, deploy.PlacementPrefix)
}

// records decodes all values under a prefix of the table.
func records[T any](ctx context.Context, table fabric.Table, prefix string) ([]T, error) {
	entries, err := table.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	all := make([]T, 0, len(entries))
	for _, e := range entries {
		var one T
		if err := json.Unmarshal(e.Value, &one); err != nil {
			return nil, fmt.Errorf("cannot read the table's %s: %w", e.Key, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// services lists the deployed services with their components as their nodes see them.
func (n *Node) services(ctx context.Context) ([]ServiceStatus, error) {
	placed, err := placements(ctx, n.shared)
	if err != nil {
		return nil, err
	}
	routes, err := records[session.Route](ctx, n.shared, session.RoutePrefix)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, r := range routes {
		held[r.Service] = r.Held
	}
	all := make([]ServiceStatus, len(placed))
	var wait sync.WaitGroup
	for i, p := range placed {
		all[i] = ServiceStatus{
			Manifest: p.Manifest, Service: p.Service.Name, Node: p.NodeName, NodeID: p.Node, Epoch: p.Epoch,
			DependsOn: p.Service.DependsOn, Held: held[p.Service.Name],
		}
		wait.Go(func() { n.inspect(ctx, p, &all[i]) })
	}
	wait.Wait()
	return all, nil
}

// inspect asks a service's node how its components are and where it listens.
func (n *Node) inspect(ctx context.Context, p deploy.Placement, into *ServiceStatus) {
	keeper, err := n.Keeper(p.Node)
	if err != nil {
		into.Err = err.Error()
		return
	}
	for _, c := range p.Service.Components {
		status, err := keeper.Status(ctx, c.Ref())
		if err != nil {
			into.Err = err.Error()
			return
		}
		into.Components = append(into.Components, status)
	}
	if p.Service.Public == nil {
		return
	}
	if address, err := n.publicAddress(ctx, p.Service); err == nil {
		into.Public = "http://" + address
	}
}

// publicAddress asks the node that listens for a service which address it has.
func (n *Node) publicAddress(ctx context.Context, s deploy.Service) (string, error) {
	for _, m := range n.Members() {
		if m.Name != s.Public.Node {
			continue
		}
		if m.ID == n.identity.ID {
			return n.publicHere(s.Name)
		}
		text, err := ask[Text](ctx, n.peer(m.ID), procPublic, &Text{s.Name})
		return text.Value, err
	}
	return "", fmt.Errorf("node %s: %w", s.Public.Node, fabric.ErrNotFound)
}

// publicHere is where this node listens for a service.
func (n *Node) publicHere(service string) (string, error) {
	if address, ok := n.router.PublicAddress(service); ok {
		return n.settings.reachable(address), nil
	}
	return "", fmt.Errorf("service %s is not listened for on node %s: %w", service, n.identity.Name, fabric.ErrNotFound)
}

// Lookup finds a production service for sessions.
func (n *Node) Lookup(ctx context.Context, service string) (session.Placed, error) {
	placed, err := placements(ctx, n.shared)
	if err != nil {
		return session.Placed{}, err
	}
	for _, p := range placed {
		if p.Service.Name == service {
			return session.Placed{
				Service: service, Node: p.Node, Components: p.Service.Components,
				Endpoint: p.Service.Endpoint, DependsOn: p.Service.DependsOn,
			}, nil
		}
	}
	return session.Placed{}, fmt.Errorf("service %s: %w (see orrery deploy status)", service, session.ErrNotFound)
}

// owns says whether the table gives a component to this node: production ones by a
// placement, a session's by the session's record.
func (n *Node) owns(ctx context.Context) (func(state.Component) bool, error) {
	placed, err := placements(ctx, n.shared)
	if err != nil {
		return nil, err
	}
	sessions, err := records[session.Session](ctx, n.shared, session.SessionPrefix)
	if err != nil {
		return nil, err
	}
	mine := map[state.Ref]bool{}
	for _, p := range placed {
		for _, c := range p.Service.Components {
			mine[c.Ref()] = mine[c.Ref()] || p.Node == n.identity.ID
		}
	}
	for _, s := range sessions {
		for _, o := range s.Overrides {
			for _, r := range o.Components {
				mine[r] = o.Instance.Node == n.identity.ID && !s.Ending
			}
		}
	}
	return func(c state.Component) bool {
		own, known := mine[c.Ref()]
		if !known && c.Session == "" {
			return true // made by hand on this machine, not by a manifest
		}
		return own
	}, nil
}

// resolve finds the value of ${service.NAME.url}: this node's own door to that service.
func (n *Node) resolve(ctx context.Context, c state.Component, reference string) (string, error) {
	rest, ok := strings.CutPrefix(reference, "service.")
	name, export, dot := strings.Cut(rest, ".")
	if !ok || !dot {
		return "", fmt.Errorf("reference ${%s} of %s is unknown (use ${service.NAME.url})", reference, c.Ref())
	}
	address, err := n.router.Listen(ctx, name)
	if err != nil {
		return "", err
	}
	switch export {
	case "url":
		return "http://" + address, nil
	case "address":
		return address, nil
	}
	return "", fmt.Errorf("reference ${%s} of %s is unknown: services have url and address", reference, c.Ref())
}

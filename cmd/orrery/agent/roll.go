package agent

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/rpc"
)

// openRoll makes the part that knows whose certificates count.
func (n *Node) openRoll(ctx context.Context) (err error) {
	n.roll, err = authority.OpenRoll(ctx, authority.RollConfig{
		Self: n.identity.ID, Table: n.table, Logger: n.log,
		Belongs:    func(id fabric.NodeID) bool { return n.table.Status().Has(id) },
		Introduced: func(id fabric.NodeID) bool { _, ok := n.addresses.Get(id); return ok },
		Ready:      func() bool { return n.table.Status().Leader != "" },
		Ask: func(ctx context.Context, holder fabric.Identity) error {
			return rpc.AskStanding(ctx, n.client, n.known(), holder)
		},
		Changed: n.expel,
	})
	if err == nil {
		close(n.rolled)
	}
	return err
}

// runRoll follows who belongs to the cluster. The node ends when it does not itself.
func (n *Node) runRoll(ctx context.Context, parts *errgroup.Group) {
	n.expel() // who was put out while this node did not look
	parts.Go(func() error { return n.roll.Run(ctx) })
	parts.Go(func() error {
		lonely := func() bool { return len(n.Nodes()) <= 1 || n.table.Status().Leader == "" }
		if err := n.rotator.Inquire(ctx, lonely, n.known); err != nil {
			n.putOut(err)
		}
		return nil
	})
	parts.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.evicted:
			return err
		}
	})
}

// admit is asked about all who connect, or are connected to, from before there is a roll.
func (n *Node) admit(ctx context.Context, holder fabric.Identity) error {
	select {
	case <-n.rolled:
		return n.roll.Admit(ctx, holder)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// expel drops all who were put out, or ends this node if it is one of them.
func (n *Node) expel() {
	if err := n.roll.Out(n.identity.ID); err != nil {
		n.putOut(err)
	}
	out := func(id fabric.NodeID) bool { return n.roll.Out(id) != nil }
	n.server.Cut(out)
	n.client.Cut(out)
	n.members.Expel()
	n.addresses.Drop(out)
}

// putOut ends this node: it belongs to the cluster no more.
func (n *Node) putOut(err error) {
	select {
	case n.evicted <- err:
	default: // said already
	}
}

// known are the nodes that can be asked about things: those of which this one is sure, but for itself.
func (n *Node) known() []fabric.NodeID {
	var all []fabric.NodeID
	for _, b := range append(n.addresses.All(), n.members.Beacons()...) {
		node := fabric.Identity{ID: b.ID, Name: b.Name, Role: fabric.RoleNode}
		if sure, err := n.roll.Known(node); sure && err == nil && b.ID != n.identity.ID && !slices.Contains(all, b.ID) {
			all = append(all, b.ID)
		}
	}
	return all
}

// serveRoll registers what is about who belongs to the cluster.
func (n *Node) serveRoll(m *rpc.Mux) {
	rpc.HandleStanding(m, n.roll)
	rpc.Unary(m, procEvictions, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*List[authority.Eviction], error) {
		all, err := n.registrar.Evictions(ctx)
		return &List[authority.Eviction]{all}, err
	})
	rpc.Unary(m, procPeople, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*List[authority.Person], error) {
		all, err := n.registrar.People(ctx)
		return &List[authority.Person]{all}, err
	})
	rpc.Unary(m, procRevoke, fabric.RoleOperator, n.revoke)
	rpc.ServerStream(m, procEvict, fabric.RoleOperator, n.evict)
}

// RevokeRequest says whose certificate is taken away: a person's, by name or id.
type RevokeRequest struct {
	Who string `json:"who"`
	Why string `json:"why,omitempty"`
}

// revoke takes away all certificates of a person, or one by its id.
func (n *Node) revoke(ctx context.Context, q *RevokeRequest) (*List[authority.Person], error) {
	people, err := n.registrar.People(ctx)
	if err != nil {
		return nil, err
	}
	var revoked []authority.Person
	for _, p := range people {
		if p.Name != q.Who && string(p.ID) != q.Who {
			continue
		}
		if err := n.registrar.Revoke(ctx, p, whoCalls(ctx).Name, q.Why); err != nil {
			return nil, err
		}
		revoked = append(revoked, p)
	}
	if len(revoked) == 0 {
		return nil, fmt.Errorf("nobody is logged in as %s: %w (see orrery login list)", q.Who, fabric.ErrNotFound)
	}
	return &List[authority.Person]{revoked}, nil
}

// Evictions lists who was put out of the cluster.
func (c *Client) Evictions(ctx context.Context) ([]authority.Eviction, error) {
	all, err := ask[List[authority.Eviction]](ctx, c.to, procEvictions, &Empty{})
	return all.Items, err
}

// People lists the people who have a certificate.
func (c *Client) People(ctx context.Context) ([]authority.Person, error) {
	all, err := ask[List[authority.Person]](ctx, c.to, procPeople, &Empty{})
	return all.Items, err
}

// Revoke takes the certificates of a person away.
func (c *Client) Revoke(ctx context.Context, q RevokeRequest) ([]authority.Person, error) {
	all, err := ask[List[authority.Person]](ctx, c.to, procRevoke, &q)
	return all.Items, err
}

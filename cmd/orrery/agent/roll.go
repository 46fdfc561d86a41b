package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
)

// Standing is what a node says of the holder of a certificate.
type Standing struct {
	Belongs bool   `json:"belongs"`
	Evicted bool   `json:"evicted,omitempty"`
	Why     string `json:"why,omitempty"`
}

// openRoll makes the part that knows whose certificates count.
func (n *Node) openRoll(ctx context.Context) (err error) {
	n.roll, err = authority.OpenRoll(ctx, authority.RollConfig{
		Self: n.identity.ID, Table: n.table, Logger: n.log,
		Belongs:    func(id fabric.NodeID) bool { return n.table.Status().Has(id) },
		Introduced: func(id fabric.NodeID) bool { _, ok := n.addresses.get(id); return ok },
		Ready:      func() bool { return n.table.Status().Leader != "" },
		Ask:        n.askAround, Changed: n.expel,
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
	parts.Go(func() error { return n.inquire(ctx) })
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
	n.addresses.drop(out)
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
	for _, b := range append(n.addresses.all(), n.members.Beacons()...) {
		node := fabric.Identity{ID: b.ID, Name: b.Name, Role: fabric.RoleNode}
		if sure, err := n.roll.Known(node); sure && err == nil && b.ID != n.identity.ID && !slices.Contains(all, b.ID) {
			all = append(all, b.ID)
		}
	}
	return all
}

// askAround asks the other nodes about a holder, all at once; the first that knows decides.
func (n *Node) askAround(ctx context.Context, holder fabric.Identity) error {
	nodes := n.known()
	answers := make(chan *Standing, len(nodes))
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, id := range nodes {
		asking.Go(func() {
			s, err := ask[Standing](ctx, n.peer(id), procStanding, &holder)
			if err != nil {
				answers <- nil
				return
			}
			answers <- &s
		})
	}
	for range nodes {
		select {
		case s := <-answers:
			if s != nil {
				return s.err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("no other node could be asked: %w", fabric.ErrNotFound)
}

func (s Standing) err() error {
	switch {
	case s.Belongs:
		return nil
	case s.Evicted:
		return fmt.Errorf("%s (%w)", s.Why, fabric.ErrEvicted)
	}
	return fmt.Errorf("%s (%w)", s.Why, fabric.ErrForbidden)
}

// standing answers askAround.
func (n *Node) standing(ctx context.Context, holder *fabric.Identity) (*Standing, error) {
	err := n.roll.LookUp(ctx, *holder)
	switch {
	case err == nil:
		return &Standing{Belongs: true}, nil
	case errors.Is(err, fabric.ErrEvicted), errors.Is(err, fabric.ErrForbidden):
		return &Standing{Evicted: errors.Is(err, fabric.ErrEvicted), Why: err.Error()}, nil
	}
	return nil, err
}

// inquire asks around while this node is alone or knows no leader of the table: it may have been put out while it was away, or the gossip may have
// another key, neither of which it would hear.
func (n *Node) inquire(ctx context.Context) error {
	for clock.Wait(ctx, time.Second) {
		if len(n.Nodes()) > 1 && n.table.Status().Leader != "" {
			continue
		}
		for _, id := range n.known() {
			attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
			answer, err := ask[rotation.Answer](attempt, n.peer(id), procKeys, &Empty{})
			cancel()
			switch {
			case errors.Is(err, fabric.ErrEvicted):
				n.putOut(err)
				return nil
			case err != nil: // perhaps another one answers
				continue
			}
			if err := n.rotator.Adopt(answer); err != nil {
				n.log.ErrorContext(ctx, "gossip with the others is not possible", "error", err)
			}
		}
	}
	return nil
}

// serveRoll registers what is about who belongs to the cluster.
func (n *Node) serveRoll(m *rpc.Mux) {
	rpc.Unary(m, procStanding, fabric.RoleNode, n.standing)
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

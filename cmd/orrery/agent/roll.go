package agent

import (
	"context"
	"fmt"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/rpc"
)

// serveRoll registers what is about who belongs to the cluster.
func (n *Node) serveRoll(m *rpc.Mux) {
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

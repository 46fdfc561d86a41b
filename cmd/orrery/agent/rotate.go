package agent

import (
	"context"
	"errors"
	"slices"
	"strings"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/membership"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
)

// ring are the gossip keys on the node's disk and in use.
type ring struct {
	kept *authority.Authority
	used *membership.Membership
}

var _ rotation.Ring = ring{}

// Keys are the keys, the one in use first.
func (r ring) Keys() [][]byte { return r.used.Keys() }

// Set keeps keys, and uses them.
func (r ring) Set(keys [][]byte) error {
	if err := r.kept.SetGossipKeys(keys); err != nil {
		return err
	}
	return r.used.SetKeys(keys)
}

// openRotation makes the part that changes the gossip's key.
func (n *Node) openRotation() {
	n.rotator = rotation.New(rotation.Config{
		Self: n.identity.ID, Table: n.table, Ring: ring{n.authority, n.members}, Nodes: n.enrolledNodes, Logger: n.log,
		Alive: func(id fabric.NodeID) bool { return slices.Contains(n.Nodes(), id) },
		Ask: func(ctx context.Context, id fabric.NodeID) (rotation.Answer, error) {
			return ask[rotation.Answer](ctx, n.peer(id), procKeys, &Empty{})
		},
		Turn: func(ctx context.Context, id fabric.NodeID, r rotation.Record) error {
			return tell(ctx, n.peer(id), procTurn, &r)
		},
	})
}

// enrolledNodes are all nodes of the cluster, there or not.
func (n *Node) enrolledNodes(ctx context.Context) ([]fabric.Identity, error) {
	names, err := n.table.List(ctx, authority.NamePrefix)
	if err != nil {
		return nil, err
	}
	var all []fabric.Identity
	for _, e := range names {
		if id := fabric.NodeID(e.Value); n.roll.Out(id) == nil {
			all = append(all, fabric.Identity{Cluster: n.identity.Cluster, ID: id, Name: strings.TrimPrefix(e.Key, authority.NamePrefix), Role: fabric.RoleNode})
		}
	}
	return all, nil
}

// RotateProgress is a node's step, or at the end the rotation.
type RotateProgress struct {
	Step   *rotation.Step   `json:"step,omitempty"`
	Result *rotation.Record `json:"result,omitempty"`
}

// serveRotation registers what is about the gossip's key. Keys go to nodes only.
func (n *Node) serveRotation(m *rpc.Mux) {
	rpc.Unary(m, procKeys, fabric.RoleNode, func(context.Context, *Empty) (*rotation.Answer, error) {
		a := n.rotator.Answer()
		return &a, nil
	})
	rpc.Unary(m, procTurn, fabric.RoleNode, func(ctx context.Context, r *rotation.Record) (*Empty, error) {
		return &Empty{}, n.rotator.Follow(ctx, *r)
	})
	rpc.ServerStream(m, procRotate, fabric.RoleOperator, func(ctx context.Context, _ *Empty, send func(*RotateProgress) error) error {
		// When the caller is gone ctx ends, so that an error of send needs no other care.
		record, err := n.rotator.Rotate(ctx, whoCalls(ctx).Name, func(s rotation.Step) { _ = send(&RotateProgress{Step: &s}) })
		if err != nil {
			return err
		}
		return send(&RotateProgress{Result: &record})
	})
}

// RotateKey changes the gossip's key on all nodes, or ends a rotation that was interrupted.
func (c *Client) RotateKey(ctx context.Context, told func(rotation.Step)) (rotation.Record, error) {
	for p, err := range rpc.CallStream[Empty, RotateProgress](ctx, c.to.peer, procRotate, &Empty{}) {
		switch {
		case err != nil:
			return rotation.Record{}, err
		case p.Result != nil:
			return *p.Result, nil
		case p.Step != nil:
			told(*p.Step)
		}
	}
	return rotation.Record{}, errors.New("the node ended the rotation without saying how")
}

package agent

import (
	"context"
	"errors"

	"orrery/fabric"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
)

// RotateProgress is a node's step, or at the end the rotation.
type RotateProgress struct {
	Step   *rotation.Step   `json:"step,omitempty"`
	Result *rotation.Record `json:"result,omitempty"`
}

// serveRotation registers what is about the gossip's key.
func (n *Node) serveRotation(m *rpc.Mux) {
	rpc.ServerStream(m, procRotate, fabric.RoleOperator, func(ctx context.Context, _ *Empty, send func(*RotateProgress) error) error {
		// When the caller is gone ctx ends, so that an error of send needs no other care.
		record, err := n.base.Rotator().Rotate(ctx, whoCalls(ctx).Name, func(s rotation.Step) { _ = send(&RotateProgress{Step: &s}) })
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

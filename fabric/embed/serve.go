package embed

import (
	"context"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/wire"
	"orrery/fabric/event"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
	"orrery/fabric/table/courier"
)

// The procedures of an embedded node besides those of the parts: a part of those of orrery node run (docs/formats/procedures.md), so that its command line works here, too.
const (
	procMembers = "/orrery.fabric.v1.Fabric/Members"
	procBeacon  = "/orrery.fabric.v1.Fabric/Beacon"
	procToken   = "/orrery.fabric.v1.Fabric/Token"
	procEnroll  = "/orrery.fabric.v1.Table/Add"
	procKeys    = "/orrery.fabric.v1.Gossip/Keys"
	procTurn    = "/orrery.fabric.v1.Gossip/Turn"
)

type empty struct{}

type text struct {
	Value string `json:"value"`
}

type memberList struct {
	Items []fabric.Member `json:"items"`
}

type tokenRequest struct {
	Role fabric.Role   `json:"role"`
	TTL  time.Duration `json:"ttl"`
}

// sentinels are the errors that keep their meaning between nodes.
func (c Config) sentinels() rpc.Errors {
	return slices.Concat(rpc.FabricErrors(), keeper.Errors(), event.Errors(), c.Errors)
}

// mux is all that this node offers.
func (n *Node) mux() *rpc.Mux {
	m := rpc.NewMux(n.config.sentinels(), n.config.Logger)
	rpc.Unary(m, procMembers, fabric.RoleViewer, func(context.Context, *empty) (*memberList, error) { return &memberList{n.Members()}, nil })
	rpc.Unary(m, procBeacon, fabric.RoleNode, func(context.Context, *empty) (*fabric.Beacon, error) {
		b := n.beacon()
		return &b, nil
	})
	rpc.Unary(m, procToken, fabric.RoleOperator, func(ctx context.Context, q *tokenRequest) (*text, error) {
		token, err := n.registrar.Issue(ctx, q.Role, q.TTL)
		return &text{token.Encode()}, err
	})
	if n.config.Enroll == nil {
		rpc.Unary(m, procEnroll, fabric.RoleNode, func(ctx context.Context, q *text) (*empty, error) {
			caller, ok := rpc.Caller(ctx)
			if !ok {
				return nil, fabric.ErrForbidden
			}
			return &empty{}, n.table.Add(ctx, caller.ID, q.Value)
		})
	}
	rpc.Unary(m, procKeys, fabric.RoleNode, func(context.Context, *empty) (*rotation.Answer, error) {
		a := n.rotator.Answer()
		return &a, nil
	})
	rpc.Unary(m, procTurn, fabric.RoleNode, func(ctx context.Context, r *rotation.Record) (*empty, error) {
		return &empty{}, n.rotator.Follow(ctx, *r)
	})
	rpc.HandleStanding(m, n.roll)
	rpc.HandleJoin(m, n.registrar, func() []fabric.Beacon { return n.members.Load().Beacons() })
	m.HandleStream(courier.Kind, fabric.RoleNode, n.courier.Receiver(n.table))
	m.HandleConn(wire.Protocol, fabric.RoleViewer, n.replicas.Serve, n.replicas.Refused)
	keeper.Offer(m, n.keeper, n.chains)
	event.Offer(m, n.events)
	if n.config.Serve != nil {
		n.config.Serve(m)
	}
	return m
}

// beacon is what this node announces.
func (n *Node) beacon() fabric.Beacon {
	return fabric.Beacon{
		Cluster: n.identity.Cluster, ID: n.identity.ID, Name: n.identity.Name,
		RPC: n.Address(), Gossip: n.config.reachable(n.members.Load().Gossip()),
	}
}

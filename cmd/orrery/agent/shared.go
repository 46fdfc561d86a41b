package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/wire"
	"orrery/fabric/client"
	"orrery/fabric/rpc"
	"orrery/fabric/shared"
	"orrery/fabric/table"
	"orrery/internal/fault"
)

// sharedFile has what the node knew last of the shared keys.
const sharedFile = "shared.keys"

// EnrollRequest is how a node asks to be part of the table.
type EnrollRequest struct {
	Value string `json:"value"` // its address
	// Shared says that the node can have the shared keys in a bucket. Older versions do not say it.
	Shared bool `json:"shared,omitempty"`
}

// MoveRequest asks to move the shared keys to the bucket, or what would become of that.
type MoveRequest struct {
	DryRun bool `json:"dryRun,omitempty"`
}

// MoveProgress is a step that was done, or at the end how the shared keys are.
type MoveProgress struct {
	Step   string `json:"step,omitempty"`
	Result *Move  `json:"result,omitempty"`
}

// Move is how the shared keys are.
type Move struct {
	shared.Status
	Nodes []Able `json:"nodes,omitempty"` // if they are not in the bucket
	// Problem is why they cannot be moved; empty: they can be, or are where they should be.
	Problem string `json:"problem,omitempty"`
}

// Able says whether a node can have the shared keys in a bucket.
type Able struct {
	Node fabric.NodeID `json:"node"`
	Name string        `json:"name,omitempty"`
	Err  string        `json:"error,omitempty"` // empty: it can
}

// openShared opens the table that all parts of the node share.
func (n *Node) openShared(ctx context.Context) (err error) {
	n.shared, err = shared.Open(ctx, shared.Config{
		Ground: n.table, Open: n.openKeys, Able: n.movable, Logger: n.log, File: filepath.Join(n.dir, sharedFile),
		Create: func(ctx context.Context) error {
			return n.chains.CreateBucket(ctx, placement.Bucket{Name: shared.Bucket, Factor: shared.Factor, Durability: placement.Synced})
		},
		Leads: func() bool { return n.table.Status().Leader == n.identity.ID },
	})
	return err
}

// openKeys opens a client of the replicated store that reaches this node's own replicas without the network.
func (n *Node) openKeys(ctx context.Context) (*client.Client, error) {
	life := context.WithoutCancel(ctx)
	return client.Open(ctx, client.Config{
		Nodes: []string{string(n.identity.ID)},
		Dial: func(ctx context.Context, _ string, id fabric.NodeID) (net.Conn, error) {
			if id != "" && id != n.identity.ID {
				return n.client.DialNode(ctx, id, wire.Protocol)
			}
			near, far := net.Pipe()
			go n.base.Replicas().Serve(life, n.identity, far) // it ends with the connection, and the replicas' Close waits for it
			return near, nil
		},
	})
}

// serveShared registers what the move of the shared keys needs.
func (n *Node) serveShared(m *rpc.Mux) {
	rpc.Unary(m, procAble, fabric.RoleNode, func(context.Context, *Empty) (*Empty, error) { return &Empty{}, canShare() })
	rpc.ServerStream(m, procMove, fabric.RoleOperator, func(ctx context.Context, q *MoveRequest, send func(*MoveProgress) error) error {
		if !q.DryRun {
			// When the caller is gone ctx ends, so that an error of send needs no other care.
			if err := n.shared.Migrate(ctx, func(step string) { _ = send(&MoveProgress{Step: step}) }); err != nil {
				return err
			}
		}
		move, err := n.moveOf(ctx)
		if err != nil {
			return err
		}
		return send(&MoveProgress{Result: move})
	})
}

// canShare is an error if this node is to be taken for one of an older version, by a test.
func canShare() error { return fault.Point("shared.able") }

// enrollOther takes another node into the table. One that knows no bucket of shared keys would go by what is left of them in the table.
func (n *Node) enrollOther(ctx context.Context, q *EnrollRequest) (*Empty, error) {
	caller, ok := rpc.Caller(ctx)
	if !ok {
		return nil, fabric.ErrForbidden
	}
	if q.Shared {
		return &Empty{}, n.table.Add(ctx, caller.ID, q.Value)
	}
	if err := n.enrollable(ctx, caller); err != nil {
		return nil, err
	}
	if err := n.table.Add(ctx, caller.ID, q.Value); err != nil {
		return nil, err
	}
	err := n.enrollable(ctx, caller) // they may have been sealed meanwhile
	if err != nil {
		err = errors.Join(err, n.table.Remove(ctx, caller.ID))
	}
	return &Empty{}, err
}

// enrollable says why a node of an older version cannot be part of the table.
func (n *Node) enrollable(ctx context.Context, caller fabric.Identity) error {
	ok, err := n.shared.OnGround(ctx)
	if err == nil && !ok {
		err = fmt.Errorf("node %s cannot be part of the table: its version does not know where this cluster keeps its placements (install a newer one on it)", caller.Name)
		n.log.WarnContext(ctx, "a node is refused", "error", err)
	}
	return err
}

// ables asks all nodes of the table whether they can have the shared keys in a bucket. It may be called before this node has joined the gossip.
func (n *Node) ables(ctx context.Context) ([]Able, error) {
	members, err := n.table.List(ctx, table.MemberPrefix)
	if err != nil {
		return nil, err
	}
	named, err := n.table.List(ctx, authority.NamePrefix)
	if err != nil {
		return nil, err
	}
	names := map[fabric.NodeID]string{}
	for _, e := range named {
		names[fabric.NodeID(e.Value)] = strings.TrimPrefix(e.Key, authority.NamePrefix)
	}
	all := make([]Able, len(members))
	var asking sync.WaitGroup
	for i, e := range members {
		a := &all[i]
		a.Node = fabric.NodeID(strings.TrimPrefix(e.Key, table.MemberPrefix))
		a.Name = names[a.Node]
		asking.Go(func() {
			if err := n.askAble(ctx, a.Node); err != nil {
				a.Err = err.Error()
			}
		})
	}
	asking.Wait()
	return all, nil
}

func (n *Node) askAble(ctx context.Context, id fabric.NodeID) error {
	if id == n.identity.ID {
		return canShare()
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return tell(ctx, n.peer(id), procAble, &Empty{})
}

// movable says what is in the way of moving the shared keys to the bucket.
func (n *Node) movable(ctx context.Context) error {
	nodes, err := n.ables(ctx)
	if err != nil {
		return err
	}
	return n.obstacles(ctx, nodes)
}

func (n *Node) obstacles(ctx context.Context, nodes []Able) error {
	overview, err := n.chains.Overview(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range overview.Buckets {
		if b.Name == shared.Bucket {
			errs = append(errs, fmt.Errorf("there is a bucket %s (copy what you need of it elsewhere, and delete it with orrery kv bucket delete)", b.Name))
		}
	}
	for _, a := range nodes {
		if a.Err != "" {
			errs = append(errs, fmt.Errorf("node %s %s does not say that it can follow: %s (start it, with this version, or take it out of the cluster)", a.Name, a.Node, a.Err))
		}
	}
	return errors.Join(errs...)
}

// moveOf says how the shared keys are, and what is in the way of moving them.
func (n *Node) moveOf(ctx context.Context) (*Move, error) {
	m := &Move{Status: n.shared.Status()}
	if m.Phase != "" {
		return m, nil
	}
	var err error
	if m.Nodes, err = n.ables(ctx); err != nil {
		return nil, err
	}
	if err := n.obstacles(ctx, m.Nodes); err != nil {
		m.Problem = err.Error()
	}
	return m, nil
}

// ownBucket says why people neither create nor delete a bucket: the shared keys are in it, or are to be.
func (n *Node) ownBucket(ctx context.Context, name string, deleted bool) error {
	if name != shared.Bucket {
		return nil
	}
	if ground, err := n.shared.OnGround(ctx); err != nil || deleted && ground {
		return err // somebody made it before it got this meaning
	}
	return fmt.Errorf("bucket %s is the nodes' own: the cluster's placements, routes and sessions are kept in it", name)
}

// MoveShared moves the shared keys to the bucket, or only says what would become of that.
func (c *Client) MoveShared(ctx context.Context, dryRun bool, done func(step string)) (Move, error) {
	for p, err := range rpc.CallStream[MoveRequest, MoveProgress](ctx, c.to.peer, procMove, &MoveRequest{dryRun}) {
		switch {
		case err != nil:
			return Move{}, err
		case p.Result != nil:
			return *p.Result, nil
		}
		done(p.Step)
	}
	return Move{}, errors.New("the node ended the move without saying how (run the command again)")
}

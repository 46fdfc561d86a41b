package keeper

import (
	"context"
	"fmt"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/rpc"
)

// Errors are the errors that keep their meaning on the way.
func Errors() rpc.Errors {
	return rpc.Errors{{Name: "keeper.not_keeper", Err: ErrNotKeeper}, {Name: "chain.busy", Err: chain.ErrBusy}}
}

// Empty is an answer without anything in it.
type Empty struct{}

// Name is a request about something that has a name.
type Name struct {
	Name string `json:"name"`
}

// MoveRequest asks for a move.
type MoveRequest struct {
	Chain chain.ID      `json:"chain"`
	From  fabric.NodeID `json:"from"`
	To    fabric.NodeID `json:"to"`
}

// SplitRequest asks for a split.
type SplitRequest struct {
	Chain chain.ID `json:"chain"`
	Key   []byte   `json:"key"`
}

// The keeper's procedures are for nodes; those of every node pass on to the keeper what people want.
const (
	service = "/orrery.chain.v1.Keeper/"
	front   = "/orrery.chain.v1.Chains/"
)

// Offer registers what a node does for other nodes, which think that it is the keeper, and for people.
func Offer(m *rpc.Mux, k *Keeper, a *Anywhere) {
	rpc.Unary(m, service+"Report", fabric.RoleNode, func(ctx context.Context, r *placement.Report) (*placement.Grant, error) {
		caller, ok := rpc.Caller(ctx)
		if !ok || caller.ID != r.Node {
			return nil, fmt.Errorf("%w: node %s reports as node %s", fabric.ErrForbidden, caller.ID, r.Node)
		}
		return k.Report(ctx, r)
	})
	offer(m, service, fabric.RoleNode, fabric.RoleNode, k)
	rpc.Unary(m, front+"Known", fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*placement.Overview, error) { return a.Known(ctx) })
	offer(m, front, fabric.RoleViewer, fabric.RoleOperator, people{a})
}

// people is what people may want: buckets that are the nodes' own they neither create nor delete.
type people struct{ *Anywhere }

// CreateBucket is Keeper.CreateBucket.
func (p people) CreateBucket(ctx context.Context, b placement.Bucket) error {
	if err := p.own(ctx, b.Name, false); err != nil {
		return err
	}
	return p.Anywhere.CreateBucket(ctx, b)
}

// DeleteBucket is Keeper.DeleteBucket.
func (p people) DeleteBucket(ctx context.Context, name string) error {
	if err := p.own(ctx, name, true); err != nil {
		return err
	}
	return p.Anywhere.DeleteBucket(ctx, name)
}

func (p people) own(ctx context.Context, name string, deleted bool) error {
	if p.Own == nil {
		return nil
	}
	return p.Own(ctx, name, deleted)
}

// orders are what people want of the keeper.
type orders interface {
	Overview(ctx context.Context) (*placement.Overview, error)
	CreateBucket(ctx context.Context, b placement.Bucket) error
	DeleteBucket(ctx context.Context, name string) error
	Move(ctx context.Context, id chain.ID, from, to fabric.NodeID) error
	Split(ctx context.Context, id chain.ID, key []byte) error
	Drain(ctx context.Context, id fabric.NodeID, drain bool) error
	Recover(ctx context.Context, q placement.RecoverRequest) (*placement.Recovery, error)
}

func offer(m *rpc.Mux, prefix string, look, change fabric.Role, o orders) {
	rpc.Unary(m, prefix+"Overview", look, func(ctx context.Context, _ *Empty) (*placement.Overview, error) { return o.Overview(ctx) })
	rpc.Unary(m, prefix+"CreateBucket", change, func(ctx context.Context, b *placement.Bucket) (*Empty, error) {
		return &Empty{}, o.CreateBucket(ctx, *b)
	})
	rpc.Unary(m, prefix+"DeleteBucket", change, func(ctx context.Context, n *Name) (*Empty, error) {
		return &Empty{}, o.DeleteBucket(ctx, n.Name)
	})
	rpc.Unary(m, prefix+"Move", change, func(ctx context.Context, q *MoveRequest) (*Empty, error) {
		return &Empty{}, o.Move(ctx, q.Chain, q.From, q.To)
	})
	rpc.Unary(m, prefix+"Split", change, func(ctx context.Context, q *SplitRequest) (*Empty, error) {
		return &Empty{}, o.Split(ctx, q.Chain, q.Key)
	})
	rpc.Unary(m, prefix+"Drain", change, func(ctx context.Context, n *placement.Node) (*Empty, error) {
		return &Empty{}, o.Drain(ctx, n.ID, n.Drain)
	})
	rpc.Unary(m, prefix+"Recover", change, func(ctx context.Context, q *placement.RecoverRequest) (*placement.Recovery, error) {
		if who, ok := rpc.Caller(ctx); ok && prefix == front {
			q.By = who.Name
		}
		return o.Recover(ctx, *q)
	})
}

// Remote is the keeper as people reach it, through any node.
type Remote struct{ Peer *rpc.Peer }

// Anywhere is the keeper, wherever it is.
type Anywhere struct {
	Self   fabric.NodeID
	Local  *Keeper
	Leader func() fabric.NodeID             // of the table, as far as this node knows; empty: nobody
	Peer   func(id fabric.NodeID) *rpc.Peer // to another node
	Last   *Last                            // of Known
	// Own says why people must not create, or delete, a bucket; nil: they may any.
	Own func(ctx context.Context, bucket string, deleted bool) error
}

// call runs a procedure at the keeper.
func call[Req, Res any](ctx context.Context, a *Anywhere, procedure string, q *Req, local func() (*Res, error)) (*Res, error) {
	leader := a.Leader()
	switch leader {
	case "":
		return nil, fmt.Errorf("%w: the table has no leader (is a majority of its nodes there?)", ErrNotKeeper)
	case a.Self:
		return local()
	}
	return rpc.Call[Req, Res](ctx, a.Peer(leader), service+procedure, q)
}

func nothing(err error) (*Empty, error) { return &Empty{}, err }

// Report is Keeper.Report.
func (a *Anywhere) Report(ctx context.Context, r *placement.Report) (*placement.Grant, error) {
	return call(ctx, a, "Report", r, func() (*placement.Grant, error) { return a.Local.Report(ctx, r) })
}

// Overview is Keeper.Overview.
func (a *Anywhere) Overview(ctx context.Context) (*placement.Overview, error) {
	return call(ctx, a, "Overview", &Empty{}, func() (*placement.Overview, error) { return a.Local.Overview(ctx) })
}

// CreateBucket is Keeper.CreateBucket, and returns when the bucket can be used.
func (a *Anywhere) CreateBucket(ctx context.Context, b placement.Bucket) error {
	if _, err := call(ctx, a, "CreateBucket", &b, func() (*Empty, error) { return nothing(a.Local.CreateBucket(ctx, b)) }); err != nil {
		return err
	}
	return a.usable(ctx, b.Name)
}

// DeleteBucket is Keeper.DeleteBucket.
func (a *Anywhere) DeleteBucket(ctx context.Context, name string) error {
	_, err := call(ctx, a, "DeleteBucket", &Name{name}, func() (*Empty, error) { return nothing(a.Local.DeleteBucket(ctx, name)) })
	return err
}

// Move is Keeper.Move.
func (a *Anywhere) Move(ctx context.Context, id chain.ID, from, to fabric.NodeID) error {
	_, err := call(ctx, a, "Move", &MoveRequest{id, from, to}, func() (*Empty, error) { return nothing(a.Local.Move(ctx, id, from, to)) })
	return err
}

// Split is Keeper.Split.
func (a *Anywhere) Split(ctx context.Context, id chain.ID, key []byte) error {
	_, err := call(ctx, a, "Split", &SplitRequest{id, key}, func() (*Empty, error) { return nothing(a.Local.Split(ctx, id, key)) })
	return err
}

// Drain is Keeper.Drain.
func (a *Anywhere) Drain(ctx context.Context, id fabric.NodeID, drain bool) error {
	_, err := call(ctx, a, "Drain", &placement.Node{ID: id, Drain: drain}, func() (*Empty, error) { return nothing(a.Local.Drain(ctx, id, drain)) })
	return err
}

// Recover is Keeper.Recover.
func (a *Anywhere) Recover(ctx context.Context, q placement.RecoverRequest) (*placement.Recovery, error) {
	return call(ctx, a, "Recover", &q, func() (*placement.Recovery, error) { return a.Local.Recover(ctx, q) })
}

// Overview is Keeper.Overview.
func (r Remote) Overview(ctx context.Context) (*placement.Overview, error) {
	return rpc.Call[Empty, placement.Overview](ctx, r.Peer, front+"Overview", &Empty{})
}

// Known is Anywhere.Known.
func (r Remote) Known(ctx context.Context) (*placement.Overview, error) {
	return rpc.Call[Empty, placement.Overview](ctx, r.Peer, front+"Known", &Empty{})
}

// CreateBucket is Anywhere.CreateBucket.
func (r Remote) CreateBucket(ctx context.Context, b placement.Bucket) error {
	_, err := rpc.Call[placement.Bucket, Empty](ctx, r.Peer, front+"CreateBucket", &b)
	return err
}

// DeleteBucket is Keeper.DeleteBucket.
func (r Remote) DeleteBucket(ctx context.Context, name string) error {
	_, err := rpc.Call[Name, Empty](ctx, r.Peer, front+"DeleteBucket", &Name{name})
	return err
}

// Move is Keeper.Move.
func (r Remote) Move(ctx context.Context, id chain.ID, from, to fabric.NodeID) error {
	_, err := rpc.Call[MoveRequest, Empty](ctx, r.Peer, front+"Move", &MoveRequest{id, from, to})
	return err
}

// Split is Keeper.Split.
func (r Remote) Split(ctx context.Context, id chain.ID, key []byte) error {
	_, err := rpc.Call[SplitRequest, Empty](ctx, r.Peer, front+"Split", &SplitRequest{id, key})
	return err
}

// Drain is Keeper.Drain.
func (r Remote) Drain(ctx context.Context, id fabric.NodeID, drain bool) error {
	_, err := rpc.Call[placement.Node, Empty](ctx, r.Peer, front+"Drain", &placement.Node{ID: id, Drain: drain})
	return err
}

// Recover is Keeper.Recover.
func (r Remote) Recover(ctx context.Context, q placement.RecoverRequest) (*placement.Recovery, error) {
	return rpc.Call[placement.RecoverRequest, placement.Recovery](ctx, r.Peer, front+"Recover", &q)
}

var (
	_ orders = (*Keeper)(nil)
	_ orders = (*Anywhere)(nil)
	_ orders = Remote{}
)

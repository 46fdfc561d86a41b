package agent

import (
	"context"
	"encoding/json"

	"orrery/fabric/rpc"
	"orrery/state"
)

// target is where a procedure is carried to: a node, or through it the node that is called on.
type target struct {
	peer *rpc.Peer
	on   string // name of another node; empty: the peer itself
}

// ask carries one procedure to one node and returns its answer.
func ask[Res, Req any](ctx context.Context, to target, procedure string, request *Req) (Res, error) {
	var response Res
	if to.on != "" {
		encoded, err := json.Marshal(request)
		if err != nil {
			return response, err
		}
		answer, err := ask[Forwarded](ctx, target{peer: to.peer}, procForward, &Forwarded{On: to.on, Procedure: procedure, Content: encoded})
		if err != nil {
			return response, err
		}
		err = json.Unmarshal(answer.Content, &response)
		return response, err
	}
	answer, err := rpc.Call[Req, Res](ctx, to.peer, procedure, request)
	if err != nil {
		return response, err
	}
	return *answer, nil
}

// tell carries a procedure that answers nothing.
func tell[Req any](ctx context.Context, to target, procedure string, request *Req) error {
	_, err := ask[Empty](ctx, to, procedure, request)
	return err
}

// remoteKeeper is the keeper of another node, or of this one as its command line sees it.
type remoteKeeper struct{ to target }

var _ state.Keeper = remoteKeeper{}

func (k remoteKeeper) Activate(ctx context.Context, c state.Component) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procActivate, &ComponentRequest{Component: c, By: state.Caller(ctx)})
}

func (k remoteKeeper) Deactivate(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procDeactivate, &RefRequest{Ref: r, By: state.Caller(ctx)})
}

func (k remoteKeeper) Snapshot(ctx context.Context, r state.Ref, reason string) (state.Generation, error) {
	return ask[state.Generation](ctx, k.to, procSnapshot, &RefRequest{Ref: r, Reason: reason})
}

func (k remoteKeeper) Restore(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return tell(ctx, k.to, procRestore, &RefRequest{Ref: r, ID: id, By: state.Caller(ctx)})
}

func (k remoteKeeper) CollectGarbage(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procCollect, &RefRequest{Ref: r, By: state.Caller(ctx)})
}

func (k remoteKeeper) Fork(ctx context.Context, from state.Ref, into state.Component) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procFork, &ComponentRequest{Component: into, From: from})
}

func (k remoteKeeper) Status(ctx context.Context, r state.Ref) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procStatus, &RefRequest{Ref: r})
}

func (k remoteKeeper) List(ctx context.Context) ([]state.Status, error) {
	all, err := ask[List[state.Status]](ctx, k.to, procList, &Empty{})
	return all.Items, err
}

func (k remoteKeeper) Track(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procTrack, &RefRequest{Ref: r})
}

func (k remoteKeeper) Untrack(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procUntrack, &RefRequest{Ref: r})
}

func (k remoteKeeper) Stage(ctx context.Context, c state.Component, id state.SnapshotID) error {
	return tell(ctx, k.to, procStage, &ComponentRequest{Component: c, ID: id})
}

func (k remoteKeeper) Commit(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return tell(ctx, k.to, procCommit, &RefRequest{Ref: r, ID: id})
}

func (k remoteKeeper) Unstage(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procUnstage, &RefRequest{Ref: r})
}

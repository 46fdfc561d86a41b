package agent

import (
	"context"

	"orrery/state"
)

// caller carries one procedure to one node.
type caller interface {
	// call sends request to the procedure and decodes the answer into response, a pointer.
	call(ctx context.Context, procedure string, request, response any) error
}

// ask carries one procedure and returns its answer.
func ask[Res any](ctx context.Context, to caller, procedure string, request any) (Res, error) {
	var response Res
	err := to.call(ctx, procedure, request, &response)
	return response, err
}

// remoteKeeper is the keeper of another node, or of this one as its command line sees it.
type remoteKeeper struct{ to caller }

var _ state.Keeper = remoteKeeper{}

func (k remoteKeeper) Activate(ctx context.Context, c state.Component) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procActivate, &ComponentRequest{Component: c})
}

func (k remoteKeeper) Deactivate(ctx context.Context, r state.Ref) error {
	return k.to.call(ctx, procDeactivate, &RefRequest{Ref: r}, &Empty{})
}

func (k remoteKeeper) Snapshot(ctx context.Context, r state.Ref, reason string) (state.Generation, error) {
	return ask[state.Generation](ctx, k.to, procSnapshot, &RefRequest{Ref: r, Reason: reason})
}

func (k remoteKeeper) Restore(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return k.to.call(ctx, procRestore, &RefRequest{Ref: r, ID: id}, &Empty{})
}

func (k remoteKeeper) CollectGarbage(ctx context.Context, r state.Ref) error {
	return k.to.call(ctx, procCollect, &RefRequest{Ref: r}, &Empty{})
}

func (k remoteKeeper) Fork(ctx context.Context, from state.Ref, into state.Component) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procFork, &ComponentRequest{Component: into, From: from})
}

func (k remoteKeeper) Status(ctx context.Context, r state.Ref) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procStatus, &RefRequest{Ref: r})
}

func (k remoteKeeper) List(ctx context.Context) ([]state.Status, error) {
	var all List[state.Status]
	err := k.to.call(ctx, procList, &Empty{}, &all)
	return all.Items, err
}

func (k remoteKeeper) Track(ctx context.Context, r state.Ref) error {
	return k.to.call(ctx, procTrack, &RefRequest{Ref: r}, &Empty{})
}

func (k remoteKeeper) Untrack(ctx context.Context, r state.Ref) error {
	return k.to.call(ctx, procUntrack, &RefRequest{Ref: r}, &Empty{})
}

func (k remoteKeeper) Stage(ctx context.Context, c state.Component, id state.SnapshotID) error {
	return k.to.call(ctx, procStage, &ComponentRequest{Component: c, ID: id}, &Empty{})
}

func (k remoteKeeper) Commit(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return k.to.call(ctx, procCommit, &RefRequest{Ref: r, ID: id}, &Empty{})
}

func (k remoteKeeper) Unstage(ctx context.Context, r state.Ref) error {
	return k.to.call(ctx, procUnstage, &RefRequest{Ref: r}, &Empty{})
}

// Archive is what the command line does with a snapshot store.
type Archive interface {
	Generations(ctx context.Context, r state.Ref) ([]state.Generation, error)
	Get(ctx context.Context, id state.SnapshotID) (state.Snapshot, error)
	Verify(ctx context.Context, id state.SnapshotID) error
	Prune(ctx context.Context, r state.Ref, keep int, dryRun bool) (state.Pruned, error)
}

// remoteStore is the snapshot store of a node.
type remoteStore struct{ to caller }

var _ Archive = remoteStore{}

func (s remoteStore) Generations(ctx context.Context, r state.Ref) ([]state.Generation, error) {
	var all List[state.Generation]
	err := s.to.call(ctx, procGenerations, &RefRequest{Ref: r}, &all)
	return all.Items, err
}

func (s remoteStore) Get(ctx context.Context, id state.SnapshotID) (state.Snapshot, error) {
	return ask[state.Snapshot](ctx, s.to, procGet, &RefRequest{ID: id})
}

func (s remoteStore) Verify(ctx context.Context, id state.SnapshotID) error {
	return s.to.call(ctx, procVerify, &RefRequest{ID: id}, &Empty{})
}

func (s remoteStore) Prune(ctx context.Context, r state.Ref, keep int, dryRun bool) (state.Pruned, error) {
	return ask[state.Pruned](ctx, s.to, procPrune, &RefRequest{Ref: r, Keep: keep, DryRun: dryRun})
}

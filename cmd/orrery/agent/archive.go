package agent

import (
	"context"

	"orrery/state"
)

// Archive is what the command line does with a snapshot store.
type Archive interface {
	state.Curator
	state.Auditor
	Generations(ctx context.Context, r state.Ref) ([]state.Generation, error)
	Get(ctx context.Context, id state.SnapshotID) (state.Snapshot, error)
	Verify(ctx context.Context, id state.SnapshotID) error
	Prune(ctx context.Context, r state.Ref, keep state.Retention, dryRun bool) (state.Pruned, error)
	// Usage is the store's size on disk.
	Usage(ctx context.Context) (state.Usage, error)
}

// remoteStore is the snapshot store of a node.
type remoteStore struct{ to target }

var _ Archive = remoteStore{}

func (s remoteStore) Generations(ctx context.Context, r state.Ref) ([]state.Generation, error) {
	all, err := ask[List[state.Generation]](ctx, s.to, procGenerations, &RefRequest{Ref: r})
	return all.Items, err
}

func (s remoteStore) Get(ctx context.Context, id state.SnapshotID) (state.Snapshot, error) {
	return ask[state.Snapshot](ctx, s.to, procGet, &RefRequest{ID: id})
}

func (s remoteStore) Verify(ctx context.Context, id state.SnapshotID) error {
	return tell(ctx, s.to, procVerify, &RefRequest{ID: id})
}

func (s remoteStore) Audit(ctx context.Context, ids []state.SnapshotID, readData bool) (state.Audit, error) {
	return ask[state.Audit](ctx, s.to, procAudit, &AuditRequest{IDs: ids, ReadData: readData})
}

func (s remoteStore) Repair(ctx context.Context, dropLost, dryRun bool) (state.Repair, error) {
	return ask[state.Repair](ctx, s.to, procRepair, &RepairRequest{DropLost: dropLost, DryRun: dryRun})
}

func (s remoteStore) Prune(ctx context.Context, r state.Ref, keep state.Retention, dryRun bool) (state.Pruned, error) {
	return ask[state.Pruned](ctx, s.to, procPrune, &PruneRequest{Ref: r, Keep: keep, DryRun: dryRun})
}

func (s remoteStore) Forget(ctx context.Context, r state.Ref, numbers []uint64, dryRun bool) (state.Pruned, error) {
	return ask[state.Pruned](ctx, s.to, procForget, &PruneRequest{Ref: r, Numbers: numbers, DryRun: dryRun})
}

func (s remoteStore) Relabel(ctx context.Context, r state.Ref, number uint64, change state.Relabel) (state.Generation, error) {
	return ask[state.Generation](ctx, s.to, procRelabel, &RelabelRequest{Ref: r, Number: number, Change: change})
}

func (s remoteStore) Usage(ctx context.Context) (state.Usage, error) {
	return ask[state.Usage](ctx, s.to, procUsage, &Empty{})
}

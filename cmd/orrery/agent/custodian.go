package agent

import (
	"context"
	"time"

	"orrery/fabric"
	"orrery/fabric/rpc"
	"orrery/state"
)

var _ state.Custodian = remoteKeeper{}

func (k remoteKeeper) Health(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procHealth, &RefRequest{Ref: r})
}

func (k remoteKeeper) Integrity(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procIntegrity, &RefRequest{Ref: r})
}

func (k remoteKeeper) TestRestore(ctx context.Context, r state.Ref, id state.SnapshotID) (state.Tested, error) {
	return ask[state.Tested](ctx, k.to, procTestRestore, &RefRequest{Ref: r, ID: id})
}

func (k remoteKeeper) Lock(ctx context.Context, r state.Ref, by string, lasting time.Duration) (state.Lease, error) {
	return ask[state.Lease](ctx, k.to, procLock, &RefRequest{Ref: r, By: by, Lasting: lasting})
}

func (k remoteKeeper) Unlock(ctx context.Context, r state.Ref, by string, force bool) error {
	return tell(ctx, k.to, procUnlock, &RefRequest{Ref: r, By: by, Force: force})
}

func (k remoteKeeper) TakeSnapshots(ctx context.Context, q state.SnapshotRequest) ([]state.Generation, error) {
	all, err := ask[List[state.Generation]](ctx, k.to, procTake, &q)
	return all.Items, err
}

func (k remoteKeeper) RestoreAs(ctx context.Context, q state.RestoreRequest) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procRestoreAs, &AskedRestore{q, state.Caller(ctx)})
}

func (k remoteKeeper) Undo(ctx context.Context, q state.RestoreRequest) (state.Generation, error) {
	return ask[state.Generation](ctx, k.to, procUndo, &AskedRestore{q, state.Caller(ctx)})
}

func (k remoteKeeper) ForkAs(ctx context.Context, q state.ForkRequest) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procForkAs, &q)
}

func (k remoteKeeper) ResetFork(ctx context.Context, r state.Ref) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procResetFork, &RefRequest{Ref: r, By: state.Caller(ctx)})
}

func (k remoteKeeper) DeleteFork(ctx context.Context, r state.Ref) error {
	return tell(ctx, k.to, procDeleteFork, &RefRequest{Ref: r, By: state.Caller(ctx)})
}

func (k remoteKeeper) Replicate(ctx context.Context, q state.ReplicaRequest) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procReplicate, &q)
}

func (k remoteKeeper) Lag(ctx context.Context, r state.Ref) (state.Lag, error) {
	return ask[state.Lag](ctx, k.to, procLag, &RefRequest{Ref: r})
}

func (k remoteKeeper) Promote(ctx context.Context, r state.Ref) (state.Status, error) {
	return ask[state.Status](ctx, k.to, procPromote, &RefRequest{Ref: r, By: state.Caller(ctx)})
}

func (k remoteKeeper) Diff(ctx context.Context, q state.DiffRequest) (state.Difference, error) {
	return ask[state.Difference](ctx, k.to, procDiff, &q)
}

func (k remoteKeeper) DiffFork(ctx context.Context, q state.ForkDiffRequest) (state.Difference, error) {
	return ask[state.Difference](ctx, k.to, procDiffFork, &q)
}

func (k remoteKeeper) Shell(ctx context.Context, r state.Ref, command string) (state.Command, error) {
	return ask[state.Command](ctx, k.to, procShell, &RefRequest{Ref: r, Command: command})
}

func (k remoteKeeper) Migrate(ctx context.Context, r state.Ref, dryRun bool) ([]state.Migration, error) {
	all, err := ask[List[state.Migration]](ctx, k.to, procMigrate, &RefRequest{Ref: r, DryRun: dryRun, By: state.Caller(ctx)})
	return all.Items, err
}

func (k remoteKeeper) Sweep(ctx context.Context) error {
	return tell(ctx, k.to, procSweep, &Empty{})
}

// answerRef registers an operation on one component that answers something, for whoever the request says.
func answerRef[Res any](m *rpc.Mux, procedure string, role fabric.Role, do func(context.Context, *RefRequest) (Res, error)) {
	rpc.Unary(m, procedure, role, func(ctx context.Context, q *RefRequest) (*Res, error) {
		answer, err := do(state.WithCaller(ctx, q.By), q)
		return &answer, err
	})
}

// serveCustodian registers what a keeper does for people.
func (n *Node) serveCustodian(m *rpc.Mux) {
	k := n.local.keeper
	onRef(m, procHealth, fabric.RoleViewer, func(ctx context.Context, q *RefRequest) error { return k.Health(ctx, q.Ref) })
	onRef(m, procIntegrity, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) error { return k.Integrity(ctx, q.Ref) })
	onRef(m, procUnlock, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) error { return k.Unlock(ctx, q.Ref, q.By, q.Force) })
	onRef(m, procDeleteFork, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) error { return k.DeleteFork(ctx, q.Ref) })
	answerRef(m, procTestRestore, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (state.Tested, error) {
		return k.TestRestore(ctx, q.Ref, q.ID)
	})
	answerRef(m, procLock, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (state.Lease, error) {
		return k.Lock(ctx, q.Ref, q.By, q.Lasting)
	})
	answerRef(m, procResetFork, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (state.Status, error) {
		return k.ResetFork(ctx, q.Ref)
	})
	answerRef(m, procLag, fabric.RoleViewer, func(ctx context.Context, q *RefRequest) (state.Lag, error) {
		return k.Lag(ctx, q.Ref)
	})
	answerRef(m, procPromote, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (state.Status, error) {
		return k.Promote(ctx, q.Ref)
	})
	answerRef(m, procShell, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (state.Command, error) {
		return k.Shell(ctx, q.Ref, q.Command)
	})
	answerRef(m, procMigrate, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (List[state.Migration], error) {
		all, err := k.Migrate(ctx, q.Ref, q.DryRun)
		return List[state.Migration]{all}, err
	})
	rpc.Unary(m, procTake, fabric.RoleOperator, func(ctx context.Context, q *state.SnapshotRequest) (*List[state.Generation], error) {
		all, err := k.TakeSnapshots(ctx, *q)
		return &List[state.Generation]{all}, err
	})
	rpc.Unary(m, procRestoreAs, fabric.RoleOperator, func(ctx context.Context, q *AskedRestore) (*state.Status, error) {
		s, err := k.RestoreAs(state.WithCaller(ctx, q.By), q.RestoreRequest)
		return &s, err
	})
	rpc.Unary(m, procUndo, fabric.RoleOperator, func(ctx context.Context, q *AskedRestore) (*state.Generation, error) {
		g, err := k.Undo(state.WithCaller(ctx, q.By), q.RestoreRequest)
		return &g, err
	})
	rpc.Unary(m, procForkAs, fabric.RoleOperator, func(ctx context.Context, q *state.ForkRequest) (*state.Status, error) {
		s, err := k.ForkAs(ctx, *q)
		return &s, err
	})
	rpc.Unary(m, procReplicate, fabric.RoleOperator, func(ctx context.Context, q *state.ReplicaRequest) (*state.Status, error) {
		s, err := k.Replicate(ctx, *q)
		return &s, err
	})
	rpc.Unary(m, procDiff, fabric.RoleOperator, func(ctx context.Context, q *state.DiffRequest) (*state.Difference, error) {
		d, err := k.Diff(ctx, *q)
		return &d, err
	})
	rpc.Unary(m, procDiffFork, fabric.RoleOperator, func(ctx context.Context, q *state.ForkDiffRequest) (*state.Difference, error) {
		d, err := k.DiffFork(ctx, *q)
		return &d, err
	})
	rpc.Unary(m, procSweep, fabric.RoleOperator, func(ctx context.Context, _ *Empty) (*Empty, error) {
		return &Empty{}, k.Sweep(ctx)
	})
}

package agent

import (
	"context"
	"errors"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/fabric/rpc"
	"orrery/session"
	"orrery/session/overlay"
	"orrery/state"
)

// serve registers the procedures of the node that are not the fabric's own, with the role that each needs.
func (n *Node) serve(m *rpc.Mux) {
	n.serveFabric(m)
	n.serveShared(m)
	n.serveMembers(m)
	n.serveRoll(m)
	n.serveRotation(m)
	n.serveKeeper(m)
	n.serveCustodian(m)
	n.serveStore(m)
	n.serveDeploy(m)
	n.serveSessions(m)
	n.serveTop(m)
	n.offerMetrics(m)
	m.HandleStream(streamExport, fabric.RoleNode, n.serveExport)
	m.HandleStream(streamTake, fabric.RoleOperator, n.serveTake)
	m.HandleStream(streamGive, fabric.RoleOperator, n.serveGive)
	m.HandleStream(streamArtifact, fabric.RoleDeveloper, n.receiveArtifact)
	m.HandleStream(streamInstance, fabric.RoleNode, n.serveInstance)
	m.HandleStream(streamTunnel, fabric.RoleDeveloper, n.serveTunnel)
}

func (n *Node) serveFabric(m *rpc.Mux) {
	rpc.Unary(m, procLeave, fabric.RoleOperator, func(ctx context.Context, _ *Empty) (*Empty, error) {
		return &Empty{}, n.leave(ctx)
	})
	rpc.Unary(m, procEnroll, fabric.RoleNode, n.enrollOther)
	rpc.Unary(m, procForward, fabric.RoleOperator, n.forward)
	rpc.Unary(m, procLink, fabric.RoleViewer, func(context.Context, *Empty) (*Text, error) {
		return &Text{n.dashboard.link()}, nil
	})
	rpc.Unary(m, procView, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*View, error) {
		view, err := n.View(ctx)
		return &view, err
	})
}

// onRef registers a keeper's operation on one component that answers nothing.
func onRef(m *rpc.Mux, procedure string, role fabric.Role, do func(context.Context, *RefRequest) error) {
	rpc.Unary(m, procedure, role, func(ctx context.Context, q *RefRequest) (*Empty, error) {
		return &Empty{}, do(state.WithCaller(ctx, q.By), q)
	})
}

func (n *Node) serveKeeper(m *rpc.Mux) {
	k := n.local.keeper
	rpc.Unary(m, procActivate, fabric.RoleOperator, func(ctx context.Context, q *ComponentRequest) (*state.Status, error) {
		s, err := k.Activate(state.WithCaller(ctx, q.By), q.Component)
		return &s, err
	})
	rpc.Unary(m, procSnapshot, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) (*state.Generation, error) {
		g, err := k.Snapshot(ctx, q.Ref, q.Reason)
		return &g, err
	})
	rpc.Unary(m, procFork, fabric.RoleOperator, func(ctx context.Context, q *ComponentRequest) (*state.Status, error) {
		s, err := k.Fork(ctx, q.From, q.Component)
		return &s, err
	})
	rpc.Unary(m, procStatus, fabric.RoleViewer, func(ctx context.Context, q *RefRequest) (*state.Status, error) {
		s, err := k.Status(ctx, q.Ref)
		return &s, err
	})
	rpc.Unary(m, procList, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*List[state.Status], error) {
		all, err := k.List(ctx)
		return &List[state.Status]{all}, err
	})
	rpc.Unary(m, procReport, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*Report, error) {
		r, err := n.report(ctx)
		return &r, err
	})
	rpc.Unary(m, procStage, fabric.RoleNode, func(ctx context.Context, q *ComponentRequest) (*Empty, error) {
		return &Empty{}, k.Stage(ctx, q.Component, q.ID)
	})
	onRef(m, procDeactivate, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) error { return k.Deactivate(ctx, q.Ref) })
	onRef(m, procRestore, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) error { return k.Restore(ctx, q.Ref, q.ID) })
	onRef(m, procCollect, fabric.RoleOperator, func(ctx context.Context, q *RefRequest) error { return k.CollectGarbage(ctx, q.Ref) })
	onRef(m, procTrack, fabric.RoleNode, func(ctx context.Context, q *RefRequest) error { return k.Track(ctx, q.Ref) })
	onRef(m, procUntrack, fabric.RoleNode, func(ctx context.Context, q *RefRequest) error { return k.Untrack(ctx, q.Ref) })
	onRef(m, procCommit, fabric.RoleNode, func(ctx context.Context, q *RefRequest) error { return k.Commit(ctx, q.Ref, q.ID) })
	onRef(m, procUnstage, fabric.RoleNode, func(ctx context.Context, q *RefRequest) error { return k.Unstage(ctx, q.Ref) })
}

func (n *Node) serveStore(m *rpc.Mux) {
	s := n.local.store
	rpc.Unary(m, procGenerations, fabric.RoleViewer, func(ctx context.Context, q *RefRequest) (*List[state.Generation], error) {
		all, err := s.Generations(ctx, q.Ref)
		return &List[state.Generation]{all}, err
	})
	rpc.Unary(m, procGet, fabric.RoleViewer, func(ctx context.Context, q *RefRequest) (*state.Snapshot, error) {
		found, err := s.Get(ctx, q.ID)
		return &found, err
	})
	n.serveCuration(m)
	rpc.Unary(m, procObjects, fabric.RoleNode, func(ctx context.Context, q *RefRequest) (*List[string], error) {
		names, err := s.Objects(ctx, q.ID)
		return &List[string]{names}, err
	})
	rpc.Unary(m, procPull, fabric.RoleNode, func(ctx context.Context, q *PullRequest) (*Bytes, error) {
		moved, err := n.pull(ctx, q)
		return &Bytes{moved}, err
	})
	rpc.Unary(m, procDescribe, fabric.RoleViewer, func(_ context.Context, q *Text) (*state.Description, error) {
		d, err := n.describe(q.Value)
		return &d, err
	})
	rpc.Unary(m, procModules, fabric.RoleViewer, func(context.Context, *Empty) (*List[state.Description], error) {
		return &List[state.Description]{n.local.describe()}, nil
	})
	rpc.Unary(m, procHas, fabric.RoleDeveloper, func(_ context.Context, q *List[string]) (*List[string], error) {
		var missing []string
		for _, sum := range q.Items {
			if !n.local.artifacts.has(sum) {
				missing = append(missing, sum)
			}
		}
		return &List[string]{missing}, nil
	})
	rpc.Unary(m, procAudit, fabric.RoleViewer, func(ctx context.Context, q *AuditRequest) (*state.Audit, error) {
		a, err := s.Audit(ctx, q.IDs, q.ReadData)
		return &a, err
	})
	onRef(m, procVerify, fabric.RoleViewer, func(ctx context.Context, q *RefRequest) error { return s.Verify(ctx, q.ID) })
}

// serveCuration registers what edits the generations of the store.
func (n *Node) serveCuration(m *rpc.Mux) {
	s := n.local.store
	rpc.Unary(m, procPrune, fabric.RoleOperator, func(ctx context.Context, q *PruneRequest) (*state.Pruned, error) {
		p, err := s.Prune(ctx, q.Ref, q.Keep, q.DryRun)
		return &p, err
	})
	rpc.Unary(m, procRepair, fabric.RoleOperator, func(ctx context.Context, q *RepairRequest) (*state.Repair, error) {
		r, err := s.Repair(ctx, q.DropLost, q.DryRun)
		return &r, err
	})
	rpc.Unary(m, procForget, fabric.RoleOperator, func(ctx context.Context, q *PruneRequest) (*state.Pruned, error) {
		p, err := s.Forget(ctx, q.Ref, q.Numbers, q.DryRun)
		return &p, err
	})
	rpc.Unary(m, procRelabel, fabric.RoleOperator, func(ctx context.Context, q *RelabelRequest) (*state.Generation, error) {
		g, err := s.Relabel(ctx, q.Ref, q.Number, q.Change)
		return &g, err
	})
	rpc.Unary(m, procUsage, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*state.Usage, error) {
		u, err := s.Usage(ctx)
		return &u, err
	})
}

func (n *Node) serveDeploy(m *rpc.Mux) {
	rpc.Unary(m, procPlan, fabric.RoleViewer, func(ctx context.Context, q *ManifestRequest) (*PlanAnswer, error) {
		if problems := n.engine.Check(ctx, q.Manifest); len(problems) > 0 {
			return &PlanAnswer{Problems: problems}, nil
		}
		plan, err := n.engine.Plan(ctx, q.Manifest)
		return &PlanAnswer{Plan: plan}, err
	})
	rpc.Unary(m, procDeployStatus, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*List[ServiceStatus], error) {
		all, err := n.services(ctx)
		return &List[ServiceStatus]{all}, err
	})
	rpc.Unary(m, procBackups, fabric.RoleViewer, func(ctx context.Context, q *NameRequest) (*List[deploy.Backup], error) {
		all, err := n.engine.Backups(ctx, q.Name)
		return &List[deploy.Backup]{all}, err
	})
	rpc.Unary(m, procAddress, fabric.RoleNode, func(ctx context.Context, q *AddressRequest) (*Empty, error) {
		return &Empty{}, n.checkAddress(ctx, q.Address, q.Service)
	})
	rpc.Unary(m, procPublic, fabric.RoleViewer, func(_ context.Context, q *Text) (*Text, error) {
		address, err := n.publicHere(q.Value)
		return &Text{address}, err
	})
	n.serveLong(m)
}

// serveLong registers the operations that report progress.
func (n *Node) serveLong(m *rpc.Mux) {
	rpc.ServerStream(m, procApply, fabric.RoleOperator, func(ctx context.Context, q *ManifestRequest, send func(*Progress) error) error {
		outcome, err := n.engine.Apply(ctx, q.Manifest, events(send))
		if problems, ok := errors.AsType[deploy.Problems](err); ok {
			return send(&Progress{Problems: problems})
		}
		if err != nil {
			return err
		}
		return send(&Progress{Outcome: &outcome})
	})
	rpc.ServerStream(m, procBackup, fabric.RoleOperator, func(ctx context.Context, q *NameRequest, send func(*Progress) error) error {
		backup, err := n.engine.Backup(ctx, q.Name, events(send))
		if err != nil {
			return err
		}
		return send(&Progress{Backup: &backup})
	})
	rpc.ServerStream(m, procBringBack, fabric.RoleOperator, func(ctx context.Context, q *NameRequest, send func(*Progress) error) error {
		_, err := n.engine.Restore(ctx, q.Name, q.Backup, q.Services, events(send))
		return err
	})
	rpc.ServerStream(m, procRemove, fabric.RoleOperator, func(ctx context.Context, q *NameRequest, send func(*Progress) error) error {
		_, err := n.engine.Remove(ctx, q.Name, events(send))
		return err
	})
}

// events sends progress to whoever asked. When they are gone the operation's context ends,
// so that an error here needs no other care.
func events(send func(*Progress) error) func(deploy.Event) {
	return func(e deploy.Event) { _ = send(&Progress{Event: &e}) }
}

func (n *Node) serveSessions(m *rpc.Mux) {
	rpc.Unary(m, procAwait, fabric.RoleNode, func(ctx context.Context, q *AwaitRequest) (*Empty, error) {
		return &Empty{}, n.router.Await(ctx, q.Service, q.Revision)
	})
	rpc.Unary(m, procSessionList, fabric.RoleViewer, func(ctx context.Context, _ *Empty) (*Sessions, error) {
		all, err := n.overlay.List(ctx)
		return &Sessions{all}, err
	})
	rpc.Unary(m, procSessionCreate, fabric.RoleDeveloper, func(ctx context.Context, q *overlay.Request) (*session.Session, error) {
		s, err := n.createSession(ctx, q)
		return &s, err
	})
	rpc.Unary(m, procSessionDelete, fabric.RoleDeveloper, func(ctx context.Context, q *Text) (*Empty, error) {
		return &Empty{}, n.overlay.Delete(ctx, q.Value, whoCalls(ctx))
	})
	rpc.Unary(m, procSessionPlaced, fabric.RoleDeveloper, func(ctx context.Context, q *Text) (*session.Placed, error) {
		p, err := n.Lookup(ctx, q.Value)
		return &p, err
	})
}

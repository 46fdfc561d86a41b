package agent

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orrery/dashboard"
	"orrery/deploy"
	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

// Report is what a node tells of itself for the dashboard.
type Report struct {
	Statuses    []state.Status     `json:"statuses"`
	Generations []state.Generation `json:"generations"`
	Memory      int64              `json:"memory"` // resident bytes
	Started     time.Time          `json:"started"`
}

// report is this node's own.
func (n *Node) report(ctx context.Context) (Report, error) {
	statuses, err := n.local.keeper.List(ctx)
	if err != nil {
		return Report{}, err
	}
	generations, err := n.local.store.Generations(ctx, state.Ref{})
	return Report{Statuses: statuses, Generations: generations, Memory: residentBytes(), Started: n.started}, err
}

// residentBytes is the process's resident memory; 0 where the system does not tell.
func residentBytes() int64 {
	content, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(content))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// reports asks all nodes that are alive, at once; a node that does not answer in time is left out.
func (n *Node) reports(ctx context.Context) map[fabric.NodeID]Report {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var mu sync.Mutex
	all := map[fabric.NodeID]Report{}
	var wait sync.WaitGroup
	for _, m := range n.Members() {
		if !m.State.Present() {
			continue
		}
		wait.Go(func() {
			var report Report
			var err error
			if m.ID == n.identity.ID {
				report, err = n.report(ctx)
			} else {
				report, err = ask[Report](ctx, n.peer(m.ID), procReport, &Empty{})
			}
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all[m.ID] = report
		})
	}
	wait.Wait()
	return all
}

var _ dashboard.Source = (*Node)(nil)

// Changes yields after anything changed in the table or among the nodes, and every few
// seconds, for sizes and snapshots change without either.
func (n *Node) Changes(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	changed := n.chronicle.wait(ctx)
	go func() {
		ticker := time.NewTicker(5 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-ticker.C:
			}
			select {
			case out <- struct{}{}:
			default: // not looked yet
			}
		}
	}()
	return out
}

// View is what the dashboard shows now.
func (n *Node) View(ctx context.Context) (dashboard.View, error) {
	view := dashboard.View{Cluster: dashboard.Cluster{Name: n.clusterName(), ID: n.identity.Cluster}, Events: n.chronicle.last()}
	reports := n.reports(ctx)
	names := n.viewNodes(&view, reports)
	services, err := n.services(ctx)
	if err != nil {
		view.Cluster.Warning = err.Error()
		return view, nil //nolint:nilerr // the page shows what it can, and why that is not all
	}
	sessions, err := records[session.Session](ctx, n.shared, session.SessionPrefix)
	if err != nil {
		view.Cluster.Warning = err.Error()
		return view, nil //nolint:nilerr // the page shows what it can, and why that is not all
	}
	owner := viewServices(&view, services)
	viewSessions(&view, sessions, names)
	viewComponents(&view, reports, names, owner)
	n.viewDeployment(ctx, &view)
	return view, nil
}

// viewDeployment fills in the operation that is under way, if there is one.
func (n *Node) viewDeployment(ctx context.Context, view *dashboard.View) {
	names, err := n.engine.Manifests(ctx)
	if err != nil {
		return
	}
	for _, name := range names {
		status, err := n.engine.Operation(ctx, name)
		if err != nil || status == nil || !status.Open {
			continue
		}
		view.Deployment = &dashboard.Deployment{Manifest: name, Steps: len(status.Plan.Steps), Action: status.Doing, Since: status.Started}
		for i, step := range status.Plan.Steps {
			if step.Service == status.Service {
				view.Deployment.Step = i + 1
				markMoving(view, step)
			}
		}
	}
}

func markMoving(view *dashboard.View, step deploy.Step) {
	for i := range view.Services {
		if s := &view.Services[i]; s.Name == step.Service && step.Kind == deploy.StepMove && s.Node != step.To {
			s.MovingTo = step.To
		}
	}
}

// viewNodes fills in the nodes and returns their names by id.
func (n *Node) viewNodes(view *dashboard.View, reports map[fabric.NodeID]Report) map[fabric.NodeID]string {
	names := map[fabric.NodeID]string{}
	for _, m := range n.Members() {
		names[m.ID] = m.Name
		r := reports[m.ID]
		view.Nodes = append(view.Nodes, dashboard.Node{
			Name: m.Name, ID: string(m.ID), Address: m.Address, State: string(m.State), Version: m.Version, Via: m.Via,
			Memory: r.Memory, Started: r.Started, Self: m.ID == n.identity.ID,
		})
	}
	return names
}

// viewServices fills in the services and returns which service a component belongs to, by node and name.
func viewServices(view *dashboard.View, services []ServiceStatus) map[string]string {
	owner := map[string]string{}
	for _, s := range services {
		shown := dashboard.Service{
			Name: s.Service, Manifest: s.Manifest, Node: s.Node, DependsOn: s.DependsOn, Held: s.Held, Epoch: s.Epoch,
			Public: strings.TrimPrefix(s.Public, "http://"), Phase: string(state.PhaseActive), Detail: s.Err,
		}
		if s.Err != "" {
			shown.Phase = string(state.PhaseFailed)
		}
		for _, c := range s.Components {
			owner[string(s.NodeID)+" "+c.Component.Ref().String()] = s.Service
			if c.Phase != state.PhaseActive {
				shown.Phase, shown.Detail = string(c.Phase), c.Detail
			}
			if address := c.Exports["address"]; address != "" {
				shown.Endpoint = address
			}
		}
		view.Services = append(view.Services, shown)
	}
	return owner
}

func viewSessions(view *dashboard.View, sessions []session.Session, names map[fabric.NodeID]string) {
	for _, s := range sessions {
		shown := dashboard.Session{Name: s.Name, Owner: s.Owner, Created: s.Created, Expires: s.Expires, Ready: s.Ready, Ending: s.Ending}
		for _, o := range s.Overrides {
			shown.Overrides = append(shown.Overrides, dashboard.Override{
				Service: o.Service, Kind: string(o.Kind), Node: names[o.Instance.Node], Instance: o.Instance.Address, Bytes: o.Bytes, Method: o.Method,
			})
		}
		view.Sessions = append(view.Sessions, shown)
	}
}

func viewComponents(view *dashboard.View, reports map[fabric.NodeID]Report, names map[fabric.NodeID]string, owner map[string]string) {
	for id, report := range reports {
		history := map[state.Ref][]state.Generation{}
		for _, g := range report.Generations {
			r := state.Ref{Container: g.Container, Component: g.Component}
			history[r] = append(history[r], g)
		}
		for _, s := range report.Statuses {
			ref := s.Component.Ref()
			shown := dashboard.Component{
				Ref: ref.String(), Module: s.Component.Module, Node: names[id], Service: owner[string(id)+" "+ref.String()],
				Session: s.Component.Session, Phase: string(s.Phase), Detail: s.Detail, Size: s.Size, Snapshots: len(history[ref]),
			}
			for _, g := range history[ref] {
				shown.Logical += g.Size
				shown.Stored += g.Stored
				shown.Newest = g.Time
			}
			view.Components = append(view.Components, shown)
		}
	}
	slices.SortFunc(view.Components, func(a, b dashboard.Component) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Ref, b.Ref))
	})
}

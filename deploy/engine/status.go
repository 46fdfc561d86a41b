package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// Status is a manifest as it is carried out.
type Status struct {
	Manifest  string           `json:"manifest"`
	Services  []ServiceStatus  `json:"services"`
	Operation *OperationStatus `json:"operation,omitempty"` // under way, or last; nil: none ever
	// Uncleaned are nodes that keep something to be cleaned when they are back.
	Uncleaned []string `json:"uncleaned,omitempty"`
}

// ServiceStatus is a service where it lives.
type ServiceStatus struct {
	Placement  deploy.Placement `json:"placement"`
	Components []state.Status   `json:"components"`
	Problem    string           `json:"problem,omitempty"` // why the components could not be asked
}

// OperationStatus is an operation under way, or the last one.
type OperationStatus struct {
	ID      string        `json:"id"`
	Kind    string        `json:"kind"`
	Open    bool          `json:"open"` // not brought to its end yet
	Held    bool          `json:"held"` // somebody works on it, or died doing so
	Owner   fabric.NodeID `json:"owner"`
	Started time.Time     `json:"started"`
	Service string        `json:"service,omitempty"` // being worked on
	Doing   string        `json:"doing,omitempty"`
	Plan    deploy.Plan   `json:"plan"`
	Result  string        `json:"result,omitempty"`
}

// Status reads where a manifest's services are and how they do. ErrNotFound if nothing is known of it.
func (e *Engine) Status(ctx context.Context, name string) (Status, error) {
	now, err := e.placements(ctx, name)
	if err != nil {
		return Status{}, err
	}
	j, revision, err := e.readJournal(ctx, name)
	if err != nil {
		return Status{}, err
	}
	if len(now) == 0 && revision == 0 {
		return Status{}, fmt.Errorf("manifest %s: %w", name, deploy.ErrNotFound)
	}
	s := Status{Manifest: name, Services: make([]ServiceStatus, len(now))}
	if revision != 0 {
		s.Operation = j.status()
	}
	for _, l := range j.Leftovers {
		s.Uncleaned = append(s.Uncleaned, e.nodeName(l.Node))
	}
	err = parallel(ctx, len(now), func(ctx context.Context, i int) error {
		s.Services[i] = e.serviceStatus(ctx, now[i].Placement)
		return nil
	})
	return s, err
}

func (j journal) status() *OperationStatus {
	s := &OperationStatus{
		ID: j.Operation, Kind: j.Kind, Open: j.Phase != phaseClosed, Held: j.Phase != phaseClosed && j.Holder != "",
		Owner: j.Owner, Started: j.Started, Doing: j.Doing, Plan: j.Plan, Result: j.Result,
	}
	if j.At < len(j.Work) {
		s.Service = j.Work[j.At].service()
	}
	return s
}

func (e *Engine) serviceStatus(ctx context.Context, p deploy.Placement) ServiceStatus {
	s := ServiceStatus{Placement: p}
	k, err := e.Machines.Keeper(p.Node)
	if err == nil {
		err = e.dead([]fabric.NodeID{p.Node})
	}
	if err != nil {
		s.Problem = err.Error()
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, c := range p.Service.Components {
		status, err := k.Status(ctx, c.Ref())
		if err != nil {
			s.Problem = err.Error()
			continue
		}
		s.Components = append(s.Components, status)
	}
	return s
}

// Manifest returns a manifest as it was last applied. ErrNotFound.
func (e *Engine) Manifest(ctx context.Context, name string) (deploy.Manifest, error) {
	entry, err := e.Table.Get(ctx, deploy.ManifestPrefix+name)
	if errors.Is(err, fabric.ErrNotFound) {
		return deploy.Manifest{}, fmt.Errorf("manifest %s: %w", name, deploy.ErrNotFound)
	}
	if err != nil {
		return deploy.Manifest{}, fmt.Errorf("cannot read manifest %s: %w", name, err)
	}
	var m deploy.Manifest
	if err := json.Unmarshal(entry.Value, &m); err != nil {
		return deploy.Manifest{}, fmt.Errorf("manifest %s cannot be read: %w", name, err)
	}
	return m, nil
}

// Resume brings the services of this node back after it was away: it concludes interrupted operations,
// activates what placements give this node, stops what they gave to others meanwhile, and points traffic
// to what runs here. A manifest that another node works on is waited for, until ctx ends.
func (e *Engine) Resume(ctx context.Context, progress func(deploy.Event)) error {
	all, err := e.placements(ctx, "")
	if err != nil {
		return err
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Manifest)
	}
	slices.Sort(names)
	var problems []error
	for _, name := range slices.Compact(names) {
		err := e.resumeManifest(ctx, name, progress)
		if err != nil {
			problems = append(problems, fmt.Errorf("manifest %s: %w", name, err))
		}
	}
	return errors.Join(problems...)
}

func (e *Engine) resumeManifest(ctx context.Context, name string, progress func(deploy.Event)) error {
	for {
		_, err := e.operate(ctx, name, kindRecover, progress, func(ctx context.Context, o *operation) error { return o.resume(ctx) })
		if !errors.Is(err, deploy.ErrBusy) {
			return err
		}
		if err := wait(ctx, e.Lease/4); err != nil {
			return err
		}
	}
}

// resume does for one manifest what Resume says.
func (o *operation) resume(ctx context.Context) error {
	now, err := o.placements(ctx, o.name)
	if err != nil {
		return err
	}
	var problems []error
	for _, p := range now {
		if p.Node != o.Self {
			err := o.clean(ctx, leftover{Service: p.Service.Name, Node: o.Self, Components: refsOf(p.Service.Components)})
			problems = append(problems, err)
			continue
		}
		endpoint, err := o.activate(ctx, &p.Placement)
		if err == nil {
			err = o.switchTo(ctx, &p.Placement, endpoint)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("service %s: %w", p.Service.Name, err))
		}
	}
	return errors.Join(problems...)
}

// Operation returns the operation on a manifest that is under way, or the last one; nil if there was none ever.
func (e *Engine) Operation(ctx context.Context, name string) (*OperationStatus, error) {
	j, revision, err := e.readJournal(ctx, name)
	if err != nil || revision == 0 {
		return nil, err
	}
	return j.status(), nil
}

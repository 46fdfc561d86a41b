// Package plan computes the difference between what runs and what should run.
//
// It is pure: placements and a manifest go in, ordered steps come out. The same input gives the
// same plan, and what is as it should be gets no step.
package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// Input is what a plan is computed from.
type Input struct {
	Manifest   deploy.Manifest
	Placements []deploy.Placement // of this manifest, in any order
	// Retired are the last placements of services that run nowhere now: that is where their state is.
	Retired []deploy.Placement
	// Nodes are the ids of nodes by name. A node that is missing is taken for the one its name meant before.
	Nodes map[string]fabric.NodeID
	// Stateful says which modules have state.
	Stateful map[string]bool
	// Out are the nodes that were put out of the cluster for good. Nothing may be placed there; what is retired there comes back with what Saved has, which
	// says when each component was backed up last, as far as a node has that backup.
	Out   map[fabric.NodeID]bool
	Saved map[state.Ref]time.Time
	// Sizes are the bytes of state of components, as far as known.
	Sizes map[state.Ref]int64
}

// Compute returns the steps from the placements to the manifest, in an order in which
// they can be carried out one after the other: what is depended on comes into service first, and goes out of it last.
func Compute(in Input) deploy.Plan {
	current := byService(in.Placements)
	retired := byService(in.Retired)
	var nodes []node
	for _, s := range in.Manifest.Services {
		if step, ok := in.wanted(s, current[s.Name], retired[s.Name]); ok {
			nodes = append(nodes, node{step: step, service: s})
		}
	}
	for _, p := range in.Placements {
		if !slices.ContainsFunc(in.Manifest.Services, func(s deploy.Service) bool { return s.Name == p.Service.Name }) {
			step := deploy.Step{Kind: deploy.StepDeactivate, Service: p.Service.Name, From: p.NodeName, Why: "not in the manifest any more"}
			nodes = append(nodes, node{step: step, service: p.Service})
		}
	}
	return deploy.Plan{Manifest: in.Manifest.Name, Steps: order(nodes, current)}
}

func byService(all []deploy.Placement) map[string]*deploy.Placement {
	out := make(map[string]*deploy.Placement, len(all))
	for i := range all {
		out[all[i].Service.Name] = &all[i]
	}
	return out
}

// wanted is the step that brings s to where and what it should be; false if it is.
func (in Input) wanted(s deploy.Service, now, retired *deploy.Placement) (deploy.Step, bool) {
	to := in.Manifest.Distribution[s.Name]
	step := deploy.Step{Service: s.Name, To: to}
	switch {
	case now == nil && retired != nil && in.Out[retired.Node]:
		step.Kind = deploy.StepActivate
		in.rescue(&step, *retired, s)
	case now == nil && (retired == nil || in.same(*retired, to)):
		step.Kind, step.Why = deploy.StepActivate, "runs nowhere yet"
		if retired != nil {
			step.Why = "runs nowhere now; its state is still there"
		}
	case now == nil:
		step.Kind, step.From = deploy.StepActivate, retired.NodeName
		in.carry(&step, retired.Service, s)
		step.Why = "runs nowhere now; its state is on " + retired.NodeName
		if len(step.Stateful) == 0 {
			step.From, step.Why = "", "runs nowhere now"
		}
	case !in.same(*now, to):
		step.Kind, step.From = deploy.StepMove, now.NodeName
		in.carry(&step, now.Service, s)
		step.Why = fmt.Sprintf("runs on %s, should run on %s", now.NodeName, to)
		if what := Difference(now.Service, s); what != "" {
			step.Why += "; " + what
		}
	default:
		step.Kind, step.From, step.Why = deploy.StepUpgrade, now.NodeName, Difference(now.Service, s)
		return step, step.Why != ""
	}
	return step, true
}

// rescue notes what state comes back of a service whose node was put out.
func (in Input) rescue(step *deploy.Step, lost deploy.Placement, s deploy.Service) {
	step.Why = fmt.Sprintf("node %s, which it was on, was put out of the cluster", lost.NodeName)
	for _, c := range Carried(lost.Service, s) {
		if !in.Stateful[c.Module] {
			continue
		}
		if at, ok := in.Saved[c.Ref()]; ok {
			step.Stateful = append(step.Stateful, c.Name)
			step.Why += fmt.Sprintf("; %s is as in the backup of %s", c.Name, at.UTC().Format("2006-01-02 15:04:05"))
		} else {
			step.Why += fmt.Sprintf("; there is no backup of %s: it begins with nothing", c.Name)
		}
	}
}

// same says whether a placement is on the node named to.
func (in Input) same(p deploy.Placement, to string) bool {
	if p.NodeName != to {
		return false
	}
	id, ok := in.Nodes[to]
	return !ok || id == p.Node
}

// carry notes what state moves along when old becomes new on another node.
func (in Input) carry(step *deploy.Step, old, s deploy.Service) {
	for _, c := range Carried(old, s) {
		if in.Stateful[c.Module] {
			step.Stateful = append(step.Stateful, c.Name)
			step.Bytes += max(0, in.Sizes[c.Ref()])
		}
	}
}

// Carried are the components of new whose state, if they have any, is that of the same component of old.
func Carried(old, s deploy.Service) []state.Component {
	var out []state.Component
	for _, c := range s.Components {
		if slices.ContainsFunc(old.Components, func(o state.Component) bool { return o.Ref() == c.Ref() && o.Module == c.Module }) {
			out = append(out, c)
		}
	}
	return out
}

// Difference says for people what differs between two definitions of a service; "" if nothing does.
func Difference(old, s deploy.Service) string {
	var parts []string
	for _, c := range s.Components {
		i := slices.IndexFunc(old.Components, func(o state.Component) bool { return o.Ref() == c.Ref() })
		if i < 0 {
			parts = append(parts, c.Name+" is new")
		} else if what := componentDifference(old.Components[i], c); what != "" {
			parts = append(parts, c.Name+": "+what)
		}
	}
	for _, o := range old.Components {
		if !slices.ContainsFunc(s.Components, func(c state.Component) bool { return o.Ref() == c.Ref() }) {
			parts = append(parts, o.Name+" goes")
		}
	}
	if len(parts) == 0 && !slices.EqualFunc(old.Components, s.Components, func(a, b state.Component) bool { return a.Ref() == b.Ref() }) {
		parts = append(parts, "other order of components")
	}
	if old.Endpoint != s.Endpoint {
		parts = append(parts, "other endpoint")
	}
	if !equal(old.Public, s.Public) {
		parts = append(parts, "other public address")
	}
	if !slices.Equal(slices.Sorted(slices.Values(old.DependsOn)), slices.Sorted(slices.Values(s.DependsOn))) {
		parts = append(parts, "other dependencies")
	}
	return strings.Join(parts, ", ")
}

func componentDifference(a, b state.Component) string {
	var parts []string
	if a.Module != b.Module {
		parts = append(parts, fmt.Sprintf("module %s instead of %s", b.Module, a.Module))
	}
	if !equal(map[string]any(a.Properties), map[string]any(b.Properties)) {
		parts = append(parts, "other properties")
	}
	if !maps.Equal(a.Files, b.Files) {
		parts = append(parts, "other files")
	}
	return strings.Join(parts, " and ")
}

// SameComponent says whether two definitions are of the same thing done in the same way.
func SameComponent(a, b state.Component) bool {
	return a.Ref() == b.Ref() && componentDifference(a, b) == ""
}

// equal compares what the values are in the table: JSON has no int, and no difference
// between an empty and a missing map.
func equal(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	empty := func(s []byte) bool { return string(s) == "{}" || string(s) == "null" }
	return errA == nil && errB == nil && (string(x) == string(y) || empty(x) && empty(y))
}

// Nothing says whether a plan changes nothing.
func Nothing(p deploy.Plan) bool { return len(p.Steps) == 0 }

// Describe is one line for people about a step.
func Describe(s deploy.Step) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", s.Kind, s.Service)
	switch {
	case s.Kind == deploy.StepMove || s.Kind == deploy.StepActivate && s.From != "":
		fmt.Fprintf(&b, " from %s to %s", s.From, s.To)
	case s.Kind == deploy.StepDeactivate:
		fmt.Fprintf(&b, " on %s", s.From)
	default:
		fmt.Fprintf(&b, " on %s", s.To)
	}
	if len(s.Stateful) > 0 {
		fmt.Fprintf(&b, " with the state of %s", strings.Join(s.Stateful, ", "))
	}
	return b.String() + ": " + s.Why
}

package plan

import (
	"slices"
	"strings"

	"orrery/deploy"
)

// node is a step in the graph of what must come before what.
type node struct {
	step    deploy.Step
	service deploy.Service // as it will be, or was
	hard    []int          // steps that must come before
	soft    []int          // steps that should, unless that makes a circle
}

// order sorts steps so that each comes after those it needs, and by name where nothing else decides.
func order(nodes []node, current map[string]*deploy.Placement) []deploy.Step {
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.step.Service, b.step.Service) })
	for i := range nodes {
		for j := range nodes {
			if i != j {
				nodes[i].link(j, nodes[j], current)
			}
		}
	}
	done := make([]bool, len(nodes))
	var steps []deploy.Step
	for len(steps) < len(nodes) {
		i := next(nodes, done)
		done[i] = true
		steps = append(steps, nodes[i].step)
	}
	return steps
}

// link notes whether the step other, at index j, comes before n.
func (n *node) link(j int, other node, current map[string]*deploy.Placement) {
	leaves := n.step.Kind == deploy.StepDeactivate
	otherLeaves := other.step.Kind == deploy.StepDeactivate
	was := current[other.step.Service]
	switch {
	case leaves && otherLeaves && slices.Contains(other.service.DependsOn, n.service.Name):
		n.hard = append(n.hard, j) // dependents go first
	case !leaves && !otherLeaves && slices.Contains(n.service.DependsOn, other.service.Name):
		n.hard = append(n.hard, j) // dependencies come first
	case leaves && !otherLeaves && was != nil && slices.Contains(was.Service.DependsOn, n.service.Name):
		n.soft = append(n.soft, j) // a dependent changes before what it needed goes
	}
	if !leaves && was != nil && n.service.Public != nil && was.Service.Public != nil &&
		*n.service.Public == *was.Service.Public && !strings.HasSuffix(n.service.Public.Address, ":0") {
		n.soft = append(n.soft, j) // an address is given up before it is taken
	}
}

// next is the first step with nothing undone before it; where circles leave none, the one that breaks the least.
func next(nodes []node, done []bool) int {
	open := func(before []int) bool {
		return !slices.ContainsFunc(before, func(j int) bool { return !done[j] })
	}
	first, unsoftened := -1, -1
	for i, n := range nodes {
		if done[i] {
			continue
		}
		if open(n.hard) && open(n.soft) {
			return i
		}
		if open(n.hard) && unsoftened < 0 {
			unsoftened = i
		}
		if first < 0 {
			first = i
		}
	}
	if unsoftened >= 0 {
		return unsoftened
	}
	return first
}

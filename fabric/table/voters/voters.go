// Package voters decides who votes in a Raft group, as a pure function.
//
// The wanted nodes are data in the table; Next says what the leader has to do so that the group comes a
// step closer to them. A node joins as a learner, which gets the log and has no vote, and is promoted
// once it has caught up, but only so that the number of voters becomes odd (1, 3 or 5): an even
// number survives no more failures than the odd one below it, and a second voter would take the
// quorum away from the first. A voter that has been away for long gives its vote to a learner that is there.
package voters

import (
	"cmp"
	"slices"
)

// Max is the largest number of voters. Other nodes stay learners: they read, watch and write through the leader.
const Max = 5

// Node is what the leader knows of one node.
type Node struct {
	ID       uint64
	Wanted   bool // should be in the group
	Voter    bool // is in the group and votes
	Learner  bool // is in the group and does not vote
	CaughtUp bool // has the log up to about its end
	Active   bool // was heard of lately
}

// Kind is what happens to a node.
type Kind byte

// The kinds of changes.
const (
	Learn   Kind = iota + 1 // join as a learner, or give up the vote
	Promote                 // get a vote
	Remove                  // leave the group
)

// Change is a step for one node.
type Change struct {
	Kind Kind
	ID   uint64
}

// Step is what the leader does next: changes that take effect together, or else a transfer of its leadership.
type Step struct {
	Changes    []Change
	TransferTo uint64 // 0: to nobody
}

// Next decides the leader's next step. A voter that has to go becomes a learner first, so that it hears that it is not
// needed any more; a leader that has to go hands over first. The zero Step means that all is as it should be, or that nothing can be
// done before a node is back or caught up.
func Next(leader uint64, nodes []Node) Step {
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	if heir := successor(leader, nodes); heir != 0 {
		return Step{TransferTo: heir}
	}
	chosen := choose(leader, nodes)
	var step Step
	for _, n := range nodes {
		if change, ok := next(n, slices.Contains(chosen, n.ID)); ok && n.ID != leader {
			step.Changes = append(step.Changes, change)
		}
	}
	return step
}

func next(n Node, vote bool) (Change, bool) {
	switch {
	case !n.Wanted && n.Learner:
		return Change{Remove, n.ID}, true
	case !n.Wanted && n.Voter:
		return Change{Learn, n.ID}, true
	case vote && !n.Voter:
		return Change{Promote, n.ID}, true
	case n.Wanted && !vote && !n.Learner:
		return Change{Learn, n.ID}, true
	}
	return Change{}, false
}

// choose picks the voters among the wanted nodes: the leader, voters that are there, learners that could
// be, and at last voters that are away, as many as make an odd number.
func choose(leader uint64, nodes []Node) []uint64 {
	rank := func(n Node) int {
		switch {
		case !n.Wanted:
			return 0
		case n.ID == leader:
			return 4
		case n.Voter && n.Active:
			return 3
		case n.Learner && n.CaughtUp && n.Active:
			return 2
		case n.Voter:
			return 1
		}
		return 0
	}
	able := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return rank(n) == 0 })
	slices.SortStableFunc(able, func(a, b Node) int { return rank(b) - rank(a) })
	count := min(len(able), Max)
	if count%2 == 0 && count > 0 {
		count--
	}
	chosen := make([]uint64, count)
	for i := range chosen {
		chosen[i] = able[i].ID
	}
	return chosen
}

// successor is the voter that takes over from a leader that has to go; 0 if the leader may stay, or nobody can.
func successor(leader uint64, nodes []Node) uint64 {
	stays := func(n Node) bool { return n.ID == leader && n.Wanted }
	if slices.ContainsFunc(nodes, stays) {
		return 0
	}
	for _, n := range nodes {
		if n.ID != leader && n.Wanted && n.Voter && n.Active {
			return n.ID
		}
	}
	return 0
}

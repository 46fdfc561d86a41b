package voters_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"orrery/fabric/table/voters"
)

// parse reads nodes such as "1v 2l 3L 4n 5V-": v voter, l learner, L learner that has caught up, n not in the group; V is a voter that is away;
// "-": not wanted.
func parse(text string) []voters.Node {
	var nodes []voters.Node
	for word := range strings.FieldsSeq(text) {
		kind := word[1]
		nodes = append(nodes, voters.Node{
			ID:       uint64(word[0] - '0'),
			Wanted:   !strings.HasSuffix(word, "-"),
			Voter:    kind == 'v' || kind == 'V',
			Learner:  kind == 'l' || kind == 'L',
			CaughtUp: kind == 'v' || kind == 'L',
			Active:   kind == 'v' || kind == 'l' || kind == 'L',
		})
	}
	return nodes
}

func describe(s voters.Step) string {
	var words []string
	for _, c := range s.Changes {
		words = append(words, map[voters.Kind]string{voters.Learn: "learn", voters.Promote: "promote", voters.Remove: "remove"}[c.Kind]+fmt.Sprint(c.ID))
	}
	if s.TransferTo != 0 {
		words = append(words, fmt.Sprint("transfer", s.TransferTo))
	}
	return strings.Join(words, " ")
}

func TestNext(t *testing.T) {
	for _, c := range []struct{ nodes, want string }{ // 1 leads
		{"1v", ""},
		{"1v 2n", "learn2"},
		{"1v 2l", ""},
		{"1v 2L", ""}, // a second voter would take the quorum away
		{"1v 2L 3l", ""},
		{"1v 2L 3L", "promote2 promote3"},
		{"1v 2v 3v 4L", ""},
		{"1v 2v 3v 4L 5L", "promote4 promote5"},
		{"1v 2v 3v 4v 5v 6L 7n", "learn7"},
		{"1v 2v 3V", ""},                     // away, and nobody to replace it
		{"1v 2v 3V 4L", "learn3 promote4"},   // replaced
		{"1v 2v 3V 4l", ""},                  // not caught up
		{"1v 2v 3v-", "learn2 learn3"},       // two would be no better than one
		{"1v 2v 3V-", "learn2 learn3"},       // gone for good
		{"1v 2L 3L-", "remove3"},             // promotion of 2 needs another one
		{"1v 2v 3v- 4L", "learn3 promote4"},  //
		{"1v- 2v 3v", "transfer2"},           // a leader hands over
		{"1v- 2L", "promote2"},               // to somebody who can take over
		{"1v- 2l", ""},                       // or else stays
		{"1v- 2V 3v", "transfer3"},           //
		{"1v-", ""},                          // the last one
		{"1v 2v 3v 4n-", ""},                 //
		{"1v 2v 3v 4v 5v-", "learn4 learn5"}, //
	} {
		if got := describe(voters.Next(1, parse(c.nodes))); got != c.want {
			t.Errorf("%s: %q, want %q", c.nodes, got, c.want)
		}
	}
}

// TestSettles carries out the steps on random groups: they end, with an odd number of voters, all of them wanted.
func TestSettles(t *testing.T) {
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 0))
		nodes := make([]voters.Node, 1+random.IntN(9))
		for i := range nodes {
			nodes[i] = voters.Node{ID: uint64(i + 1), Wanted: random.IntN(4) > 0, Active: true, CaughtUp: true}
			nodes[i].Voter = random.IntN(2) > 0
			nodes[i].Learner = !nodes[i].Voter && random.IntN(2) > 0
		}
		nodes[0].Voter, nodes[0].Learner = true, false
		leader := uint64(1)
		steps := 0
		for ; steps < 20; steps++ {
			step := voters.Next(leader, nodes)
			if step.TransferTo == 0 && len(step.Changes) == 0 {
				break
			}
			if step.TransferTo != 0 {
				leader = step.TransferTo
			}
			for _, c := range step.Changes {
				n := &nodes[c.ID-1]
				if c.ID == leader {
					t.Fatalf("seed %d: the leader changes itself: %s", seed, describe(step))
				}
				n.Voter, n.Learner = c.Kind == voters.Promote, c.Kind == voters.Learn
			}
		}
		count := 0
		for _, n := range nodes {
			if n.Voter {
				count++
			}
			if n.Wanted != (n.Voter || n.Learner) && slices.ContainsFunc(nodes, func(n voters.Node) bool { return n.Wanted }) {
				t.Fatalf("seed %d: node %+v in the end", seed, n)
			}
		}
		if steps == 20 || count%2 == 0 || count > voters.Max {
			t.Fatalf("seed %d: %d voters after %d steps: %+v", seed, count, steps, nodes)
		}
	}
}

package terminal

import (
	"fmt"
	"slices"
	"strings"
)

// Level is how bad something is.
type Level int

// The levels, the best first.
const (
	Well Level = iota
	Watch
	Bad
)

// Health is how a cluster is, in words, the worst first.
type Health struct {
	Level Level
	Words []string
}

// String is a line.
func (h Health) String() string { return strings.Join(h.Words, "; ") }

// HealthOf says how a cluster is.
func HealthOf(s Snapshot) Health {
	var worst, worse []string
	bad := func(format string, args ...any) { worst = append(worst, fmt.Sprintf(format, args...)) }
	watch := func(format string, args ...any) { worse = append(worse, fmt.Sprintf(format, args...)) }
	if s.Leader == "" {
		bad("no quorum: nothing can be changed before a majority of the voters is back")
	}
	alive := 0
	for _, n := range s.Nodes {
		switch n.State {
		case "alive":
			alive++
			if n.Usage == nil {
				watch("node %s does not answer", n.Name)
			}
		case "suspect":
			watch("node %s is suspect", n.Name)
		case "dead":
			if n.Name == s.Leader { // others would have been elected by now
				bad("no quorum: nothing can be changed before %s is back", n.Name)
			}
			bad("node %s is dead", n.Name)
		}
	}
	out, waiting := grouped{}, grouped{}
	for _, c := range s.Chains {
		serving := slices.ContainsFunc(c.Members, func(r Replica) bool { return r.State == "serving" && r.Gone == "" })
		for _, r := range c.Members {
			if r.Failed != "" {
				bad("the disk of %s failed chain %d: %s", r.Node, c.ID, r.Failed)
			}
		}
		switch {
		case !serving && len(c.Members) > 0:
			out.add(orNothing(c.Waits, "no replica serves"), c)
		case c.Waits != "":
			waiting.add(c.Waits, c)
		}
	}
	out.each(func(chains, why string) { bad("%s out of service: %s", chains, why) })
	waiting.each(func(chains, why string) { watch("%s: %s", chains, why) })
	if s.Trouble != "" {
		watch("%s", s.Trouble)
	}
	switch {
	case len(worst) > 0:
		return Health{Bad, append(worst, worse...)}
	case len(worse) > 0:
		return Health{Watch, worse}
	}
	return Health{Well, []string{fmt.Sprintf("all is well: %s, %s, %s", many(alive, "node"), many(len(s.Chains), "chain"), many(s.Services, "service"))}}
}

// grouped are chains by what they wait for, in the order in which that was first met.
type grouped struct {
	reasons []string
	chains  map[string][]string
}

func (g *grouped) add(why string, c Chain) {
	if g.chains == nil {
		g.chains = map[string][]string{}
	}
	if g.chains[why] == nil {
		g.reasons = append(g.reasons, why)
	}
	g.chains[why] = append(g.chains[why], fmt.Sprintf("chain %d of %s", c.ID, c.Bucket))
}

func (g *grouped) each(do func(chains, why string)) {
	for _, why := range g.reasons {
		if names := g.chains[why]; len(names) > 1 {
			do(many(len(names), "chain"), why)
		} else {
			do(names[0], why)
		}
	}
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orNothing(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// never is when a node was reached that was not.
const never = time.Duration(-1)

// spread is what reached whom when.
type spread struct {
	title, verb string // "An event is broadcast", "have it"
	began       time.Time
	at          []time.Duration // by node, since it began
	dead        []bool          // by node: it cannot be reached
}

func newSpread(title, verb string, nodes int) *spread {
	p := &spread{title: title, verb: verb, began: time.Now(), at: make([]time.Duration, nodes), dead: make([]bool, nodes)}
	for i := range p.at {
		p.at[i] = never
	}
	return p
}

// reach notes that it reached a node, unless it did before.
func (p *spread) reach(i int) {
	if p.at[i] == never && !p.dead[i] {
		p.at[i] = time.Since(p.began)
	}
}

// copy is a copy that is made under a lock.
func (p *spread) copy(mu *sync.Mutex) *spread {
	mu.Lock()
	defer mu.Unlock()
	c := *p
	c.at = slices.Clone(p.at)
	return &c
}

// total is how many nodes can be reached.
func (p *spread) total() (n int) {
	for _, dead := range p.dead {
		if !dead {
			n++
		}
	}
	return n
}

// count is how many nodes were reached within a time.
func (p *spread) count(within time.Duration) (n int) {
	for _, at := range p.at {
		if at != never && at <= within {
			n++
		}
	}
	return n
}

func (p *spread) complete() bool { return p.count(math.MaxInt64) == p.total() }

// sorted are the times at which nodes were reached.
func (p *spread) sorted() []time.Duration {
	all := slices.DeleteFunc(slices.Clone(p.at), func(at time.Duration) bool { return at == never })
	slices.Sort(all)
	return all
}

// dawn is when the first node was reached: at once by what it says itself, later by what has to be found out.
func (p *spread) dawn() time.Duration {
	if all := p.sorted(); len(all) > 0 {
		return all[0]
	}
	return 0
}

// part is when so much of all nodes were reached, such as a half.
func (p *spread) part(of float64) time.Duration {
	all := p.sorted()
	if len(all) == 0 {
		return 0
	}
	return all[min(len(all), int(math.Ceil(of*float64(p.total()))))-1]
}

// summary says how it went: "half of the nodes have it after 0.41 s, all 64 after 0.78 s".
func (p *spread) summary() string {
	text := fmt.Sprintf("half of the nodes %s after %s, all %d after %s", p.verb, seconds(p.part(0.5)), p.total(), seconds(p.part(1)))
	if p.dawn() > 0 {
		text = fmt.Sprintf("the first after %s, ", seconds(p.dawn())) + text
	}
	return text
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3g s", math.Round(d.Seconds()*1000)/1000) }

package sim

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
)

// Mode is what kinds of schedules there are.
type Mode string

// The modes.
const (
	// Mixed has all faults, within what ../DESIGN.md assumes.
	Mixed Mode = "mixed"
	// Dark cuts the power of all nodes again and again.
	Dark Mode = "dark"
	// Moving changes members all the time.
	Moving Mode = "moving"
	// Splitting splits the chain, and those that come of it. Clients go by maps that may be old.
	Splitting Mode = "splitting"
	// Skewed has clocks beyond the assumption: strong reads may be stale then, and nothing else may break.
	Skewed Mode = "skewed"
)

// Modes are the modes in which nothing may break.
var Modes = []Mode{Mixed, Dark, Moving}

// Break is a rule of the chain table, or of its drivers, that a run breaks, so that tests can show that it is noticed.
type Break uint

// The rules outside of replicas.
const (
	BreakWait     Break = 1 << iota // a member is removed only when its lease has run out
	BreakShort                      // a keeper's own node has a short lease
	BreakRestart                    // a chain of which all are gone begins again with one that served last
	BreakClean                      // a replica of an unsynced chain that crashed does not say that it ended in order
	BreakBear                       // a chain that is split off has members when all of them have their part
	BreakBoundary                   // a part is made when the boundary is applied
	BreakLater                      // a part has no memory of what was decided behind the boundary
	BreakMemory                     // a part has the memory of clients
	BreakGone                       // values that were read count only if they have not left the chain meanwhile
	BreakHorizon                    // a watch of keys that are gone to another chain ends at the boundary
	BreakLine                       // an unsynced chain of which all have crashed begins a line
)

// Options are a run's.
type Options struct {
	Seed  uint64
	Mode  Mode
	Skip  replica.Rule
	Break Break
	Trace io.Writer // nil: none
}

// Report is how a run ended.
type Report struct {
	Fault     string // the first thing that must not happen; "" if there was none
	Stale     string // with Skewed: a strong read that was stale
	Events    int
	Requests  int
	Committed int
	Epochs    uint64
	Undecided bool // the history could not be checked in time
}

// world is a run.
type world struct {
	options  Options
	rng      *rand.Rand
	now      time.Duration // true time
	agenda   agenda
	events   uint64
	nature   nature
	nodes    []*node
	table    *table
	keepers  []*keeper
	clients  []*client
	truths   map[chain.ID]*truth
	blocked  map[[2]fabric.NodeID]bool          // from, to
	arrival  map[[2]fabric.NodeID]time.Duration // of the newest message, when it is calm
	calm     bool                               // no faults any more
	fault    string
	stale    string
	history  []*operation
	traps    []trap
	failures int                    // of disks
	asked    map[request]*operation // in runs with several chains
	watchers []*watcher
}

const (
	chainLease  = 200 * time.Millisecond
	chainSkew   = 0.05
	reportEvery = 30 * time.Millisecond
	tickEvery   = 10 * time.Millisecond
	resendAfter = 25 * time.Millisecond
	patience    = 80 * time.Millisecond // of clients
	bound       = 12 * time.Second      // after the last fault everything that waits has to end within it
)

// Run runs a schedule.
func Run(o Options) Report {
	w := &world{options: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6f7272657279)), blocked: map[[2]fabric.NodeID]bool{}, arrival: map[[2]fabric.NodeID]time.Duration{}, truths: map[chain.ID]*truth{}, asked: map[request]*operation{}}
	w.truths[theChain] = newTruth(w, theChain)
	w.nature = w.draw()
	w.table = newTable()
	for i := range w.nature.nodes {
		n := &node{world: w, id: fabric.NodeID(fmt.Sprintf("n%d", i)), rate: w.nature.rates[i], disks: map[chain.ID]*disk{}, dropped: map[chain.ID]*disk{}, slow: 1}
		n.offset = time.Duration(w.rng.Int64N(int64(time.Hour)))
		w.nodes = append(w.nodes, n)
		n.start()
	}
	w.found()
	w.elect()
	for i := range w.nature.clients {
		w.clients = append(w.clients, newClient(w, i))
	}
	w.chaos()
	if w.nature.several {
		w.divide()
		for _, c := range w.clients {
			w.watchers = append(w.watchers, newWatcher(c))
		}
	}
	w.after(w.nature.length, w.heal)
	for w.fault == "" && w.now < w.nature.length || !w.settled() {
		if w.fault != "" {
			break
		}
		if w.now > w.nature.length+bound {
			w.fail("not settled %v after the last fault: %s", bound, w.unsettled())
			break
		}
		w.step()
	}
	r := Report{Events: int(w.events), Requests: len(w.history)} //nolint:gosec // a count
	for _, id := range w.ids() {
		r.Committed += w.truths[id].count()
	}
	for _, c := range w.table.chains() {
		r.Epochs += c.Epoch
	}
	if w.fault == "" {
		w.finish()
		r.Undecided = w.linearizable()
	}
	r.Fault, r.Stale = w.fault, w.stale
	return r
}

func (w *world) step() {
	e := w.agenda.pop()
	w.now = e.at
	e.what()
}

// after does something later.
func (w *world) after(d time.Duration, what func()) {
	w.events++
	w.agenda.push(event{w.now + max(d, 0), w.events, what})
}

// fail notes the first fault.
func (w *world) fail(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf("at %v: %s", w.now, fmt.Sprintf(format, args...))
		w.log("FAULT: %s", w.fault)
	}
}

// log writes to the trace. Callers on hot paths ask w.options.Trace first.
func (w *world) log(format string, args ...any) {
	if w.options.Trace != nil {
		fmt.Fprintf(w.options.Trace, "%12v %s\n", w.now, fmt.Sprintf(format, args...))
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// between draws a time.
func (w *world) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

func pick[T any](w *world, all []T) T { return all[w.rng.IntN(len(all))] }

// settled says whether all requests have ended, and the chain is whole again.
func (w *world) settled() bool { return w.calm && (w.doomed() || w.unsettled() == "") }

// doomed says whether the disks of all that served a chain last have failed: it waits for a person then.
func (w *world) doomed() bool {
	return w.failures > 0 && slices.ContainsFunc(w.table.chains(), func(c placement.Chain) bool {
		return !slices.ContainsFunc(c.Serving(), func(r chain.Replica) bool { return !w.node(r.Node).failed })
	})
}

// unsettled says what is not done yet.
func (w *world) unsettled() string {
	for _, c := range w.clients {
		if s := c.waits(); s != "" {
			return s
		}
	}
	for _, v := range w.watchers {
		if s := v.waits(); s != "" {
			return s
		}
	}
	all := w.table.chains()
	if len(all) == 0 {
		return "there is no chain"
	}
	for _, record := range all {
		if s := w.lacks(record); s != "" {
			return fmt.Sprintf("chain %d: %s", record.ID, s)
		}
	}
	return ""
}

// lacks says what a chain is lacking.
func (w *world) lacks(record placement.Chain) string {
	if record.Split != nil {
		return "it is being split"
	}
	whole := min(w.nature.factor, w.sound())
	if len(record.Members) < whole {
		return fmt.Sprintf("epoch %d has members %v, %d should be there", record.Epoch, record.Members, whole)
	}
	for _, m := range record.Members {
		d := w.driver(record.ID, m.Replica)
		if m.State != chain.Serving || d == nil || d.failed != "" {
			return fmt.Sprintf("%v of epoch %d does not serve", m, record.Epoch)
		}
		s := d.core.Status()
		if s.Epoch != record.Epoch || !s.Linked || s.Committed != w.truths[record.ID].top() || s.Last != s.Committed {
			return fmt.Sprintf("%v is at %+v, %d are committed", m, s, w.truths[record.ID].top())
		}
		if w.nature.several && d.last > 0 || !d.kept.Includes(record.Range) || !record.Range.Includes(d.kept) {
			return fmt.Sprintf("%v has keys of other chains", m)
		}
	}
	return ""
}

// sound is how many nodes have a disk that works.
func (w *world) sound() int {
	count := 0
	for _, n := range w.nodes {
		if !n.failed {
			count++
		}
	}
	return count
}

// ids are the chains that there are, or were, in order.
func (w *world) ids() []chain.ID { return slices.Sorted(maps.Keys(w.truths)) }

// driver is the driver of a replica that runs; nil if it does not.
func (w *world) driver(id chain.ID, r chain.Replica) *driver {
	for _, n := range w.nodes {
		if p := n.process; p != nil && p.self == r {
			return p.drivers[id]
		}
	}
	return nil
}

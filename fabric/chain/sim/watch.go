package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// watcher watches all keys, as fabric/client does: it reads what there is, and then hears of each change, wherever the keys go. What it hears is
// compared with what was committed: it misses nothing, and hears of the changes of a key in their order.
type watcher struct {
	client *client
	parts  []*portion
	seen   [len(keyNames)]uint64 // the newest version of each key that it was told
	begun  int                   // how often it had to read all keys
}

// portion is a range of keys of which a watch knows all changes up to a sequence, of one chain.
type portion struct {
	first, count int
	known        bool     // false: it has to be read
	from         uint64   // the sequence
	of           chain.ID // whose it is; 0: the chain's that has the keys now
	asking       bool
}

func (s *portion) String() string {
	return fmt.Sprintf("watch of %d keys from %s, %d of chain %d", s.count, keyNames[s.first], s.from, s.of)
}

func (s *portion) keys() *chain.Range { return span(s.first, s.count) }

// span is the range of some keys.
func span(first, count int) *chain.Range {
	r := &chain.Range{Start: []byte(keyNames[first])}
	if end := first + count; end < len(keyNames) {
		r.End = []byte(keyNames[end])
	}
	return r
}

func newWatcher(c *client) *watcher {
	v := &watcher{client: c, parts: []*portion{{count: len(keyNames)}}}
	v.turn()
	return v
}

// turn goes on with all parts.
func (v *watcher) turn() {
	w := v.client.world
	for _, s := range slices.Clone(v.parts) {
		switch {
		case s.asking:
		case s.known:
			v.ask(s)
		default:
			v.read(s)
		}
	}
	w.after(w.between(time.Millisecond, w.nature.watch), v.turn)
}

// waits says what the watch has yet to hear of.
func (v *watcher) waits() string {
	w := v.client.world
	for _, s := range v.parts {
		config := v.client.chart.find(keyNames[s.first])
		if !s.known || config == nil || s.from != w.truths[config.ID].top() {
			return s.String()
		}
	}
	return ""
}

// read reads the keys of a part, as a scan: each page is as of a sequence of its chain, and becomes a part.
func (v *watcher) read(s *portion) {
	v.begun++
	v.parts = slices.DeleteFunc(v.parts, func(other *portion) bool { return other == s })
	o := &operation{client: v.client.number, call: v.client.world.now, first: s.first, count: s.count, read: &replica.Read{Keys: s.keys()}}
	o.then = v.took
	v.client.begin(o)
}

// took takes a page.
func (v *watcher) took(o *operation) {
	s := &portion{first: o.first, count: o.count}
	if v.parts = append(v.parts, s); o.given {
		return
	}
	s.known, s.from, s.of = true, o.applied, o.chain
	for i := o.first; i < o.first+o.count; i++ {
		v.seen[i] = o.applied
	}
}

// ask asks a replica for changes. The chain of which the part knows a sequence is asked first, also where it does not have the keys any more: it tells what there was before they left.
func (v *watcher) ask(s *portion) {
	c := v.client
	w := c.world
	if w.calm || w.chance(0.2) {
		c.learn()
	}
	config := c.chart.of(s.of)
	if s.of == 0 {
		if config = c.chart.find(keyNames[s.first]); config == nil {
			c.learn()
			return
		}
		for n := 1; n < s.count; n++ { // it is of several chains
			if !config.Range.Contains([]byte(keyNames[s.first+n])) {
				v.parts = append(v.parts, &portion{first: s.first + n, count: s.count - n, known: true, from: s.from})
				s.count = n
			}
		}
		s.of = config.ID
	}
	if config == nil || len(config.Members) == 0 {
		c.learn()
		return
	}
	s.asking = true
	n, id := w.node(pick(w, config.Members).Node), config.ID
	w.after(w.transit(), func() {
		if p := n.process; p != nil {
			p.run(func() { p.watch(v, s, id) })
		}
	})
	w.after(patience, func() { s.asking = false })
}

// watch answers with the next changes.
func (p *process) watch(v *watcher, s *portion, id chain.ID) {
	w, from := p.node.world, s.from
	d := p.drivers[id]
	if d == nil || d.failed != "" || !p.member(id) {
		return
	}
	keys := s.keys()
	entries, up, err := d.changes(*keys, from, 1+w.rng.IntN(4))
	if w.truths[id].givenUp(d) {
		return // see there
	}
	w.after(w.transit(), func() {
		if s.known && s.of == id && s.from == from && s.keys().Includes(*keys) && keys.Includes(*s.keys()) {
			v.told(s, entries, up, err)
		}
	})
}

// changes are the next entries after one, as chain/node tells them of keys; up is the sequence up to which all is told.
func (d *driver) changes(keys chain.Range, from uint64, limit int) (entries []chain.Entry, up uint64, err error) {
	i := &d.disk.now
	if from > i.applied.sequence {
		return nil, from, nil
	}
	end, exact := d.core.Horizon(keys)
	if end > 0 && d.world().options.Break&BreakHorizon != 0 && from < i.applied.sequence {
		end = 0
	}
	if at, ok := i.at(from); end > 0 && (!ok || at.epoch >= end) {
		return nil, from, chain.ErrOutOfRange
	}
	if from < i.base.sequence {
		return nil, from, chain.ErrCompacted
	}
	for up = from; up < i.applied.sequence && len(entries) < limit; up++ {
		e := i.log[up-i.base.sequence]
		if end > 0 && e.Epoch >= end {
			if exact {
				return append(entries, e), up + 1, nil
			}
			return entries, up, nil
		}
		entries = append(entries, e)
	}
	return entries, up, nil
}

// told takes an answer.
func (v *watcher) told(s *portion, entries []chain.Entry, up uint64, err error) {
	w := v.client.world
	s.asking = false
	switch {
	case errors.Is(err, chain.ErrOutOfRange): // the chain that has the keys now goes on
		s.of = 0
		v.client.learn()
		return
	case errors.Is(err, chain.ErrCompacted):
		w.log("COMPACTED %v", s)
		s.known = false
		return
	}
	t := w.truths[s.of]
	for i := s.first; i < s.first+s.count; i++ {
		v.check(t, i, entries, up)
	}
	s.from = up
}

// check compares what a watch is told of a key up to a sequence with what was committed.
func (v *watcher) check(t *truth, key int, entries []chain.Entry, up uint64) {
	seen := v.seen[key]
	var want, got []uint64
	for _, change := range t.keys[keyNames[key]] {
		if change.sequence > seen && change.sequence <= up && !t.passed(change.sequence, up) {
			want = append(want, change.sequence)
		}
	}
	for i := range entries {
		for _, change := range entries[i].Changes {
			if string(change.Key) == keyNames[key] && entries[i].Sequence > seen {
				got = append(got, entries[i].Sequence)
			}
		}
	}
	if !slices.Equal(want, got) {
		v.client.world.fail("a watch of chain %d is told of the changes %v of key %s after %d up to %d, there were %v", t.id, got, keyNames[key], seen, up, want)
	}
	if n := len(want); n > 0 {
		v.seen[key] = want[n-1]
	}
}

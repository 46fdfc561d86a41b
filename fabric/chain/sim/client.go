package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// keyNames are all keys of a run.
var keyNames = [4]string{"a", "b", "c", "d"}

// operation is a request of a client, and its end.
type operation struct {
	client    int
	call, end time.Duration // end 0: it has none
	command   *chain.Command
	read      *replica.Read
	first     int // of the keys that a read is of
	count     int
	result    chain.Result
	values    [len(keyNames)]chain.Value // of a read; no version: there is no such key
	applied   uint64
	told      uint64           // sequence of the entry of a command that ended
	given     bool             // nobody waits for it any more
	attempts  int              // so far
	chain     chain.ID         // that answered a read
	effect    *done            // of a command
	then      func(*operation) // when it has ended
}

func (o *operation) String() string {
	s := fmt.Sprintf("client %d [%v, %v] ", o.client, o.call, o.end)
	if o.read != nil {
		s += fmt.Sprintf("read(%d) of %d keys from %s:", o.read.Consistency, o.count, keyNames[o.first])
		for i := range o.count {
			v := o.values[o.first+i]
			s += fmt.Sprintf(" %q@%d", v.Value, v.Version)
		}
		return s + fmt.Sprintf(" as of %d", o.applied)
	}
	s += fmt.Sprintf("request %d floor %d", o.command.Request, o.command.Floor)
	for _, c := range o.command.If {
		s += fmt.Sprintf(" if %s@%d", c.Key, c.Version)
	}
	for _, d := range o.command.Do {
		s += fmt.Sprintf(" op%d %s %q %d", d.Op, d.Key, d.Value, d.Delta)
	}
	return s + fmt.Sprintf(" -> %+v", o.result)
}

// client asks, and asks again until it has an answer.
type client struct {
	world   *world
	number  int
	id      uint64
	request uint64
	count   int
	open    []*operation
	known   [len(keyNames)]uint64 // versions
	// Of a client of several chains.
	chart    chart
	sessions map[chain.ID]*numbers
}

func newClient(w *world, number int) *client {
	c := &client{world: w, number: number, sessions: map[chain.ID]*numbers{}}
	c.rename()
	for range w.nature.pipeline {
		w.after(w.between(0, w.nature.think), c.next)
	}
	return c
}

// rename makes the client another one, as after its restart.
func (c *client) rename() {
	c.id, c.request = c.world.rng.Uint64()|1, 0
	clear(c.sessions)
}

// waits says what the client waits for.
func (c *client) waits() string {
	if len(c.open) > 0 {
		return c.open[0].String()
	}
	return ""
}

// next asks something new.
func (c *client) next() {
	w := c.world
	if w.calm {
		return
	}
	o := &operation{client: c.number, call: w.now}
	if w.chance(0.45) {
		c.toRead(o)
	} else {
		c.toWrite(o)
	}
	c.count++
	c.begin(o)
}

// begin asks something.
func (c *client) begin(o *operation) {
	w := c.world
	w.history = append(w.history, o)
	c.open = append(c.open, o)
	c.try(o, 0)
	if w.chance(0.03) { // it loses patience
		w.after(w.between(0, chainLease), func() {
			if o.end == 0 && !w.calm {
				o.given = true
				c.ended(o)
			}
		})
	}
}

func (c *client) toRead(o *operation) {
	w := c.world
	o.first, o.count = w.rng.IntN(len(keyNames)), 1
	o.read = &replica.Read{Key: []byte(keyNames[o.first])}
	if w.chance(0.25) {
		o.count = 1 + w.rng.IntN(len(keyNames)-o.first)
		o.read.Key, o.read.Keys = nil, &chain.Range{Start: []byte(keyNames[o.first])}
		if end := o.first + o.count; end < len(keyNames) {
			o.read.Keys.End = []byte(keyNames[end])
		}
	}
	if w.chance(0.75) {
		return
	}
	o.read.Consistency = chain.Eventual
	if w.chance(0.6) {
		o.read.Consistency = chain.Bounded
		if w.chance(0.6) {
			o.read.Bound.Age = w.between(time.Millisecond, 2*chainLease)
		}
		if o.read.Bound.Age == 0 || w.chance(0.2) {
			o.read.Bound.Versions = uint64(1 + w.rng.IntN(3)) //nolint:gosec // small
		}
	}
}

func (c *client) toWrite(o *operation) {
	w := c.world
	c.request++
	floor := c.request
	for _, other := range c.open {
		if other.command != nil && other.command.Client == c.id {
			floor = min(floor, other.command.Request)
		}
	}
	o.command = &chain.Command{Client: c.id, Request: c.request, Floor: floor}
	steps := 1
	if w.chance(0.2) {
		steps = 1 + w.rng.IntN(3)
	}
	for range steps {
		o.command.Do = append(o.command.Do, c.write())
	}
	if w.chance(0.35) {
		key := w.rng.IntN(len(keyNames))
		if w.chance(0.7) {
			key = int(o.command.Do[0].Key[0] - 'a')
		}
		o.command.If = append(o.command.If, chain.Condition{Key: []byte(keyNames[key]), Version: c.known[key]})
	}
	if w.nature.several {
		o.command.Client = 0
		c.together(o)
	}
}

func (c *client) write() chain.Write {
	w := c.world
	d := chain.Write{Key: []byte(pick(w, keyNames[:]))}
	switch w.rng.IntN(6) {
	case 0:
		d.Op = chain.OpDelete
	case 1, 2:
		d.Op, d.Delta = chain.OpIncrement, int64(1+w.rng.IntN(9))
	case 3:
		d.Op, d.Value = chain.OpAppend, fmt.Appendf(nil, "%d.%d,", c.number, c.count)
	default:
		d.Op, d.Value = chain.OpPut, fmt.Appendf(nil, "%d.%d;", c.number, c.count)
		if w.chance(0.4) {
			d.Value = binary.BigEndian.AppendUint64(nil, uint64(c.number*1_000_000+c.count*1000)) //nolint:gosec // small
		}
		if w.nature.expire && w.chance(0.3) {
			d.TTL = w.between(time.Millisecond, chainLease).Truncate(time.Millisecond) + time.Millisecond
		}
	}
	return d
}

// attempt is an operation as a node has it.
type attempt struct {
	asked
	client    *client
	operation *operation
	began     time.Duration
}

// try asks a node, and another one later if no answer comes.
func (c *client) try(o *operation, tries int) {
	if o.end != 0 || o.given {
		return
	}
	w := c.world
	n, q := c.route(o)
	send := func() { c.send(o, n, q) }
	copies := 1
	if !w.calm && w.chance(w.nature.loss) {
		copies = 0
	}
	if !w.calm && w.chance(w.nature.twice) {
		copies = 2
	}
	for range copies {
		w.after(w.transit(), send)
	}
	w.after(w.between(patience/2, patience)*time.Duration(min(tries+1, 4)), func() { c.try(o, tries+1) })
}

// send brings an attempt to a node.
func (c *client) send(o *operation, n *node, q asked) {
	if n == nil || n.process == nil {
		return
	}
	p, a := n.process, &attempt{q, c, o, c.world.now}
	p.run(func() { p.serve(a) })
}

// target is the node to ask: for commands mostly the head.
func (c *client) target(o *operation) *node {
	w := c.world
	record, ok := w.table.record(theChain)
	if !ok || len(record.Members) == 0 || w.chance(0.15) {
		return pick(w, w.nodes)
	}
	if o.command != nil {
		return w.node(record.Members[0].Node)
	}
	return w.node(pick(w, record.Members).Node)
}

// serve takes a request at a node.
func (p *process) serve(a *attempt) {
	d := p.drivers[a.chain]
	if d == nil || d.failed != "" {
		a.refuse(p.node, chain.ErrNotServing)
		return
	}
	d.token++
	if a.command != nil {
		d.writes[d.token] = a
		d.step(d.core.Propose(d.now(), p.node.calendar(), d.token, a.command))
		return
	}
	q := *a.read
	q.Token = d.token
	if p.node.world.chance(p.node.world.nature.direct) {
		if applied, ok := d.core.CanRead(d.now(), q); ok {
			d.permitted(a, replica.Permission{Token: q.Token, Applied: applied})
			return
		}
	}
	d.reads[d.token] = a
	d.step(d.core.Read(d.now(), q))
}

// permitted answers a read a little later, if it still may.
func (d *driver) permitted(a *attempt, r replica.Permission) {
	if r.Err != nil {
		a.refuse(d.process.node, r.Err)
		return
	}
	w := d.world()
	lease, keys := d.lease, w.table.configs[term{d.id, d.epoch}].Range
	answer := func() {
		if d.failed != "" || d.disk.broken || d.process.dead {
			return
		}
		o, q := a.operation, a.read
		if r.Applied > d.disk.now.applied.sequence {
			w.fail("%v permitted a read as of %d, and has applied %d", d.process.self, r.Applied, d.disk.now.applied.sequence)
			return
		}
		var values [len(keyNames)]chain.Value
		for i := o.first; i < o.first+a.count; i++ {
			values[i] = d.disk.now.keys[keyNames[i]]
		}
		if now := w.table.configs[term{d.id, d.epoch}].Range; !now.Includes(keys) && w.options.Break&BreakGone == 0 || !d.inTime(q, lease) {
			a.refuse(d.process.node, chain.ErrNotServing)
			return
		}
		w.truths[d.id].read(d, a, &values)
		applied := d.disk.now.applied.sequence
		a.reply(d.process.node, func() {
			o.values, o.applied, o.chain = values, applied, a.chain
			a.client.rest(o, a.count)
			for i := o.first; i < o.first+o.count; i++ {
				a.client.known[i] = values[i].Version
			}
		})
	}
	if w.chance(0.2) {
		d.process.later(w.between(0, 2*time.Millisecond), answer)
		return
	}
	if w.nature.several && w.chance(0.15) {
		d.process.later(w.between(0, chainLease/2), answer)
		return
	}
	answer()
}

// inTime reads the clock after the values were read and before they are sent.
func (d *driver) inTime(q *replica.Read, lease replica.Lease) bool {
	o := &d.world().options
	switch {
	case q.Consistency == chain.Eventual || o.Skip&replica.RuleLease != 0:
		return true
	case q.Consistency == chain.Bounded && q.Bound.Age > 0:
		return d.now()-lease.Sent <= q.Bound.Age || d.now() < lease.Until
	}
	return d.now() < lease.Until
}

// rest asks for what a page of a scan did not have.
func (c *client) rest(o *operation, count int) {
	if count == o.count {
		return
	}
	read := *o.read
	read.Keys = &chain.Range{Start: []byte(keyNames[o.first+count]), End: o.read.Keys.End}
	c.begin(&operation{client: c.number, call: c.world.now, read: &read, first: o.first + count, count: o.count - count, then: o.then})
	o.count = count
	if o.then == nil {
		o.then = func(*operation) {}
	}
}

// replied passes on how a command ended.
func (a *attempt) replied(d *driver, r replica.Reply) {
	if r.Err != nil {
		a.refuse(d.process.node, r.Err)
		return
	}
	w, o := d.world(), a.operation
	if r.Result.Outcome == chain.OutOfRange && w.nature.several {
		w.truths[d.id].replied(d, a, r.Result)
		w.after(w.transit(), func() { a.client.elsewhere(a) })
		return
	}
	if r.Result.Outcome == chain.Superseded {
		if !o.given && o.end == 0 && a.command == o.command {
			w.fail("request %d of client %d is superseded, and it waits for it", o.command.Request, o.client)
		}
		return
	}
	name := request{a.command.Client, a.command.Request}
	if t := w.truths[d.id]; t.givenUp(d) && !t.stays(d, name) {
		// The operator gave up what it tells, as if it had been told before. The client is not told, so that its history is one of the line that goes on.
		if ended, ok := t.remembers(d, name); !ok || ended != r.Result {
			w.fail("%v tells client %d that request %v ended with %+v, which on its line, that was given up, ended with %+v (%v)", d.process.self, o.client, name, r.Result, ended, ok)
		}
		a.refuse(d.process.node, chain.ErrUnknown)
		return
	}
	w.truths[d.id].replied(d, a, r.Result)
	sequence := w.truths[d.id].done[name]
	a.reply(d.process.node, func() {
		o.result, o.told = r.Result, sequence
		switch r.Result.Outcome { //nolint:exhaustive // the others tell no version
		case chain.Done:
			for _, s := range o.command.Do {
				a.client.known[s.Key[0]-'a'] = r.Result.Version
			}
		case chain.Conflict:
			a.client.known[o.command.If[r.Result.Index].Key[0]-'a'] = r.Result.Version
		}
	})
}

// reply brings an answer to the client.
func (a *attempt) reply(_ *node, take func()) {
	w := a.client.world
	if !w.calm && w.chance(w.nature.loss) {
		return
	}
	w.after(w.transit(), func() {
		o := a.operation
		if o.end != 0 || o.given {
			return
		}
		take()
		o.end = w.now
		a.client.ended(o)
	})
}

// refuse lets the client ask again.
func (a *attempt) refuse(_ *node, err error) {
	w := a.client.world
	if w.options.Trace != nil {
		w.log("REFUSED client %d: %v", a.client.number, err)
	}
	if w.chance(0.5) {
		w.after(w.transit()+w.between(0, patience/4), func() { a.client.again(a.operation) })
		if w.nature.several {
			a.client.learn()
		}
	}
}

// again asks once more, besides what is on its way.
func (c *client) again(o *operation) {
	if o.end != 0 || o.given {
		return
	}
	w := c.world
	n, q := c.route(o)
	w.after(w.transit(), func() { c.send(o, n, q) })
}

// ended lets the client ask something else.
func (c *client) ended(o *operation) {
	w := c.world
	for i, other := range c.open {
		if other == o {
			c.open = append(c.open[:i], c.open[i+1:]...)
			break
		}
	}
	if o.given && w.chance(0.5) && len(c.open) == 0 {
		c.rename()
	}
	if w.options.Trace != nil {
		w.log("END %v", o)
	}
	if o.then != nil {
		o.then(o)
		return
	}
	w.after(w.between(0, w.nature.think), c.next)
}

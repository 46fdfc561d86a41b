package sim

import (
	"bytes"
	"slices"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// chart is where chains are, as a client knows it.
type chart struct {
	revision uint64
	chains   []chain.Config
}

// find is the chain that has a key; nil: there is none.
func (m *chart) find(key string) *chain.Config {
	i := slices.IndexFunc(m.chains, func(c chain.Config) bool { return c.Range.Contains([]byte(key)) })
	if i < 0 {
		return nil
	}
	return &m.chains[i]
}

// of is a chain by its name; nil: there is none.
func (m *chart) of(id chain.ID) *chain.Config {
	i := slices.IndexFunc(m.chains, func(c chain.Config) bool { return c.ID == id })
	if i < 0 {
		return nil
	}
	return &m.chains[i]
}

// learn asks a node where chains are. It may know less than the client.
func (c *client) learn() {
	p := pick(c.world, c.world.nodes).process
	if p == nil || p.paused || p.revision <= c.chart.revision {
		return
	}
	c.chart = chart{revision: p.revision}
	for _, record := range p.records {
		c.chart.chains = append(c.chart.chains, record.Config)
	}
	slices.SortFunc(c.chart.chains, func(a, b chain.Config) int { return bytes.Compare(a.Range.Start, b.Range.Start) })
}

// numbers are the numbers that a client gives to what it asks of one chain.
type numbers struct{ id, request uint64 }

// asked is what a chain is asked of an operation.
type asked struct {
	chain   chain.ID
	attempt int // of the operation
	command *chain.Command
	read    *replica.Read
	count   int // keys of a read, from the operation's first on
}

// route says whom to ask what, by what the client knows of the chains; nil: nobody has the key.
func (c *client) route(o *operation) (*node, asked) {
	w := c.world
	if !w.nature.several {
		return c.target(o), asked{theChain, 0, o.command, o.read, o.count}
	}
	if w.calm || w.chance(0.2) {
		c.learn()
	}
	o.attempts++
	q := asked{attempt: o.attempts, read: o.read, count: o.count}
	config := c.chart.find(o.key())
	if config == nil || len(config.Members) == 0 {
		return nil, q
	}
	q.chain = config.ID
	n := w.node(pick(w, config.Members).Node)
	if o.command != nil {
		q.command = c.name(o, config.ID)
		n = w.node(config.Members[0].Node)
	} else if o.read.Keys != nil {
		q.read, q.count = page(o, config.Range)
	}
	if w.chance(0.1) {
		n = pick(w, w.nodes)
	}
	return n, q
}

// key is the first key of an operation.
func (o *operation) key() string {
	if o.command == nil {
		return keyNames[o.first]
	}
	return string(o.command.Do[0].Key)
}

// page is what a chain has of a range that is read. The rest is another page, perhaps of another chain.
func page(o *operation, keys chain.Range) (*replica.Read, int) {
	q, n := *o.read, 1
	for n < o.count && keys.Contains([]byte(keyNames[o.first+n])) {
		n++
	}
	q.Keys = &chain.Range{Start: o.read.Keys.Start, End: o.read.Keys.End}
	if n < o.count {
		q.Keys.End = []byte(keyNames[o.first+n])
	} else if len(keys.End) > 0 && (len(q.Keys.End) == 0 || bytes.Compare(keys.End, q.Keys.End) < 0) {
		q.Keys.End = keys.End
	}
	return &q, n
}

// name gives a command its numbers, if it has none, as of the chain that has its key.
func (c *client) name(o *operation, id chain.ID) *chain.Command {
	if o.command.Client != 0 {
		return o.command
	}
	n := c.sessions[id]
	if n == nil {
		n = &numbers{id: c.world.rng.Uint64() | 1}
		c.sessions[id] = n
	}
	n.request++
	next := *o.command
	next.Client, next.Request, next.Floor = n.id, n.request, n.request
	for _, other := range c.open {
		if other.command != nil && other.command.Client == n.id {
			next.Floor = min(next.Floor, other.command.Request)
		}
	}
	o.command = &next
	c.world.asked[request{next.Client, next.Request}] = o
	return o.command
}

// together leaves of a new command what the client believes to be of one chain.
func (c *client) together(o *operation) {
	config := c.chart.find(o.key())
	if config == nil {
		return
	}
	o.command.Do = slices.DeleteFunc(o.command.Do, func(d chain.Write) bool { return !config.Range.Contains(d.Key) })
	o.command.If = slices.DeleteFunc(o.command.If, func(f chain.Condition) bool { return !config.Range.Contains(f.Key) })
}

// elsewhere takes that the chain does not have the keys of a command, and so has done nothing. The chain that has them gets it under another number. Only the
// newest attempt counts: nobody waits for the answers to others any more.
func (c *client) elsewhere(a *attempt) {
	o := a.operation
	if o.end != 0 || o.given || a.attempt != o.attempts || a.command != o.command {
		return
	}
	c.learn()
	next := *o.command
	if config := c.chart.find(o.key()); config != nil && c.spread(&next, config.Range) {
		o.result, o.end = chain.Result{Outcome: chain.OutOfRange}, c.world.now
		c.ended(o)
		return
	}
	next.Client, next.Request, next.Floor = 0, 0, 0
	o.command = &next
	c.world.after(c.world.transit(), func() { c.again(o) })
}

// spread says whether a command is of keys of several chains.
func (c *client) spread(command *chain.Command, keys chain.Range) bool {
	return slices.ContainsFunc(command.Do, func(d chain.Write) bool { return !keys.Contains(d.Key) }) ||
		slices.ContainsFunc(command.If, func(f chain.Condition) bool { return !keys.Contains(f.Key) })
}

package sim

import (
	"errors"
	"maps"
	"slices"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// driver runs one replica, as chain/node does.
type driver struct {
	process *process
	id      chain.ID
	disk    *disk
	core    *replica.Replica
	lease   replica.Lease
	epoch   uint64 // of its config
	cuts    uint64
	syncing bool
	synced  uint64
	token   replica.Token
	writes  map[replica.Token]*attempt
	reads   map[replica.Token]*attempt
	failed  string
	// See tidy.
	kept chain.Range
	last uint64
}

// open makes the driver of a replica on what a disk has.
func (p *process) open(id chain.ID, on *disk) *driver {
	w := p.node.world
	d := &driver{process: p, id: id, disk: on, writes: map[replica.Token]*attempt{}, reads: map[replica.Token]*attempt{}}
	p.drivers[id] = d
	if on.broken {
		d.failed = errDisk.Error()
		return d
	}
	i := &on.now
	core, err := replica.New(replica.Config{
		Self: p.self, Storage: on, Applied: i.applied.sequence, AppliedEpoch: i.applied.epoch,
		Pending:    slices.Clone(i.log[i.applied.sequence-i.base.sequence:]),
		MaxPending: w.nature.maxPending, Batch: w.nature.batch, ResendAfter: resendAfter, PlainReads: w.nature.plain, Skip: w.options.Skip,
	})
	if err != nil {
		w.fail("%v cannot begin: %v", p.self, err)
		return nil
	}
	d.core, d.synced = core, on.written
	return d
}

func (d *driver) world() *world { return d.process.node.world }
func (d *driver) now() time.Duration {
	return d.process.node.clock()
}

func (d *driver) status() replica.Status {
	if d.failed != "" {
		return replica.Status{Chain: d.id, Self: d.process.self}
	}
	return d.core.Status()
}

// fail takes the replica out.
func (d *driver) fail(err error) {
	w := d.world()
	if !d.disk.broken && !errors.Is(err, errReplaced) {
		w.fail("%v: %v", d.process.self, err)
	}
	w.log("FAILED %v: %v", d.process.self, err)
	d.failed, d.lease = err.Error(), replica.Lease{}
	for _, token := range slices.Sorted(maps.Keys(d.writes)) {
		d.writes[token].refuse(d.process.node, chain.ErrUnknown)
	}
	d.writes, d.reads = nil, nil
}

// step hands an input to the replica, and does what it asks for.
func (d *driver) step(out replica.Output, err error) {
	if d.process.dead {
		return
	}
	if err == nil {
		err = d.write(&out)
	}
	if err != nil {
		d.fail(err)
		return
	}
	w := d.world()
	if t := w.truths[d.id]; t != nil { // nil: of a part that is not continued
		t.applied(d, out.Apply)
		t.step(d)
	}
	if d.disk.written != d.synced && w.hit(d.process, pointWrite, 0) {
		return
	}
	d.sync()
	for i := range out.Messages {
		if d.process.dead {
			return
		}
		d.message(out.Messages[i])
	}
	for _, r := range out.Replies {
		if a := d.writes[r.Token]; a != nil && !d.process.dead {
			delete(d.writes, r.Token)
			a.replied(d, r)
		}
	}
	for _, r := range out.Reads {
		if a := d.reads[r.Token]; a != nil {
			delete(d.reads, r.Token)
			d.permitted(a, r)
		}
	}
	for _, c := range out.Copies {
		d.copy(c)
	}
	d.process.news(d)
}

func (d *driver) write(out *replica.Output) error {
	if !out.Truncate && len(out.Append) == 0 && len(out.Apply) == 0 {
		return nil
	}
	w := &write{truncate: out.Truncate, keep: out.Keep, append: slices.Clone(out.Append), apply: slices.Clone(out.Apply)}
	if err := d.disk.write(w); err != nil {
		return err
	}
	if out.Truncate {
		d.cuts++
	}
	return nil
}

// sync makes what was written durable, again and again.
func (d *driver) sync() {
	if d.syncing || d.disk.written == d.synced || d.process.dead {
		return
	}
	d.syncing = true
	w := d.world()
	n, up, cuts := d.disk.written, d.disk.now.last().sequence, d.cuts
	takes := w.between(w.nature.sync/4, w.nature.sync) * time.Duration(d.process.node.slow)
	if w.nature.unsynced {
		takes += w.nature.lazy
	}
	w.after(takes, func() {
		if d.process.dead {
			return
		}
		if !d.disk.broken {
			d.disk.synced(n)
		}
		d.process.run(func() { d.persisted(n, up, cuts) })
	})
}

func (d *driver) persisted(n, up, cuts uint64) {
	w := d.world()
	d.syncing = false
	if d.failed != "" || w.hit(d.process, pointSync, 0) {
		return
	}
	if d.disk.broken {
		d.fail(errDisk)
		return
	}
	d.synced = n
	if cuts == d.cuts { // what was cut off since must not count
		d.step(d.core.Persisted(d.now(), up))
	}
	d.sync()
}

func (d *driver) tick() {
	if d.failed != "" {
		return
	}
	w := d.world()
	if d.disk.broken {
		d.fail(errDisk)
		return
	}
	if w.chance(w.nature.trim) && (!w.nature.several || d.epoch > 0 && d.epoch >= d.disk.now.last().epoch && d.process.records[d.id].Split == nil) {
		to := d.disk.now.applied.sequence
		_ = d.disk.write(&write{trim: to - min(to, uint64(w.rng.IntN(6)))}) //nolint:gosec // small
	}
	if w.nature.several {
		d.tidy()
	}
	d.step(d.core.Tick(d.now(), d.process.node.calendar()))
}

func (d *driver) configure(c chain.Config) {
	if d.failed != "" || d.world().hit(d.process, pointConfig, 0) {
		return
	}
	d.epoch = c.Epoch
	d.step(d.core.Configure(d.now(), c))
}

func (d *driver) grant(l replica.Lease) {
	if d.failed == "" && d.lease != l {
		d.lease = l
		d.step(d.core.SetLease(d.now(), l))
	}
}

// message sends a replica's message.
func (d *driver) message(m replica.Message) {
	w := d.world()
	if w.hit(d.process, pointSend, m.Kind) {
		return
	}
	m.Entries = slices.Clone(m.Entries)
	if w.options.Trace != nil {
		w.log("%v", describe(&m))
	}
	if m.Kind == replica.KindAnswer {
		w.truths[d.id].answered(d, &m)
	}
	n := w.node(m.To.Node)
	w.send(m.From.Node, m.To.Node, func() {
		if p := n.process; p != nil {
			p.run(func() { p.receive(m) })
		}
	})
}

func (p *process) receive(m replica.Message) {
	d := p.drivers[m.Chain]
	if d == nil || d.failed != "" || p.node.world.hit(p, pointReceive, m.Kind) {
		return
	}
	m.Entries = slices.Clone(m.Entries)
	d.step(d.core.Receive(d.now(), &m))
	p.node.world.hit(p, pointReceived, m.Kind)
}

// copy sends a copy of the state as of now.
func (d *driver) copy(c replica.Copy) {
	w := d.world()
	i := d.disk.now.clone()
	i.base, i.log, i.marks = i.applied, nil, nil
	n := w.node(c.To.Node)
	w.log("COPY %v to %v as of %d", d.process.self, c.To, i.applied.sequence)
	takes := w.between(time.Millisecond, 20*time.Millisecond)
	w.after(takes, func() {
		w.send(d.process.self.Node, c.To.Node, func() {
			if p := n.process; p != nil {
				p.run(func() { p.install(d.id, c, i) })
			}
		})
	})
	d.process.later(takes+w.between(0, 10*time.Millisecond), func() {
		if d.failed == "" {
			d.core.Copied(c.To)
		}
	})
}

// install takes a copy over instead of what is there: the replica ends, and begins anew once the copy is durable.
func (p *process) install(id chain.ID, c replica.Copy, i image) {
	d := p.drivers[id]
	if d == nil || d.failed != "" || p.self != c.To || !d.wants(c) {
		return
	}
	w := p.node.world
	w.log("INSTALL %v %d", p.self, i.applied.sequence)
	if p.replace(d, &write{install: &i}) {
		w.truths[id].installed(d, i.applied)
	}
}

// replace ends a replica, changes what its disk has, and begins it anew once that is durable.
func (p *process) replace(d *driver, change *write) bool {
	w := p.node.world
	d.fail(errReplaced)
	delete(p.drivers, d.id)
	if err := d.disk.write(change); err != nil {
		return false
	}
	n := d.disk.written
	w.after(w.between(w.nature.sync/4, w.nature.sync)*time.Duration(p.node.slow), func() {
		if p.dead {
			return
		}
		if !d.disk.broken {
			d.disk.synced(n)
		}
		p.run(func() {
			if p.node.disks[d.id] == d.disk {
				p.open(d.id, d.disk)
				p.adopt(p.records[d.id])
				p.lease()
			}
		})
	})
	return true
}

// errReplaced ends a replica whose place a copy takes.
var errReplaced = errors.New("a copy takes its place")

// wants says whether the replica is being filled in that epoch. Only such a one can be replaced: it has promised nothing.
func (d *driver) wants(c replica.Copy) bool {
	s := d.core.Status()
	return s.Epoch == c.Epoch && s.State == chain.Syncing
}

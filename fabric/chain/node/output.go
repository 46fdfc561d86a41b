package node

import (
	"errors"
	"fmt"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/replica"
	"orrery/internal/fault"
)

// gathered is what several steps asked for and was not done yet. Replies and permissions wait for it too: what they promise has to be written.
type gathered struct {
	batch    disk.Batch
	messages []replica.Message
	sizes    []int // bytes of each message's entries
	replies  []replica.Reply
	reads    []replica.Permission
	copies   []replica.Copy
}

// steps hands inputs to the replica and does what it asks for. The replica reads the store when it decides commands, so entries are applied before the next
// step; all else is gathered over the steps.
func (r *runner) steps(queue []input) error {
	for i := range queue {
		out, err := r.step(&queue[i])
		if err != nil {
			return err
		}
		if err := r.take(&out); err != nil {
			return err
		}
	}
	return r.act()
}

// take gathers an output.
func (r *runner) take(out *replica.Output) error {
	g := &r.gather
	if out.Truncate {
		// What was gathered is in front of the cut.
		if err := r.write(); err != nil {
			return err
		}
		g.batch.Truncate, g.batch.Keep = true, out.Keep
		r.cuts++
	}
	g.batch.Append = append(g.batch.Append, out.Append...)
	g.batch.Apply = append(g.batch.Apply, out.Apply...)
	for i := range out.Messages {
		g.message(&out.Messages[i])
	}
	g.replies = append(g.replies, out.Replies...)
	g.reads = append(g.reads, out.Reads...)
	g.copies = append(g.copies, out.Copies...)
	if out.Truncate || len(out.Apply) > 0 {
		return r.write()
	}
	return nil
}

// message adds a message; one that continues the last one to the same replica becomes one with it.
func (g *gathered) message(m *replica.Message) {
	size := weight(m.Entries)
	for i := len(g.messages) - 1; i >= 0; i-- {
		old := &g.messages[i]
		if old.To != m.To {
			continue
		}
		if old.Kind != m.Kind || old.Epoch != m.Epoch {
			break
		}
		if m.Kind == replica.KindAppend {
			if m.Sequence != old.Sequence+uint64(len(old.Entries)) || len(old.Entries)+len(m.Entries) > maxMerged || size > 0 && g.sizes[i]+size > maxMergedBytes {
				break
			}
			g.sizes[i] += size
			old.Entries = append(old.Entries, m.Entries...)
			old.Durable, old.Committed, old.Time = m.Durable, m.Committed, m.Time
			return
		}
		if m.Kind == replica.KindAck {
			*old = *m
			return
		}
		break
	}
	g.messages, g.sizes = append(g.messages, *m), append(g.sizes, size)
}

// maxMerged and maxMergedBytes are how many entries, and bytes of them, a message of several steps has at the most. With its head it is a frame that
// receivers take; a larger one would end the connection. One entry alone is at most chain.MaxCommand and a little.
const (
	maxMerged      = 4096
	maxMergedBytes = 1 << 20
)

// weight is about how many bytes entries have in a message, rather more than less.
func weight(all []chain.Entry) int {
	n := 0
	for i := range all {
		n += 128
		for _, c := range all[i].Changes {
			n += len(c.Key) + len(c.Value) + 32
		}
	}
	return n
}

// write writes what was gathered for the disk, without waiting for it to be durable.
func (r *runner) write() error {
	b := &r.gather.batch
	if !b.Truncate && len(b.Append) == 0 && len(b.Apply) == 0 {
		return nil
	}
	if err := r.store.Write(b); err != nil {
		return err
	}
	if b.Truncate {
		r.durable, r.fresh = min(r.durable, b.Keep), min(r.fresh, b.Keep)
	}
	if n := len(b.Append); n > 0 {
		r.fresh = b.Append[n-1].Sequence
	}
	if n := len(b.Apply); n > 0 {
		r.applied.Store(b.Apply[n-1].Sequence)
		r.tell()
	}
	clear(b.Append)
	clear(b.Apply)
	b.Truncate, b.Append, b.Apply = false, b.Append[:0], b.Apply[:0]
	return nil
}

// act does what was gathered.
func (r *runner) act() error {
	if err := r.write(); err != nil {
		return err
	}
	r.begin()
	g := &r.gather
	if len(g.messages) > 0 {
		if err := fault.Point("chain.send"); err != nil {
			return err
		}
	}
	r.send()
	for _, reply := range g.replies {
		r.reply(reply)
	}
	for _, p := range g.reads {
		r.permit(p)
	}
	for _, c := range g.copies {
		r.copy(c)
	}
	g.replies, g.reads, g.copies = g.replies[:0], g.reads[:0], g.copies[:0]
	return nil
}

// begin has what was written made durable, if nothing is at the moment, and if what was before is committed: then whoever waited for that has written
// again by now, and one sync and one message serve all. It does not wait for that much longer than a sync takes. An unsynced chain waits for nothing.
func (r *runner) begin() {
	switch now := r.node.Now(); {
	case r.fresh == 0 || r.busy && !r.config.Unsynced:
		return
	case r.applied.Load() < r.durable && now < r.patience && !r.config.Unsynced:
		r.pause.Reset(r.patience - now)
		return
	}
	r.written(r.fresh)
	r.fresh, r.busy, r.begun = 0, true, true
}

// send sends the messages that were gathered. Entries that have to wait until they are made durable here go to the successor when that begins, together,
// instead of one message for each few; the watermark does not wait for them.
func (r *runner) send() {
	g := &r.gather
	hold := !r.config.Unsynced && !r.begun && (r.busy || r.fresh > 0)
	r.begun = false
	kept := 0
	for i := range g.messages {
		m := &g.messages[i]
		if !hold || !g.alone(i) {
			if m.Kind == replica.KindAppend {
				r.told = m.Durable
			}
			r.out.add(m)
			continue
		}
		if m.Durable > r.told {
			r.told = m.Durable
			watermark := *m
			watermark.Entries = nil
			r.out.add(&watermark)
		}
		g.messages[kept], g.sizes[kept] = *m, g.sizes[i]
		kept++
	}
	clear(g.messages[kept:])
	g.messages, g.sizes = g.messages[:kept], g.sizes[:kept]
	r.out.flush()
}

// alone says whether a message has entries, and is the only one to its receiver.
func (g *gathered) alone(i int) bool {
	if g.messages[i].Kind != replica.KindAppend || len(g.messages[i].Entries) == 0 {
		return false
	}
	for j := range g.messages {
		if j != i && g.messages[j].To == g.messages[i].To {
			return false
		}
	}
	return true
}

func (r *runner) reply(reply replica.Reply) {
	w := r.writes[reply.Token]
	if w == nil {
		return
	}
	delete(r.writes, reply.Token)
	if err := fault.Point("chain.reply"); err != nil {
		reply.Err = fmt.Errorf("%w: %w", chain.ErrUnknown, err)
	}
	r.node.metrics.writes.WithLabelValues(outcomeOf(reply.Err)).Inc()
	w.done(reply.Result, reply.Err)
}

// permit passes on a read that may be answered.
func (r *runner) permit(p replica.Permission) {
	q := r.reads[p.Token]
	if q == nil {
		return
	}
	delete(r.reads, p.Token)
	err := p.Err
	if err == nil && p.Applied > r.applied.Load() {
		err = errors.New("replica permitted to read what it did not apply")
	}
	r.refuse(q, err)
}

// step hands one input to the replica.
func (r *runner) step(in *input) (replica.Output, error) {
	now := r.node.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case in.broken != nil:
		return replica.Output{}, in.broken
	case in.message != nil:
		r.stale(in.message)
		return r.core.Receive(now, in.message)
	case in.write != nil:
		r.token++
		r.writes[r.token] = in.write
		return r.core.Propose(now, time.Now().UnixMilli(), r.token, &in.write.command)
	case in.read != nil:
		r.token++
		r.reads[r.token] = in.read
		in.read.need.Token, in.read.shrunk = r.token, r.shrunk.Load()
		if l := r.lease.Load(); l != nil {
			in.read.lease = *l
		}
		return r.core.Read(now, in.read.need)
	case in.config != nil:
		if in.config.Epoch > r.config.Epoch {
			if !in.config.Range.Includes(r.config.Range) {
				r.shrunk.Add(1)
			}
			r.config, r.told = *in.config, 0
			r.member, r.scope = names(*in.config, r.node.config.Self), in.config.Range
		}
		if in.config.Epoch == r.config.Epoch {
			r.spare.settled = in.settled && in.config.Epoch >= r.born // an older config says nothing of splits since
			r.keepLog(!r.spare.settled)
		}
		return r.core.Configure(now, *in.config)
	case in.persisted != nil:
		r.busy, r.patience = false, now+max(in.persisted.took, leastPatience)
		if in.persisted.cuts == r.cuts {
			r.durable = in.persisted.up
			return r.core.Persisted(now, in.persisted.up)
		}
	case in.lease != nil:
		defer close(in.lease)
		if l := r.lease.Load(); l != nil {
			return r.core.SetLease(now, *l)
		}
	case in.copied != nil:
		r.core.Copied(*in.copied)
	case in.tick:
		if err := r.tidy(); err != nil {
			return replica.Output{}, err
		}
		return r.core.Tick(now, time.Now().UnixMilli())
	}
	return replica.Output{}, nil
}

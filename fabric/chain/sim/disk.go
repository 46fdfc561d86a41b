package sim

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"maps"
	"slices"

	"orrery/fabric/chain"
)

var errDisk = errors.New("input/output error")

// mark is a place of a log with the hash of all that is before it: two logs with the same mark are the same up to there.
type mark struct {
	sequence, epoch, hash uint64
}

// image is what a disk holds of a replica.
type image struct {
	base     mark // the log begins after it
	log      []chain.Entry
	marks    []mark // of the log's entries
	applied  mark
	keys     map[string]chain.Value
	sessions map[uint64]session
}

// session is a client's results, those below floor forgotten.
type session struct {
	floor   uint64
	results map[uint64]chain.Result
}

func newImage() image { return image{keys: map[string]chain.Value{}, sessions: map[uint64]session{}} }

func (i *image) clone() image {
	c := *i
	c.log, c.marks, c.keys = slices.Clone(i.log), slices.Clone(i.marks), maps.Clone(i.keys)
	c.sessions = make(map[uint64]session, len(i.sessions))
	for id, s := range i.sessions {
		c.sessions[id] = session{s.floor, maps.Clone(s.results)}
	}
	return c
}

// last is the end of the log.
func (i *image) last() mark {
	if n := len(i.marks); n > 0 {
		return i.marks[n-1]
	}
	return i.base
}

// at is a place of the log; ok is false if the log does not have it.
func (i *image) at(sequence uint64) (m mark, ok bool) {
	switch {
	case sequence == i.base.sequence:
		return i.base, true
	case sequence < i.base.sequence || sequence > i.last().sequence:
		return mark{}, false
	}
	return i.marks[sequence-i.base.sequence-1], true
}

func (i *image) append(e chain.Entry) bool {
	last := i.last()
	if e.Sequence != last.sequence+1 {
		return false
	}
	i.log = append(i.log, e)
	i.marks = append(i.marks, mark{e.Sequence, e.Epoch, hash(last.hash, e)})
	return true
}

func (i *image) truncate(keep uint64) bool {
	if keep < i.applied.sequence || keep > i.last().sequence {
		return false
	}
	n := keep - i.base.sequence
	i.log, i.marks = i.log[:n:n], i.marks[:n:n]
	return true
}

func (i *image) apply(e chain.Entry) bool {
	m, ok := i.at(e.Sequence)
	if !ok || e.Sequence != i.applied.sequence+1 || m.epoch != e.Epoch {
		return false
	}
	i.applied = m
	for _, c := range e.Changes {
		if c.Deleted {
			delete(i.keys, string(c.Key))
		} else {
			i.keys[string(c.Key)] = chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}
		}
	}
	if e.Client == 0 {
		return true
	}
	s, ok := i.sessions[e.Client]
	if !ok {
		s.results = map[uint64]chain.Result{}
	}
	s.results[e.Request] = e.Result
	if e.Floor > s.floor {
		s.floor = e.Floor
		maps.DeleteFunc(s.results, func(request uint64, _ chain.Result) bool { return request < s.floor })
	}
	i.sessions[e.Client] = s
	return true
}

// renew goes on as the beginning of a line.
func (i *image) renew(l chain.Line) {
	for _, e := range i.log[i.applied.sequence-i.base.sequence:] {
		i.apply(e)
	}
	if l.Empty {
		*i = newImage()
	}
	i.base = mark{l.Sequence, l.Epoch, 0}
	i.applied, i.log, i.marks = i.base, nil, nil
}

// trim forgets entries that are applied, up to a sequence.
func (i *image) trim(to uint64) {
	to = min(to, i.applied.sequence)
	if to <= i.base.sequence {
		return
	}
	n := to - i.base.sequence
	i.base = i.marks[n-1]
	i.log, i.marks = slices.Clone(i.log[n:]), slices.Clone(i.marks[n:])
}

// hash continues the hash of a log with an entry.
func hash(before uint64, e chain.Entry) uint64 {
	h := fnv.New64a()
	var b []byte
	for _, n := range []uint64{before, e.Epoch, e.Sequence, uint64(e.Time), e.Client, e.Request, uint64(e.Result.Outcome), e.Result.Version} { //nolint:gosec // bits
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, c := range e.Changes {
		b = append(append(append(b, c.Key...), 0), c.Value...)
		if c.Deleted {
			b = append(b, 1)
		}
	}
	h.Write(b)
	return h.Sum64()
}

// write is one atomic write to a disk.
type write struct {
	install  *image
	renew    *chain.Line
	cut      *chain.Range // these keys are another chain's now
	only     *chain.Range // all others are
	truncate bool
	keep     uint64
	append   []chain.Entry
	apply    []chain.Entry
	trim     uint64
}

func (i *image) write(w *write) bool {
	if w.install != nil {
		*i = w.install.clone()
	}
	if w.renew != nil {
		i.renew(*w.renew)
	}
	ok := !w.truncate || i.truncate(w.keep)
	for _, e := range w.append {
		ok = ok && i.append(e)
	}
	for _, e := range w.apply {
		ok = ok && i.apply(e)
	}
	if w.cut != nil {
		maps.DeleteFunc(i.keys, func(k string, _ chain.Value) bool { return w.cut.Contains([]byte(k)) })
	}
	if w.only != nil {
		maps.DeleteFunc(i.keys, func(k string, _ chain.Value) bool { return !w.only.Contains([]byte(k)) })
	}
	i.trim(w.trim)
	return ok
}

// disk is the disk of a replica: what a process sees, and what would be left of it after a crash. Writes become durable in their order.
type disk struct {
	now, durable image
	journal      []*write // not durable yet
	written      uint64   // count of all writes
	broken       bool     // everything ends in an error from now on
	clean        uint64   // incarnation that was a member and ended in order
}

func newDisk() *disk { return &disk{now: newImage(), durable: newImage()} }

// write changes what the process sees.
func (d *disk) write(w *write) error {
	if d.broken {
		return errDisk
	}
	if !d.now.write(w) {
		return errors.New("the replica asked for a write that does not fit to what it has written")
	}
	d.journal = append(d.journal, w)
	d.written++
	return nil
}

// synced makes all writes up to the n-th durable.
func (d *disk) synced(n uint64) {
	for len(d.journal) > 0 && d.written-uint64(len(d.journal)) < n {
		d.durable.write(d.journal[0])
		d.journal = d.journal[1:]
	}
}

// crash loses what is not durable, but for the first few writes.
func (d *disk) crash(kept int) {
	d.synced(d.written - uint64(len(d.journal)-kept)) //nolint:gosec // kept is at most that
	d.now, d.journal = d.durable.clone(), nil
}

// The rest is replica.Storage.

func (d *disk) Get(key []byte) (chain.Value, bool, error) {
	if d.broken {
		return chain.Value{}, false, errDisk
	}
	v, ok := d.now.keys[string(key)]
	return v, ok, nil
}

func (d *disk) Recall(client, request uint64) (chain.Result, bool, bool, error) {
	if d.broken {
		return chain.Result{}, false, false, errDisk
	}
	s := d.now.sessions[client]
	r, known := s.results[request]
	return r, known, request < s.floor, nil
}

func (d *disk) Expired(time int64, limit int) ([][]byte, error) {
	if d.broken {
		return nil, errDisk
	}
	var keys [][]byte
	for k, v := range d.now.keys {
		if v.Expires != 0 && v.Expires <= time {
			keys = append(keys, []byte(k))
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys[:min(limit, len(keys))], nil
}

func (d *disk) Entries(from uint64, limit int) ([]chain.Entry, error) {
	if d.broken {
		return nil, errDisk
	}
	if from <= d.now.base.sequence || from > d.now.last().sequence {
		return nil, nil
	}
	rest := d.now.log[from-d.now.base.sequence-1:]
	n := 0
	for size := 0; n < len(rest) && (n == 0 || size < limit); n++ {
		size += 64
	}
	return slices.Clone(rest[:n]), nil
}

func (d *disk) First() uint64 { return d.now.base.sequence + 1 }

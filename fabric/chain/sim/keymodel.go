package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"orrery/fabric/chain"
)

// A bucket of several chains is checked key by key: a key's history goes on in the chain that it came to. That what is read of several keys is
// as of one moment is the truth's to check.

// keyState is a key as porcupine's model has it.
type keyState struct {
	next int // place, in the key's history, of the command that takes effect next
	cell
}

// keyEffect is a command, or an expiry where it is nil, that is in the history of a key.
type keyEffect struct {
	*operation
	place    int
	sequence uint64
}

// keyAnew is the beginning of a line: the key is as it was at an earlier entry.
type keyAnew struct {
	place int
	cell
}

// keyRead is what a read saw of a key.
type keyRead struct{ cell }

func (e keyEffect) String() string {
	if e.operation == nil {
		return fmt.Sprintf("%d: expired", e.sequence)
	}
	return fmt.Sprintf("%d: %v", e.sequence, e.operation)
}

// modelOf is porcupine's model of a key.
func modelOf(key string) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return keyState{} },
		Step: func(s, input, output any) (bool, any) {
			at := s.(keyState)
			switch in := input.(type) {
			case keyRead:
				return at.cell == in.cell, at
			case keyAnew:
				return in.place == at.next, keyState{at.next + 1, in.cell}
			case keyEffect:
				return at.does(key, in, output.(chain.Result))
			}
			return false, at
		},
	}
}

// does is what a command may do to the key, if its result is that one.
func (s keyState) does(key string, e keyEffect, r chain.Result) (bool, keyState) {
	if e.place != s.next {
		return false, s
	}
	s.next++
	if e.operation == nil {
		s.cell = cell{}
		return true, s
	}
	c := e.command
	for i, f := range c.If {
		failed := r.Outcome == chain.Conflict && r.Index == i
		if met := s.version == f.Version; string(f.Key) == key && (met == failed || failed && r.Version != s.version) {
			return false, s
		}
		if failed {
			return true, s
		}
	}
	next, number, last := s, r.Number, -1
	for i, w := range c.Do {
		failed := r.Outcome == chain.BadValue && r.Index == i
		if string(w.Key) == key {
			ok, n := next.write(w, max(e.sequence, 1))
			if ok == failed {
				return false, s
			}
			if w.Op == chain.OpIncrement {
				number, last = n, i
			}
		}
		if failed {
			return true, s
		}
	}
	if slices.ContainsFunc(c.Do[last+1:], func(w chain.Write) bool { return w.Op == chain.OpIncrement }) {
		number = r.Number // it is another key's
	}
	return r.Outcome == chain.Done && r.Version == e.sequence && r.Number == number, next
}

// write is one write of a command.
func (s *keyState) write(w chain.Write, version uint64) (ok bool, number int64) {
	switch w.Op {
	case chain.OpPut:
		s.value = string(w.Value)
	case chain.OpAppend:
		s.value += string(w.Value)
	case chain.OpIncrement:
		if s.version != 0 && len(s.value) != 8 {
			return false, 0
		}
		number = w.Delta
		if s.version != 0 {
			number += int64(binary.BigEndian.Uint64([]byte(s.value))) //nolint:gosec // two's complement
		}
		s.value = string(binary.BigEndian.AppendUint64(nil, uint64(number))) //nolint:gosec // two's complement
	case chain.OpDelete:
		s.cell = cell{}
		return true, 0
	}
	s.version = version
	return true, number
}

// history is all that happened to a key, in all chains that had it.
func (w *world) historyOf(key int) []porcupine.Operation {
	var all []porcupine.Operation
	for i, o := range w.history {
		if o.read == nil || o.end == 0 || o.read.Consistency != chain.Strong || key < o.first || key >= o.first+o.count {
			continue
		}
		v := o.values[key]
		all = append(all, porcupine.Operation{ClientId: i, Input: keyRead{cell{string(v.Value), v.Version}}, Call: int64(o.call), Return: int64(o.end)})
	}
	var entries []*committed
	for _, id := range w.ids() {
		for n := range w.truths[id].lines {
			l := &w.truths[id].lines[n]
			if n > 0 && l.keys.Contains([]byte(keyNames[key])) {
				entries = append(entries, &committed{Entry: chain.Entry{Sequence: l.base.sequence}, at: l.began.at, anew: &l.began.keys[key]})
			}
			for i := range l.entries {
				e := &l.entries[i]
				if had := w.table.configs[term{id, e.Entry.Epoch}].Range; had.Contains([]byte(keyNames[key])) && w.touches(&e.Entry, keyNames[key]) {
					entries = append(entries, e)
				}
			}
		}
	}
	// Sequences go on above those of the chain that had the key before.
	slices.SortFunc(entries, func(a, b *committed) int { return cmp.Compare(a.Sequence, b.Sequence) })
	for place, e := range entries {
		o := w.asked[request{e.Client, e.Request}]
		if e.anew != nil {
			all = append(all, porcupine.Operation{ClientId: len(w.history), Input: keyAnew{place, *e.anew}, Call: int64(e.at), Return: int64(e.at)})
			continue
		}
		p := porcupine.Operation{ClientId: len(w.history), Input: keyEffect{o, place, e.Sequence}, Output: e.Result, Return: int64(e.at)}
		if o != nil {
			p.Call = int64(o.call)
			if o.end != 0 && o.told == e.Sequence {
				p.Output, p.Return = o.result, int64(o.end)
			}
		}
		all = append(all, p)
	}
	return all
}

// touches says whether an entry says something of a key.
func (w *world) touches(e *chain.Entry, key string) bool {
	o := w.asked[request{e.Client, e.Request}]
	if o == nil {
		return slices.ContainsFunc(e.Changes, func(c chain.Change) bool { return string(c.Key) == key })
	}
	return e.Result.Outcome != chain.OutOfRange && (slices.ContainsFunc(o.command.Do, func(d chain.Write) bool { return string(d.Key) == key }) ||
		slices.ContainsFunc(o.command.If, func(f chain.Condition) bool { return string(f.Key) == key }))
}

// linearizableKeys checks the histories of all keys.
func (w *world) linearizableKeys() (undecided bool) {
	for key, name := range keyNames {
		all := w.historyOf(key)
		switch porcupine.CheckOperationsTimeout(modelOf(name), all, 20*time.Second) {
		case porcupine.Illegal:
			w.fail("the history of key %s is not linearizable", name)
			w.explain(modelOf(name), all)
		case porcupine.Unknown:
			undecided = true
		case porcupine.Ok:
		}
	}
	return undecided
}

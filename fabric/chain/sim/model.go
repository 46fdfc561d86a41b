package sim

import (
	"encoding/binary"
	"time"

	"github.com/anishathalye/porcupine"

	"orrery/fabric/chain"
)

// state is the chain as porcupine's model has it: naive, and made without a look at the machine's code. Commands take effect in the order of the log: the log is a claim
// that the history has to bear out.
type state struct {
	last uint64 // sequence of the entry that took effect last
	keys [len(keyNames)]cell
}

type cell struct {
	value   string
	version uint64 // 0: there is none
}

// effect is a command that is in the log.
type effect struct {
	*operation
	sequence uint64
}

// anew is the beginning of a line: the chain is as it was at an earlier entry.
type anew struct {
	at         time.Duration
	from, base uint64
	keys       [len(keyNames)]cell
}

// expiry is a deletion by the chain itself.
type expiry struct{ entry chain.Entry }

var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, output any) (bool, any) {
		switch in := input.(type) {
		case *operation:
			return s.(state).shows(in), s
		case effect:
			return s.(state).does(in, output.(chain.Result))
		case expiry:
			return s.(state).expires(&in.entry)
		case anew:
			return s.(state).last == in.from, state{in.base, in.keys}
		}
		return false, s
	},
}

func (s state) shows(o *operation) bool {
	for i := o.first; i < o.first+o.count; i++ {
		if o.values[i].Version != s.keys[i].version || string(o.values[i].Value) != s.keys[i].value {
			return false
		}
	}
	return true
}

func (s state) expires(e *chain.Entry) (bool, state) {
	if e.Sequence != s.last+1 {
		return false, s
	}
	s.last = e.Sequence
	for _, c := range e.Changes {
		s.keys[c.Key[0]-'a'] = cell{}
	}
	return true, s
}

// does is what a command may do, if its result is that one.
func (s state) does(e effect, r chain.Result) (bool, state) {
	if e.sequence != s.last+1 {
		return false, s
	}
	s.last = e.sequence
	c := e.command
	for i, f := range c.If {
		if at := s.keys[f.Key[0]-'a'].version; at != f.Version {
			return r.Outcome == chain.Conflict && r.Index == i && r.Version == at, s
		}
	}
	next, number := s, int64(0)
	for i, w := range c.Do {
		k := &next.keys[w.Key[0]-'a']
		switch w.Op {
		case chain.OpPut:
			k.value = string(w.Value)
		case chain.OpAppend:
			k.value += string(w.Value)
		case chain.OpIncrement:
			if k.version != 0 && len(k.value) != 8 {
				return r.Outcome == chain.BadValue && r.Index == i, s
			}
			number = w.Delta
			if k.version != 0 {
				number += int64(binary.BigEndian.Uint64([]byte(k.value))) //nolint:gosec // two's complement
			}
			k.value = string(binary.BigEndian.AppendUint64(nil, uint64(number))) //nolint:gosec // two's complement
		case chain.OpDelete:
			*k = cell{}
			continue
		}
		k.version = max(r.Version, 1) // it exists, also where the command fails later
	}
	return r.Outcome == chain.Done && r.Version == s.last && r.Number == number, next
}

// linearizable checks the history; undecided says that there was no time for it.
func (w *world) linearizable() (undecided bool) {
	if w.nature.several {
		return w.linearizableKeys()
	}
	var all []porcupine.Operation
	commands := map[request]*operation{}
	for i, o := range w.history {
		if o.command != nil {
			commands[request{o.command.Client, o.command.Request}] = o
		} else if o.end != 0 && o.read.Consistency == chain.Strong && w.options.Mode != Skewed {
			all = append(all, porcupine.Operation{ClientId: i, Input: o, Call: int64(o.call), Output: o.result, Return: int64(o.end)})
		}
	}
	t := w.truths[theChain]
	for n := range t.lines {
		l := &t.lines[n]
		if n > 0 {
			all = append(all, porcupine.Operation{ClientId: len(w.history), Input: l.began, Call: int64(l.began.at), Return: int64(l.began.at)})
		}
		for i := range l.entries {
			e := &l.entries[i]
			p := porcupine.Operation{ClientId: len(w.history), Input: expiry{e.Entry}, Return: int64(e.at)}
			if o := commands[request{e.Client, e.Request}]; o != nil {
				// Until a client was told how it ended it may take effect as late as it is committed; from then on strong reads see it.
				p.Input, p.Call, p.Output = effect{o, e.Sequence}, int64(o.call), e.Result
				if o.end != 0 && o.told == e.Sequence {
					p.Output, p.Return = o.result, int64(o.end)
				}
			}
			all = append(all, p)
		}
	}
	switch porcupine.CheckOperationsTimeout(model, all, 20*time.Second) {
	case porcupine.Illegal:
		w.fail("the history is not linearizable")
		w.explain(model, all)
	case porcupine.Unknown:
		return true
	case porcupine.Ok:
	}
	return false
}

// explain writes what could be put in order, and what could not, to the trace.
func (w *world) explain(model porcupine.Model, all []porcupine.Operation) {
	if w.options.Trace == nil {
		return
	}
	_, info := porcupine.CheckOperationsVerbose(model, all, 20*time.Second)
	var longest []int
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	placed := map[int]bool{}
	for _, i := range longest {
		placed[i] = true
		w.log("ORDER %v -> %+v", all[i].Input, all[i].Output)
	}
	for i, o := range all {
		if !placed[i] {
			w.log("LEFT %v -> %+v", o.Input, o.Output)
		}
	}
}

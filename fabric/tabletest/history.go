package tabletest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/anishathalye/porcupine"

	"orrery/fabric"
)

// Request is an operation of a client on one key: get, put, swap or delete.
type Request struct {
	Op, Key, Value string
	Expect         uint64
}

// Answer is what the client was told.
type Answer struct {
	Value    string
	Revision uint64
	Outcome  string // ok, missing, conflict, unknown
}

// register is one key of the table as porcupine's model: its value, the revision of its last write, and the smallest revision that the next
// write can have.
type register struct {
	value    string
	revision uint64
	exists   bool
	unseen   bool // written by a client that was told nothing, and read by nobody: of a later revision than revision
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(Request).Key
			keys[key] = append(keys[key], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range keys {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(register), input.(Request), output.(Answer))
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}

// step is the table's contract. Revisions of answers are checked where the client got one.
func step(r register, in Request, out Answer) (bool, register) {
	switch {
	case in.Op == "get":
		if out.Outcome == "missing" {
			return !r.exists, r
		}
		return r.exists && !r.unseen && out.Value == r.value && out.Revision == r.revision, r
	case out.Outcome == "conflict":
		return r.unseen || in.Expect != r.revision, r
	case in.Op == "swap" && (r.unseen || in.Expect != r.revision):
		return out.Outcome == "unseen", r
	case in.Op == "delete":
		return true, register{}
	case out.Outcome == "unseen":
		return true, register{in.Value, r.revision, true, true}
	}
	return out.Revision > r.revision, register{in.Value, out.Revision, true, false}
}

// History is what the clients asked and were told.
type History struct {
	mu         sync.Mutex
	now        int64 // counts calls and returns: in what order they came is all that porcupine asks
	operations []porcupine.Operation
	unknown    int
}

// Check fails the test if what the clients saw cannot have happened one after the other.
func (h *History) Check(t *testing.T) {
	t.Helper()
	if result := porcupine.CheckOperationsTimeout(model, h.complete(), patience); result != porcupine.Ok {
		t.Errorf("porcupine says %s", result)
	}
	t.Logf("%d operations, %d of them with unknown outcome", len(h.operations), h.unknown)
}

// tick is the next moment.
func (h *History) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	return h.now
}

// Do carries out an operation and notes it. An unknown outcome of a write stays open until the end.
func (h *History) Do(ctx context.Context, table fabric.Table, client int, in Request) (Answer, bool) {
	begun := h.tick()
	var out Answer
	var err error
	switch in.Op {
	case "get":
		var e fabric.Entry
		e, err = table.Get(ctx, in.Key)
		out.Value, out.Revision = string(e.Value), e.Revision
	case "put":
		out.Revision, err = table.Put(ctx, in.Key, []byte(in.Value))
	case "swap":
		out.Revision, err = table.CompareAndSwap(ctx, in.Key, in.Expect, []byte(in.Value))
	case "delete":
		err = table.Delete(ctx, in.Key, 0)
	}
	switch {
	case err == nil:
		out.Outcome = "ok"
	case errors.Is(err, fabric.ErrNotFound):
		out.Outcome = "missing"
	case errors.Is(err, fabric.ErrConflict):
		out.Outcome = "conflict"
	default:
		out.Outcome = "unknown"
	}
	ended := h.tick()
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.Outcome == "unknown" {
		h.unknown++
		if in.Op == "get" {
			return out, false
		}
	}
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: client, Input: in, Output: out, Call: begun, Return: ended,
	})
	return out, out.Outcome != "unknown"
}

// complete resolves the unknown writes as far as reads tell: one whose value was read happened with that revision. All of them are open until
// the end, because they may have happened at any later time, or at the end, which is as good as never.
func (h *History) complete() []porcupine.Operation {
	revisions, end := map[string]uint64{}, h.tick()
	for _, o := range h.operations {
		if in, out := o.Input.(Request), o.Output.(Answer); in.Op == "get" && out.Outcome == "ok" {
			revisions[in.Key+out.Value] = out.Revision
		}
	}
	var all []porcupine.Operation
	for _, o := range h.operations {
		in, out := o.Input.(Request), o.Output.(Answer)
		if out.Outcome == "unknown" {
			o.Return = end
			out.Revision = revisions[in.Key+in.Value]
			if out.Revision == 0 {
				out.Outcome = "unseen"
			}
			o.Output = out
		}
		all = append(all, o)
	}
	return all
}

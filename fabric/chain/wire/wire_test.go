package wire

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

var sampleRequest = chain.Request{
	ID: 7, Ask: chain.AskDo, Chain: 3, Consistency: chain.Bounded, Bound: chain.Bound{Age: time.Second, Versions: 2}, Keys: [][]byte{[]byte("a"), []byte("b")},
	Range: chain.Range{Start: []byte("x"), End: []byte("y")}, Limit: 10, From: 99,
	Command: chain.Command{Client: 1 << 63, Request: 5, Floor: 4, If: []chain.Condition{{Key: []byte("k"), Version: 8}}, Do: []chain.Write{
		{Op: chain.OpPut, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300), TTL: 3 * time.Second}, {Op: chain.OpIncrement, Key: []byte("n"), Delta: -4},
	}},
}

var sampleAnswer = chain.Answer{
	ID: 7, Err: chain.ErrBusy, Applied: 12, More: true, Map: []byte("{}"), Result: chain.Result{Outcome: chain.Conflict, Version: 9, Index: 1, Number: -1},
	Items: []chain.Item{{Key: []byte("k"), Value: chain.Value{Value: []byte("v"), Version: 4, Expires: 5}}, {Missing: true}},
}

var sampleMessage = replica.Message{
	Kind: replica.KindAppend, Chain: 3, Epoch: 4, From: chain.Replica{Node: "a", Incarnation: 1}, To: chain.Replica{Node: "b", Incarnation: 2}, Sequence: 5, Entry: 4,
	Committed: 3, Durable: 2, Query: 1, Time: 77,
	Entries: []chain.Entry{{Epoch: 4, Sequence: 6, Time: 8, Client: 9, Request: 10, Floor: 2, Result: chain.Result{Version: 6}, Changes: []chain.Change{
		{Key: []byte("k"), Value: []byte("v"), Expires: 3}, {Key: []byte("d"), Deleted: true},
	}}},
}

func TestRoundTrip(t *testing.T) {
	var q chain.Request
	if err := DecodeRequest(AppendRequest(nil, &sampleRequest), &q); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleRequest, q); d != "" {
		t.Error(d)
	}
	var a chain.Answer
	if err := DecodeAnswer(AppendAnswer(nil, &sampleAnswer), &a); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sampleAnswer, a, cmpopts.EquateErrors()); d != "" {
		t.Error(d)
	}
	m, err := DecodeMessage(AppendMessage(nil, &sampleMessage))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&sampleMessage, m); d != "" {
		t.Error(d)
	}
}

// A changed byte is noticed, whichever it is.
func TestDamage(t *testing.T) {
	frame := AppendMessage(nil, &sampleMessage)
	for i := range frame {
		damaged := bytes.Clone(frame)
		damaged[i] ^= 0x10
		n, err := Framing.Size(damaged[:Framing.Head])
		if err == nil && n == len(frame) {
			_, err = KindOf(damaged)
		}
		if err == nil && n == len(frame) {
			t.Errorf("byte %d may change unnoticed", i)
		}
	}
	if _, err := Framing.Size([]byte{255, 0, 0, 0, 0, 0, 0, 0}); !errors.Is(err, chain.ErrCorrupt) {
		t.Error(err)
	}
}

// What is decoded is what was encoded, and nothing panics or takes more memory than the frame has.
func FuzzDecode(f *testing.F) {
	f.Add(AppendRequest(nil, &sampleRequest)[headSize:])
	f.Add(AppendAnswer(nil, &sampleAnswer)[headSize:])
	f.Add(AppendMessage(nil, &sampleMessage)[headSize:])
	f.Fuzz(func(t *testing.T, body []byte) {
		frame := end(append(make([]byte, headSize), body...), 0)
		if _, err := KindOf(frame); err != nil {
			return
		}
		var q chain.Request
		if err := DecodeRequest(frame, &q); err == nil {
			var again chain.Request
			if err := DecodeRequest(AppendRequest(nil, &q), &again); err != nil {
				t.Error(err)
			} else if d := cmp.Diff(q, again, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		}
		var a chain.Answer
		if err := DecodeAnswer(frame, &a); err == nil && a.Err == nil {
			var again chain.Answer
			if err := DecodeAnswer(AppendAnswer(nil, &a), &again); err != nil {
				t.Error(err)
			}
		}
		if m, err := DecodeMessage(frame); err == nil {
			if again, err := DecodeMessage(AppendMessage(nil, m)); err != nil || !cmp.Equal(m, again, cmpopts.EquateEmpty()) {
				t.Errorf("%v, %v", again, err)
			}
		}
	})
}

package node

import (
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
)

// gathering is a runner whose messages are kept for the test.
func gathering(t *testing.T) *runner {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{metrics: m, begun: time.Now(), peers: map[fabric.NodeID]*peer{}, closed: true}
	return &runner{node: n, syncs: make(chan written, 1), pause: time.NewTimer(time.Hour), out: outbox{node: n, buffers: map[fabric.NodeID][]byte{}, counts: map[fabric.NodeID]int{}}}
}

// sends gathers messages and returns those that were sent to a node.
func (r *runner) sends(t *testing.T, node string, all ...*replica.Message) []*replica.Message {
	t.Helper()
	for _, m := range all {
		r.gather.message(m)
	}
	r.send()
	var sent []*replica.Message
	for p := r.node.peer(fabric.NodeID(node)); len(p.out) > 0; {
		for b := <-p.out; len(b) > 0; {
			size, err := wire.Framing.Size(b)
			if err != nil {
				t.Fatal(err)
			}
			m, err := wire.DecodeMessage(b[:size])
			if err != nil {
				t.Fatal(err)
			}
			sent, b = append(sent, m), b[size:]
		}
	}
	return sent
}

// durable is a message with the watermark.
func durable(m *replica.Message, up uint64) *replica.Message {
	m.Durable = up
	return m
}

// TestEntriesWaitForTheSync: what comes while entries are made durable goes out together, with the news that they are, or when nothing is under way any more.
func TestEntriesWaitForTheSync(t *testing.T) {
	r := gathering(t)
	if sent := r.sends(t, "b", entries(0, 10)); len(sent) != 1 {
		t.Fatalf("nothing is under way, and %d messages were sent", len(sent))
	}
	r.busy = true
	ack := &replica.Message{Kind: replica.KindAck, Epoch: 1, From: to("b"), To: to("a"), Sequence: 1}
	if sent := r.sends(t, "b", entries(1, 10), ack, entries(2, 10)); len(sent) != 0 {
		t.Fatalf("entries are made durable, and more were sent: %+v", sent)
	}
	if sent := r.sends(t, "a"); len(sent) != 1 || sent[0].Kind != replica.KindAck {
		t.Fatalf("an acknowledgement waits for entries: %+v", sent)
	}
	sent := r.sends(t, "b", durable(entries(3), 1))
	if len(sent) != 1 || len(sent[0].Entries) != 0 || sent[0].Sequence != 1 || sent[0].Durable != 1 {
		t.Fatalf("the watermark came as %+v", sent)
	}
	if sent := r.sends(t, "b", durable(entries(3, 10), 1)); len(sent) != 0 {
		t.Fatalf("entries are made durable, and more were sent: %+v", sent)
	}
	r.begun = true
	if sent := r.sends(t, "b"); len(sent) != 1 || len(sent[0].Entries) != 3 || sent[0].Sequence != 1 || sent[0].Durable != 1 {
		t.Fatalf("these are made durable, and there came %+v", sent)
	}
	if sent := r.sends(t, "b", durable(entries(4, 10), 1)); len(sent) != 0 {
		t.Fatalf("entries are made durable, and more were sent: %+v", sent)
	}
	r.busy = false
	if sent := r.sends(t, "b"); len(sent) != 1 || sent[0].Sequence != 4 {
		t.Fatalf("nothing is under way any more, and there came %+v", sent)
	}
}

// TestOrderIsKept: nothing overtakes entries that wait.
func TestOrderIsKept(t *testing.T) {
	r := gathering(t)
	r.busy = true
	if sent := r.sends(t, "b", entries(0, 10)); len(sent) != 0 {
		t.Fatalf("sent: %+v", sent)
	}
	sent := r.sends(t, "b", &replica.Message{Kind: replica.KindSnapshot, Epoch: 2, From: to("a"), To: to("b"), Sequence: 1})
	if len(sent) != 2 || sent[0].Kind != replica.KindAppend || sent[1].Kind != replica.KindSnapshot {
		t.Fatalf("there came %+v", sent)
	}
}

// TestUnsyncedWaitsForNothing: what is acknowledged before it is durable does not wait for that.
func TestUnsyncedWaitsForNothing(t *testing.T) {
	r := gathering(t)
	r.busy, r.config.Unsynced = true, true
	if sent := r.sends(t, "b", entries(0, 10)); len(sent) != 1 {
		t.Fatalf("sent: %+v", sent)
	}
	r.fresh = 3
	if r.begin(); len(r.syncs) != 1 || r.fresh != 0 {
		t.Error("an unsynced chain waits for its disk")
	}
}

// TestOneSyncAtATime: what is written is made durable when what was before is, and is committed, or after a while.
func TestOneSyncAtATime(t *testing.T) {
	r := gathering(t)
	next := func() uint64 {
		select {
		case w := <-r.syncs:
			return w.up
		default:
			return 0
		}
	}
	if r.begin(); next() != 0 {
		t.Fatal("nothing was written, and it is made durable")
	}
	r.fresh = 3
	if r.begin(); next() != 3 || !r.busy {
		t.Fatal("entry 3 is not made durable at once")
	}
	r.fresh = 5
	if r.begin(); next() != 0 {
		t.Fatal("entry 5 is made durable beside entry 3")
	}
	r.busy, r.durable, r.patience = false, 3, r.node.Now()+time.Hour
	if r.begin(); next() != 0 {
		t.Fatal("entry 5 does not wait for the commit of entry 3")
	}
	r.applied.Store(3)
	if r.begin(); next() != 5 {
		t.Fatal("entry 3 is committed, and entry 5 still waits")
	}
	r.busy, r.durable, r.fresh, r.patience = false, 5, 6, r.node.Now()
	if r.begin(); next() != 6 {
		t.Fatal("entry 6 waits for the commit of entry 5 for too long")
	}
}

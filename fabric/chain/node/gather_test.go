package node

import (
	"testing"

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
	n := &Node{metrics: m, peers: map[fabric.NodeID]*peer{}, closed: true}
	return &runner{node: n, out: outbox{node: n, buffers: map[fabric.NodeID][]byte{}, counts: map[fabric.NodeID]int{}}}
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
	if len(sent) != 1 || len(sent[0].Entries) != 2 || sent[0].Sequence != 1 || sent[0].Durable != 1 {
		t.Fatalf("with the watermark came %+v", sent)
	}
	if sent := r.sends(t, "b", durable(entries(3, 10), 1)); len(sent) != 0 {
		t.Fatalf("entries are made durable, and more were sent: %+v", sent)
	}
	r.busy = false
	if sent := r.sends(t, "b"); len(sent) != 1 || sent[0].Sequence != 3 {
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
	r := &runner{handed: 2, synced: 1}
	if !r.syncing() {
		t.Error("entries are being made durable, and it does not know")
	}
	if r.config.Unsynced = true; r.syncing() {
		t.Error("an unsynced chain waits for its disk")
	}
	if r.config.Unsynced, r.synced = false, 2; r.syncing() {
		t.Error("it waits for what was done")
	}
}

package node

import (
	"testing"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
)

func to(n string) chain.Replica { return chain.Replica{Node: fabric.NodeID(n), Incarnation: 1} }

// entries are one entry after the other, of so many bytes each.
func entries(after uint64, sizes ...int) *replica.Message {
	m := &replica.Message{Kind: replica.KindAppend, Epoch: 1, From: to("a"), To: to("b"), Sequence: after, Entry: 1}
	for i, n := range sizes {
		m.Entries = append(m.Entries, chain.Entry{Epoch: 1, Sequence: after + uint64(i) + 1, Changes: []chain.Change{{Key: []byte("k"), Value: make([]byte, n)}}})
	}
	return m
}

// frames encodes what was gathered and checks that each message is a frame that a receiver takes.
func frames(t *testing.T, g *gathered) {
	t.Helper()
	for i := range g.messages {
		b := wire.AppendMessage(nil, &g.messages[i])
		if size, err := wire.Framing.Size(b); err != nil || size != len(b) {
			t.Errorf("message %d, %d entries, %d bytes: %v", i, len(g.messages[i].Entries), len(b), err)
		}
	}
}

// TestMergedMessages: what follows each other becomes one message, as far as that is one that the receiver takes.
func TestMergedMessages(t *testing.T) {
	var g gathered
	for n := range uint64(3) {
		m := entries(n, 100)
		m.Durable, m.Committed, m.Time = n, n, int64(n)
		g.message(m)
	}
	if m := g.messages[0]; len(g.messages) != 1 || len(m.Entries) != 3 || m.Sequence != 0 || m.Durable != 2 || m.Committed != 2 || m.Time != 2 {
		t.Fatalf("%+v", g.messages)
	}
	g.message(entries(5, 100)) // does not follow
	g.message(&replica.Message{Kind: replica.KindAck, Epoch: 1, To: to("c"), Sequence: 1})
	g.message(&replica.Message{Kind: replica.KindAck, Epoch: 1, To: to("c"), Sequence: 2})
	g.message(entries(6, 100)) // continues the last one to b
	g.message(&replica.Message{Kind: replica.KindAck, Epoch: 2, To: to("c"), Sequence: 0})
	if len(g.messages) != 4 || len(g.messages[1].Entries) != 2 || g.messages[2].Sequence != 2 || g.messages[3].Epoch != 2 {
		t.Fatalf("%+v", g.messages)
	}
	frames(t, &g)
}

// TestLargeMessages: many large entries of one step do not become a frame that ends the connection.
func TestLargeMessages(t *testing.T) {
	var g gathered
	for n := range uint64(4) {
		g.message(entries(n, chain.MaxValue))
	}
	g.message(entries(4)) // the watermark
	frames(t, &g)
	total := 0
	for _, m := range g.messages {
		total += len(m.Entries)
	}
	if total != 4 || len(g.messages) != 4 {
		t.Fatalf("%d entries in %d messages", total, len(g.messages))
	}
}

// TestLargestEntry: the largest command there may be fits into a frame.
func TestLargestEntry(t *testing.T) {
	var g gathered
	m := entries(0, chain.MaxCommand)
	for range chain.MaxWrites {
		m.Entries[0].Changes = append(m.Entries[0].Changes, chain.Change{Key: []byte("k")})
	}
	g.message(m)
	frames(t, &g)
}

package membership

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// The epidemic protocol of Artillery, which this project began with, had nine defects. Each has a test that fails where we have it:
//
//  1. a malformed datagram ends a node: TestGarbage
//  2. many changes do not fit into a datagram, and end a node: TestArtilleryManyChanges
//  3. of a batch of changes only the first is taken in, and
//  4. what one peer acknowledged is told to nobody else: TestArtilleryMissedGossip, and every test that waits until all see all
//  5. dead is for good, and old suspicions win over newer life: TestDeadAndBack, TestSuspect, TestStopped
//  6. dead members are probed for ever, and no order of probes bounds the time to notice a death: memberlist's order; TestArtilleryTheDeadAreNotThere
//  7. an event names its receiver as the sender: TestEvents
//  8. the cluster's key is sent in the clear: TestStrangersAreRefused, TestGarbage
//  9. leaving does not wait until it was told: TestLeave

func TestArtilleryManyChanges(t *testing.T) {
	e := newEvents("a", 3)
	for i := range 1000 {
		if _, err := e.send(fmt.Sprintf("event-%d", i), make([]byte, i%MaxEventPayload)); err != nil {
			t.Fatal(err)
		}
	}
	sent := 0
	for range 1000 {
		size := 0
		for _, part := range e.pending(2, 1400) {
			size += 2 + len(part)
			sent++
		}
		if size > 1400 {
			t.Fatalf("%d bytes for a datagram of 1400", size)
		}
	}
	if sent < 1000 {
		t.Errorf("%d were sent", sent)
	}
}

// TestArtilleryMissedGossip: who missed something hears by the answers to its probes that it did, and from whom to get it.
func TestArtilleryMissedGossip(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return at.Add(d) }
	one := &member{Member: fabric.Member{ID: "1", State: fabric.MemberAlive}, said: []byte("one")}
	two := &member{Member: fabric.Member{ID: "2", State: fabric.MemberSuspect}, said: []byte("two")}
	var r, other repair
	r.noted(nil, one)
	other.noted(nil, two)
	other.noted(nil, one)
	if r.there != 1 || other.there != 2 || r.digest == other.digest {
		t.Fatalf("%+v, %+v", r, other)
	}
	if !r.heard("x", other.digest, other.there, at) || r.partner != "x" {
		t.Errorf("it does not ask one that sees more: %+v", r)
	}
	if r.heard("y", other.digest, other.there, after(time.Millisecond)) {
		t.Error("it asks again at once")
	}
	r.noted(nil, two)
	if r.heard("x", other.digest, other.there, after(time.Hour)) {
		t.Errorf("it asks one that sees the same: %+v, %+v", r, other)
	}
	// As many, and others: only if that stays so, and then ever less often.
	asked := 0
	for second := range 120 {
		if r.heard("x", 4711, other.there, after(time.Hour+time.Duration(second)*time.Second)) {
			asked++
		}
	}
	if asked < 4 || asked > 10 {
		t.Errorf("asked %d times in two minutes", asked)
	}
	r.noted(two, &member{Member: fabric.Member{ID: "2", State: fabric.MemberDead}, said: []byte("two")})
	if r.there != 1 {
		t.Errorf("%d are there", r.there)
	}
}

// TestArtilleryTheDeadAreNotThere: memberlist drops the dead, and then there is nothing to ask it about.
func TestArtilleryTheDeadAreNotThere(t *testing.T) {
	m, err := Start(t.Context(), Config{
		Identity: fabric.Identity{Cluster: "c1", ID: "1", Name: "one", Role: fabric.RoleNode}, RPC: "127.0.0.1:1", Bind: "127.0.0.1:0",
		Keys: [][]byte{[]byte("0123456789abcdef0123456789abcdef")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if state, known := m.believed("1"); !known || state != memberlist.StateAlive {
		t.Errorf("itself: %v, %v", state, known)
	}
	if state, known := m.believed("2"); known {
		t.Errorf("a node that was dropped: %v", state)
	}
}

func FuzzMeta(f *testing.F) {
	for _, s := range []string{`{"n":"one","r":"node","a":"127.0.0.1:1","v":"1","z":"rack","t":["web"]}`, `{"n":1}`, `{`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		said, err := readMeta(&memberlist.Node{Name: "x", Meta: content})
		if err == nil && (said.Name == "" || said.Role != fabric.RoleNode) {
			t.Errorf("%q was taken for %+v", content, said)
		}
	})
}

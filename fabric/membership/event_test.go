package membership

import (
	"encoding/json"
	"testing"
)

func FuzzTake(f *testing.F) {
	for _, e := range []Event{{Time: 1, From: "a", Name: "n", Payload: []byte("p")}, {Time: 2, From: "a", Name: leaveName}, {}} {
		content, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		e := newEvents("self", 4)
		first := len(e.arrived)
		e.take(content)
		once := len(e.arrived)
		e.take(content)
		if once > first+1 || len(e.arrived) != once {
			t.Errorf("%q arrived twice", content)
		}
	})
}

// TestMemoryOfEvents sends more events than are remembered: the memory stays bounded and the newest are known.
func TestMemoryOfEvents(t *testing.T) {
	e := newEvents("self", 4)
	for i := range uint64(3 * rememberedIDs) {
		if !e.isNew(Event{From: "a", Time: i}) {
			t.Fatalf("event %d is not new", i)
		}
	}
	if len(e.seen) != rememberedIDs || len(e.order) != rememberedIDs {
		t.Errorf("%d and %d remembered", len(e.seen), len(e.order))
	}
	if e.isNew(Event{From: "a", Time: 3*rememberedIDs - 1}) {
		t.Error("the newest event is forgotten")
	}
}

// TestEventsOfALoneNode: what nobody is there to hear does not pile up.
func TestEventsOfALoneNode(t *testing.T) {
	e := newEvents("a", 3)
	first, err := e.send("first", nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxQueued {
		if _, err := e.send("more", nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := e.queue.NumQueued(); n > maxQueued {
		t.Errorf("%d events are queued", n)
	}
	<-first // given up
}

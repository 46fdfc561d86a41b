package event

import (
	"errors"
	"testing"
	"time"
)

// TestWindow takes messages of one sender that come in any order and again: each once, and those that are too old never.
func TestWindow(t *testing.T) {
	b := inboxes{sources: map[source]*window{}}
	inbox := &Inbox{of: &b, more: make(chan struct{}, 1)}
	b.all = []*Inbox{inbox}
	now := time.Unix(1000, 0)
	from := source{"a", 1}
	take := func(number uint64) error {
		err := b.take(from, number, Message{Name: "a"}, now)
		inbox.waiting = inbox.waiting[:0]
		return err
	}
	const last = 10 * rememberEach
	for n := uint64(2); n <= last; n += 2 {
		for _, number := range []uint64{n, n - 1, n} {
			before := b.sources[from]
			if err := take(number); err != nil {
				t.Fatal(number, err)
			}
			if before != nil && len(before.taken) > 2*rememberEach+1 {
				t.Fatalf("%d numbers are remembered", len(before.taken))
			}
		}
	}
	for number, want := range map[uint64]error{1: ErrUncertain, last - rememberEach + 1: nil, last: nil} {
		if err := take(number); !errors.Is(err, want) {
			t.Errorf("%d: %v", number, err)
		}
	}
	if err := take(1<<64 - 1); err != nil {
		t.Error(err)
	}
	// A refusal is not remembered.
	b.all = nil
	other := source{"b", 1}
	if err := b.take(other, 1, Message{Name: "a"}, now); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	b.all = []*Inbox{inbox}
	if err := b.take(other, 1, Message{Name: "a"}, now); err != nil || len(inbox.waiting) != 1 {
		t.Error(err, len(inbox.waiting))
	}
	for life := range uint64(2 * maxLives) {
		err := b.take(source{"c", life}, 1, Message{Name: "a"}, now)
		inbox.waiting = inbox.waiting[:0]
		if refused := errors.Is(err, ErrBusy); refused != (life >= maxLives-2) {
			t.Fatalf("life %d: %v", life, err)
		}
	}
	b.sweep(now.Add(rememberTaken + 1))
	if len(b.sources) != 0 {
		t.Errorf("%d senders are remembered", len(b.sources))
	}
}

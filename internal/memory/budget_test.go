package memory

import (
	"context"
	"errors"
	"runtime/debug"
	"testing"
)

// TestBudget: who wants more than is free waits, until it is given back or they give up; who wants more than there is gets all.
func TestBudget(t *testing.T) {
	b := NewBudget(100)
	release, err := b.Take(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	giveUp, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Take(giveUp, 60); !errors.Is(err, context.Canceled) {
		t.Errorf("60 of 40 were taken: %v", err)
	}
	got := make(chan func())
	go func() {
		all, err := b.Take(t.Context(), 1000)
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	select {
	case <-got:
		t.Error("all was taken beside 60")
	default:
	}
	release()
	(<-got)()
	if b.Size() != 100 {
		t.Errorf("its size is %d", b.Size())
	}
}

// TestShare: what work of a moment may take is a part of what the program may use.
func TestShare(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(64 << 20)
	if s := Share(); s < 20<<20 || s > 32<<20 {
		t.Errorf("%d bytes of 64 MiB", s)
	}
	debug.SetMemoryLimit(64 << 30)
	if s := Share(); s != enough {
		t.Errorf("%d bytes of 64 GiB", s)
	}
}

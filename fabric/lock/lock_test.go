package lock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/node/nodetest"
	"orrery/fabric/client"
	"orrery/fabric/lock"
)

func begin(t *testing.T) (context.Context, *client.Bucket) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, nodetest.Start(t, 3, "locks").Client("ann", fabric.RoleOperator).Bucket("locks")
}

// Many want the lock; one has it at a time, each gets it, and tokens grow.
func TestOneAtATime(t *testing.T) {
	ctx, bucket := begin(t)
	const many = 8
	var work sync.WaitGroup
	var mu sync.Mutex
	inside, last, times := 0, uint64(0), 0
	for i := range many {
		work.Go(func() {
			h, err := lock.Lock{Bucket: bucket, Key: "door", Holder: fmt.Sprint("w", i)}.Acquire(ctx)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if inside++; inside > 1 || h.Token() <= last || !h.Valid() {
				t.Errorf("%d inside, token %d after %d", inside, h.Token(), last)
			}
			last = h.Token()
			times++
			inside--
			mu.Unlock()
			if err := h.Release(ctx); err != nil {
				t.Error(err)
			}
			if h.Valid() {
				t.Error("it is valid after its release")
			}
		})
	}
	work.Wait()
	if times != many {
		t.Errorf("%d of %d had it", times, many)
	}
}

func TestTry(t *testing.T) {
	ctx, bucket := begin(t)
	a, b := lock.Lock{Bucket: bucket, Key: "door", Holder: "a"}, lock.Lock{Bucket: bucket, Key: "door", Holder: "b"}
	if _, _, err := a.HeldBy(ctx); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("nobody has it: %v", err)
	}
	h, err := a.Try(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Try(ctx); !errors.Is(err, lock.ErrHeld) || !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("%v", err)
	}
	if holder, _, err := b.HeldBy(ctx); err != nil || holder != "a" {
		t.Errorf("%q, %v", holder, err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := b.Acquire(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := h.Release(ctx); err != nil {
		t.Error(err)
	}
	<-h.Lost()
	if err := h.Release(ctx); err != nil {
		t.Errorf("a second release: %v", err)
	}
	if h, err = b.Try(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Release(ctx); err != nil {
		t.Error(err)
	}
}

// A lock is kept for longer than it lasts, as long as its holder is there, and not longer than it lasts if its holder is gone.
func TestKept(t *testing.T) {
	ctx, bucket := begin(t)
	a := lock.Lock{Bucket: bucket, Key: "door", Holder: "a", TTL: 300 * time.Millisecond}
	h, err := a.Try(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first := h.Token()
	for at := first; at < first+3; { // it was written again so often
		if _, at, err = a.HeldBy(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if !h.Valid() {
		t.Error("it is not valid")
	}
	gone := client.Lasting(300 * time.Millisecond)
	if err := h.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(ctx, []byte("door"), []byte(`{"holder":"gone","nonce":"x"}`), gone); err != nil {
		t.Fatal(err)
	}
	if h, err = a.Acquire(ctx); err != nil || h.Token() <= first {
		t.Fatal(err)
	}
	if err := h.Release(ctx); err != nil {
		t.Error(err)
	}
}

// A holder hears of it when the key is taken from it.
func TestLost(t *testing.T) {
	ctx, bucket := begin(t)
	a := lock.Lock{Bucket: bucket, Key: "door", Holder: "a", TTL: 300 * time.Millisecond}
	h, err := a.Try(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(ctx, []byte("door"), []byte(`{"holder":"thief"}`)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.Lost():
	case <-ctx.Done():
		t.Fatal("it was not heard of")
	}
	if h.Valid() {
		t.Error("it is valid")
	}
	if err := h.Release(ctx); err != nil {
		t.Error(err)
	}
	if holder, _, err := a.HeldBy(ctx); err != nil || holder != "thief" {
		t.Errorf("another one's lock was released: %q, %v", holder, err)
	}
}

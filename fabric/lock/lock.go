// Package lock has locks, and elections, which are locks whose holder says who it is, over a key of a replicated bucket.
//
// A lock is a key that lasts for a while and is written again by its holder in time. Who finds no key writes it; who finds one waits until it is gone. One holder at a time is
// there as long as clocks of nodes and holders differ by less than a tenth of the time that a lock lasts: its end is by the calendar of the node that is the chain's head. A holder that was stopped
// may not know that its time is over. So what must not be done twice is to be checked where it is done: Token grows with each holder, and whoever has seen a greater one refuses a smaller one.
package lock

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/client"
	"orrery/internal/clock"
)

// ErrHeld says that somebody else has the lock. It matches fabric.ErrConflict.
var ErrHeld = fmt.Errorf("somebody else has the lock: %w", fabric.ErrConflict)

// DefaultTTL is how long a lock lasts when its holder is gone.
const DefaultTTL = 10 * time.Second

// Lock is a lock as one that wants it sees it.
type Lock struct {
	Bucket *client.Bucket
	Key    string
	// Holder is who wants it, for others to read: a name, or an address.
	Holder string
	// TTL is how long the lock lasts when its holder is gone; 0: DefaultTTL.
	TTL time.Duration
}

// record is the key's value.
type record struct {
	Holder string `json:"holder"`
	Nonce  string `json:"nonce"` // of one time of holding it
}

// Held is a lock that this process holds. Release it.
type Held struct {
	lock  Lock
	value []byte
	token uint64
	stop  context.CancelFunc
	work  sync.WaitGroup
	lost  chan struct{}

	mu      sync.Mutex
	version uint64
	until   time.Time
}

// HeldBy says who has the lock, and since which version of its key; fabric.ErrNotFound: nobody.
func (l Lock) HeldBy(ctx context.Context) (holder string, token uint64, err error) {
	v, err := l.Bucket.Get(ctx, []byte(l.Key))
	if err != nil {
		return "", 0, err
	}
	var r record
	if err := json.Unmarshal(v.Value, &r); err != nil {
		return "", 0, fmt.Errorf("key %q of bucket %s is no lock: %w", l.Key, l.Bucket.Name(), err)
	}
	return r.Holder, v.Version, nil
}

// Try takes the lock if nobody has it; ErrHeld otherwise.
func (l Lock) Try(ctx context.Context) (*Held, error) {
	if l.TTL == 0 {
		l.TTL = DefaultTTL
	}
	value, err := json.Marshal(record{l.Holder, rand.Text()})
	if err != nil {
		return nil, err
	}
	sent := time.Now()
	version, err := l.write(ctx, 0, value)
	switch {
	case errors.Is(err, fabric.ErrConflict):
		return nil, fmt.Errorf("lock %s: %w", l.Key, ErrHeld)
	case err != nil:
		return nil, fmt.Errorf("cannot take lock %s: %w", l.Key, err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	h := &Held{lock: l, value: value, token: version, stop: stop, lost: make(chan struct{}), version: version, until: l.end(sent)}
	h.work.Go(func() { h.keep(life) })
	return h, nil
}

// Acquire takes the lock, and waits for it if somebody else has it, until ctx ends.
func (l Lock) Acquire(ctx context.Context) (*Held, error) {
	for {
		h, err := l.Try(ctx)
		if !errors.Is(err, ErrHeld) {
			return h, err
		}
		if err := l.free(ctx); err != nil {
			return nil, fmt.Errorf("cannot take lock %s: %w", l.Key, err)
		}
	}
}

// free returns when nobody has the lock.
func (l Lock) free(ctx context.Context) error {
	keys := chain.Range{Start: []byte(l.Key), End: append([]byte(l.Key), 0)}
	first := true
	for change, err := range l.Bucket.Watch(ctx, keys, nil) {
		if err != nil {
			return err
		}
		if first && len(change.Items) == 0 {
			return nil
		}
		first = false
		for _, item := range change.Items {
			if item.Missing {
				return nil
			}
		}
	}
	return ctx.Err()
}

// write writes the lock's key if it is at a version.
func (l Lock) write(ctx context.Context, version uint64, value []byte) (uint64, error) {
	r, err := l.Bucket.Txn().If([]byte(l.Key), version).Put([]byte(l.Key), value, client.Lasting(l.TTL)).Commit(ctx)
	return r.Version, err
}

// end is until when the holder relies on a lock that it asked for at a time.
func (l Lock) end(sent time.Time) time.Time { return sent.Add(l.TTL - l.TTL/10) }

// Token grows with each holder of the lock.
func (h *Held) Token() uint64 { return h.token }

// Lost is closed when the lock is not held any more, by Release or because it could not be kept.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Valid says whether the lock is held at this moment, as far as clocks go.
func (h *Held) Valid() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Before(h.until)
}

// Release gives the lock back. If that cannot be done, it ends by itself.
func (h *Held) Release(ctx context.Context) error {
	h.stop()
	h.work.Wait()
	h.mu.Lock()
	version := h.version
	h.mu.Unlock()
	_, err := h.lock.Bucket.Txn().If([]byte(h.lock.Key), version).Delete([]byte(h.lock.Key)).Commit(ctx)
	if errors.Is(err, fabric.ErrConflict) { // it ended before, and may be somebody else's
		return nil
	}
	return err
}

// keep writes the key again in time, until it cannot.
func (h *Held) keep(ctx context.Context) {
	defer close(h.lost)
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.until = time.Time{}
	}()
	for clock.Wait(ctx, h.lock.TTL/3) {
		if !h.renew(ctx) {
			return
		}
	}
}

// renew writes the key again before its time is over; false: it is lost, or ctx has ended.
func (h *Held) renew(ctx context.Context) bool {
	h.mu.Lock()
	until, version := h.until, h.version
	h.mu.Unlock()
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for ctx.Err() == nil {
		sent := time.Now()
		next, err := h.lock.write(ctx, version, h.value)
		if errors.Is(err, fabric.ErrConflict) {
			// Perhaps it was this process that wrote it, and did not hear so.
			v, err := h.lock.Bucket.Get(ctx, []byte(h.lock.Key))
			if err == nil && string(v.Value) == string(h.value) && v.Version != version {
				version = v.Version
				continue
			}
			if err == nil || errors.Is(err, fabric.ErrNotFound) {
				return false
			}
		}
		if err == nil {
			h.mu.Lock()
			h.version, h.until = next, h.lock.end(sent)
			h.mu.Unlock()
			return true
		}
		clock.Wait(ctx, h.lock.TTL/30)
	}
	return false
}

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// kind is what clients do.
type kind int

const (
	write kind = iota
	readOther
	readWritten
	kinds
)

// Clients try an operation for so long before they begin it anew; at least so long, and at most so long, they are watched after something was killed.
const (
	attempt = 500 * time.Millisecond
	least   = 4 * time.Second
	most    = 30 * time.Second
)

// workers are how many clients each kind has; they use so many keys.
const (
	workers = 2
	keys    = 10
)

// session is a client. Its reads are linearizable.
type session interface {
	Get(ctx context.Context, key string) error
	Put(ctx context.Context, key, value string) error
	Close() error
}

// outage is, for each kind, the longest time in which no client of it had success.
type outage [kinds]time.Duration

func (o outage) String() string {
	return fmt.Sprintf("%d ms without writes, %d ms without reads, %d ms without reads of written keys", o[write].Milliseconds(), o[readOther].Milliseconds(), o[readWritten].Milliseconds())
}

// clock notes successes.
type clock struct {
	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

func (c *clock) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.longest, c.last = max(c.longest, now.Sub(c.last)), now
}

// since is for how long there was no success; begin forgets what was before.
func (c *clock) since(begin bool) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if begin {
		c.longest = 0
	}
	return time.Since(c.last)
}

// watch lets clients work while something is killed, and returns for how long nothing worked.
func watch(ctx context.Context, open func(context.Context) (session, error), kill func() error) (o outage, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	var clocks [kinds]clock
	for i := range workers * int(kinds) {
		c, err := open(ctx)
		if err != nil {
			return o, err
		}
		defer func() { work.Wait(); _ = c.Close() }()
		if err := prepare(ctx, c); err != nil {
			return o, err
		}
		k := kind(i % int(kinds))
		clocks[k].tick()
		work.Go(func() { repeat(ctx, c, k, &clocks[k]) })
	}
	defer cancel()
	if !wait(ctx, time.Second) {
		return o, ctx.Err()
	}
	for k := range clocks {
		clocks[k].since(true)
	}
	if err := kill(); err != nil {
		return o, err
	}
	if err := settle(ctx, &clocks); err != nil {
		return o, err
	}
	for k := range clocks {
		o[k] = clocks[k].longest
	}
	return o, nil
}

// prepare makes the keys.
func prepare(ctx context.Context, c session) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for n := range keys {
		for _, k := range []kind{write, readOther} {
			if err := c.Put(ctx, key(k, n), "first"); err != nil {
				return err
			}
		}
	}
	return nil
}

// key is one of the keys of a kind.
func key(k kind, n int) string {
	if k == readOther {
		return fmt.Sprint("other-", n%keys)
	}
	return fmt.Sprint("written-", n%keys)
}

func repeat(ctx context.Context, c session, k kind, done *clock) {
	for n := 0; ctx.Err() == nil; n++ {
		try, cancel := context.WithTimeout(ctx, attempt)
		var err error
		if k == write {
			err = c.Put(try, key(k, n), fmt.Sprint(n))
		} else {
			err = c.Get(try, key(k, n))
		}
		cancel()
		switch {
		case err == nil:
			done.tick()
		case !wait(ctx, time.Millisecond): // who is refused at once does not ask again without a pause
			return
		}
	}
}

// settle waits until all kinds have had success again for a while.
func settle(ctx context.Context, clocks *[kinds]clock) error {
	for begun := time.Now(); ; {
		if !wait(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
		fine := time.Since(begun) > least
		for k := range clocks {
			fine = fine && clocks[k].since(false) < attempt
		}
		if fine {
			return nil
		}
		if time.Since(begun) > most {
			return fmt.Errorf("the cluster does not recover within %s", most)
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

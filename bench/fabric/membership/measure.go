package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// node is one of many.
type node interface {
	join(first node)
	name() string
	traffic() uint64 // bytes sent so far
	close() error    // without a word
}

// sight is what one node was seen to see.
type sight struct {
	want int // nodes
	loss func() bool

	mu     sync.Mutex
	now    int                  // members that it believes to be there
	full   time.Time            // when it first saw all
	deaths map[string]time.Time // the last one that it noticed, by node
	lies   int                  // deaths that it noticed of nodes that live
	killed string
}

// there notes how many are there.
func (s *sight) there(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now = n; n == s.want && s.full.IsZero() {
		s.full = time.Now()
	}
}

// died notes a death.
func (s *sight) died(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaths[name] = time.Now()
	if name != s.killed {
		s.lies++
	}
}

// result is a line of the table.
type result struct {
	complete, median seconds
	joining          float64 // bytes sent by a node until all saw all
	rate, processor  float64
	first, half, all seconds
	lies             int
}

// seconds is a time, or that it did not come.
type seconds time.Duration

func (s seconds) String() string {
	if s < 0 {
		return "never"
	}
	return fmt.Sprintf("%.2f", time.Duration(s).Seconds())
}

type cluster struct {
	nodes  []node
	sights []*sight
}

func measure(ctx context.Context, o options, n int, start func(*sight, int) (node, error)) (r result, err error) {
	var c cluster
	defer func() { err = errors.Join(err, c.close()) }()
	for i := range n {
		s := &sight{want: n, deaths: map[string]time.Time{}, loss: losing(o.loss)}
		v, err := start(s, i)
		if err != nil {
			return r, err
		}
		c.nodes, c.sights = append(c.nodes, v), append(c.sights, s)
	}
	began := time.Now()
	for _, v := range c.nodes[1:] {
		go v.join(c.nodes[0])
	}
	r.complete, r.median, _ = c.wait(ctx, o.limit, began, c.sights, func(s *sight) time.Time { return s.full })
	r.joining = float64(c.sent()) / float64(n)
	r.rate, r.processor = c.idle(ctx, o.steady)
	r.half, r.first, r.all = c.kill(ctx, o.limit)
	for _, s := range c.sights[:n-1] {
		s.mu.Lock()
		r.lies += s.lies
		s.mu.Unlock()
	}
	return r, ctx.Err()
}

// close ends all nodes at once: one after the other, those that are left would be busy with the dead.
func (c *cluster) close() error {
	errs := make([]error, len(c.nodes))
	var all sync.WaitGroup
	for i, v := range c.nodes {
		all.Go(func() { errs[i] = v.close() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// idle leaves the cluster alone: bytes a node sends a second, and percent of one processor that all take.
func (c *cluster) idle(ctx context.Context, d time.Duration) (rate, processor float64) {
	sent, used := c.sent(), cpu()
	began := time.Now()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	took := time.Since(began).Seconds()
	return float64(c.sent()-sent) / took / float64(len(c.nodes)), 100 * (cpu() - used).Seconds() / took
}

// kill ends the last node and waits until all others know.
func (c *cluster) kill(ctx context.Context, limit time.Duration) (half, first, all seconds) {
	last := len(c.nodes) - 1
	victim := c.nodes[last]
	for _, s := range c.sights {
		s.mu.Lock()
		s.killed = victim.name()
		s.mu.Unlock()
	}
	began := time.Now()
	err := victim.close()
	c.nodes = c.nodes[:last]
	if err != nil {
		return -1, -1, -1
	}
	all, half, first = c.wait(ctx, limit, began, c.sights[:last], func(s *sight) time.Time { return s.deaths[victim.name()] })
	return half, first, all
}

// wait waits until something was seen by all: when the last, the median and the first did.
func (c *cluster) wait(ctx context.Context, limit time.Duration, began time.Time, sights []*sight, seen func(*sight) time.Time) (last, half, first seconds) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	times := make([]seconds, len(sights))
	for {
		missing := 0
		for i, s := range sights {
			s.mu.Lock()
			at := seen(s)
			s.mu.Unlock()
			if times[i] = seconds(at.Sub(began)); at.Before(began) {
				times[i] = -1
				missing++
			}
		}
		if missing == 0 || time.Since(began) > limit || ctx.Err() != nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	slices.SortFunc(times, func(a, b seconds) int { // those that never come are last
		return int(min(1, max(-1, (a.order()-b.order()))))
	})
	return times[len(times)-1], times[len(times)/2], times[0]
}

func (s seconds) order() int64 {
	if s < 0 {
		return 1 << 62
	}
	return int64(s)
}

func (c *cluster) sent() (n uint64) {
	for _, v := range c.nodes {
		n += v.traffic()
	}
	return n
}

// cpu is the time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

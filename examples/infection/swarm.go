package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	random "math/rand/v2"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/membership"
)

// swarm is many nodes in one process.
type swarm struct {
	nodes []*membership.Membership
	news  chan struct{} // something changed

	mu      sync.Mutex
	dead    []bool
	alive   []int // how many nodes each believes to be alive
	current *spread
	told    func(i int, members []fabric.Member) bool // whether node i knows now what spreads; nil: it comes as an event
}

// start starts nodes and tells each of a few others, as discovery does.
func start(ctx context.Context, n int, loss float64) (*swarm, error) {
	s := &swarm{news: make(chan struct{}, 1), dead: make([]bool, n), alive: make([]int, n)}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	var beacons []fabric.Beacon
	for i := range n {
		m, err := membership.Start(ctx, membership.Config{
			Identity: fabric.Identity{Cluster: "infection", ID: fabric.NodeID(fmt.Sprintf("%016x", i)), Name: fmt.Sprintf("node-%d", i), Role: fabric.RoleNode},
			Version:  "example", RPC: "127.0.0.1:1", Bind: "127.0.0.1:0", Keys: [][]byte{key},
			Changed: func(all []fabric.Member) { s.changed(i, all) },
			Event:   func(membership.Event) { s.arrived(i) },
			Lose:    func() bool { return loss > 0 && random.Float64() < loss },
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("node %d: %w", i, err), s.close())
		}
		s.nodes = append(s.nodes, m)
		beacons = append(beacons, m.Beacons()[0])
	}
	for _, m := range s.nodes {
		for _, i := range random.Perm(n)[:min(n, 4)] {
			m.Found(beacons[i])
		}
	}
	return s, nil
}

// close ends all nodes, at once: each waits for what it has under way.
func (s *swarm) close() error {
	failed := make([]error, len(s.nodes))
	var all sync.WaitGroup
	for i, m := range s.nodes {
		all.Go(func() { failed[i] = m.Close() })
	}
	all.Wait()
	return errors.Join(failed...)
}

// changed is told what node i believes now.
func (s *swarm) changed(i int, members []fabric.Member) {
	s.mu.Lock()
	s.alive[i] = 0
	for _, m := range members {
		if m.State == fabric.MemberAlive {
			s.alive[i]++
		}
	}
	if s.told != nil && s.told(i, members) {
		s.current.reach(i)
	}
	s.mu.Unlock()
	s.wake()
}

// arrived is told that node i got the event.
func (s *swarm) arrived(i int) {
	s.mu.Lock()
	if s.current != nil && s.told == nil {
		s.current.reach(i)
	}
	s.mu.Unlock()
	s.wake()
}

func (s *swarm) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// wait waits for a condition, and calls each, where there is one, every now and then until then and once more at the end.
func (s *swarm) wait(ctx context.Context, limit time.Duration, condition func() bool, each func()) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.news:
		case <-tick.C:
			if each != nil {
				each()
			}
		}
	}
	if each != nil {
		each()
	}
	return nil
}

// whole says whether all nodes see all nodes.
func (s *swarm) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.alive {
		if n < len(s.alive) {
			return false
		}
	}
	return true
}

// quiet makes a condition that holds once the news of the beginning are old, so that what spreads afterwards has the gossip for itself.
func (s *swarm) quiet() func() bool {
	const many = 1000 // bytes a second and node
	last, before := time.Now(), uint64(0)
	return func() bool {
		passed := time.Since(last)
		if passed < 300*time.Millisecond {
			return false
		}
		var sent uint64
		for _, m := range s.nodes {
			sent += m.Traffic().Sent
		}
		rate := float64(sent-before) / passed.Seconds() / float64(len(s.nodes))
		last, before = time.Now(), sent
		return rate < many && s.whole()
	}
}

// broadcast has the first node broadcast an event.
func (s *swarm) broadcast() (*spread, error) {
	s.mu.Lock()
	s.current = newSpread("An event is broadcast", "have it", len(s.nodes))
	s.current.at[0] = 0
	s.mu.Unlock()
	return s.current, s.nodes[0].Broadcast("infection", []byte("achoo"))
}

// kill ends nodes without a word, any but the first. What spreads is that they are dead.
func (s *swarm) kill(n int) (*spread, error) {
	title := "A node is killed, without a word"
	if n > 1 {
		title = fmt.Sprintf("%d nodes are killed, without a word", n)
	}
	death := newSpread(title, "know it", len(s.nodes))
	victims := map[fabric.NodeID]bool{}
	for _, i := range random.Perm(len(s.nodes) - 1)[:n] {
		death.dead[i+1] = true
		victims[s.nodes[i+1].Self().ID] = true
	}
	s.mu.Lock()
	s.current = death
	s.told = func(_ int, members []fabric.Member) bool {
		known := 0
		for _, m := range members {
			if victims[m.ID] && m.State == fabric.MemberDead {
				known++
			}
		}
		return known == len(victims)
	}
	s.mu.Unlock()
	var all sync.WaitGroup
	failed := make([]error, len(s.nodes))
	for i, dies := range death.dead {
		if dies {
			all.Go(func() { failed[i] = s.nodes[i].Close() })
		}
	}
	all.Wait()
	return death, errors.Join(failed...)
}

// follow draws a spread until all nodes are reached.
func (s *swarm) follow(ctx context.Context, limit time.Duration, p *spread, screen *screen) error {
	screen.begin(p.copy(&s.mu))
	err := s.wait(ctx, limit, func() bool { return p.copy(&s.mu).complete() }, func() { screen.frame(p.copy(&s.mu)) })
	if err != nil {
		seen := p.copy(&s.mu)
		return fmt.Errorf("%d of %d nodes %s: %w", seen.count(limit), seen.total(), p.verb, err)
	}
	screen.end(p)
	return nil
}

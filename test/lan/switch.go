// Package lan is a local network for tests: hosts, each a network namespace, on a switch that runs in the test's process and
// treats each directed link between two hosts as it is told: late, at random times, out of order, twice, or not at all.
//
// A Switch carries Ethernet frames between ports, whatever these are; a LAN makes the namespaces, each with a TAP device as its eth0, and
// connects them. The kernels of such machines lack tc netem, which could do the same.
// What is at random comes from a seed; when the frames come does not, so that the same seed gives similar networks, not the same one.
package lan

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// Link is what happens to the frames from one host to another. The zero value passes them on at once.
type Link struct {
	Delay     time.Duration // of each frame
	Jitter    time.Duration // a frame has up to so much more delay, and does not overtake others by that
	Loss      float64       // share of frames that are lost
	Duplicate float64       // share of frames that come twice
	Reorder   float64       // share of frames that are held for longer, and overtaken meanwhile
}

// held is for how much longer at the most a frame is held so that others overtake it.
const held = 10 * time.Millisecond

const (
	maxFrame = 64 << 10
	// maxQueue is how many frames of a link may be under way; more are lost, as in a real queue.
	maxQueue = 4096
)

// Counts are what happened to the frames of a link.
type Counts struct {
	Passed, Lost, Duplicated, Reordered, Cut, Overflowed int
}

// address is an Ethernet address.
type address [6]byte

// String writes it as usual.
func (a address) String() string { return net.HardwareAddr(a[:]).String() }

func (a address) toMany() bool { return a[0]&1 == 1 }

type direction struct{ from, to string }

// state is what the switch knows of a link.
type state struct {
	link   Link
	cut    bool
	last   time.Time // when the newest frame that keeps the order is due
	queued int
	counts Counts
}

// frame is a frame under way.
type frame struct {
	due     time.Time
	number  uint64 // of two that are due at the same time the older one is first
	way     direction
	content []byte
}

// Switch carries frames between ports. Close it.
type Switch struct {
	wake chan struct{}
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	random *rand.Rand
	ports  map[string]io.ReadWriteCloser
	names  map[address]string
	links  map[direction]*state
	usual  Link
	queue  frames
	number uint64
	err    error
}

// NewSwitch starts a switch without ports.
func NewSwitch(ctx context.Context, seed uint64) *Switch {
	s := &Switch{
		wake: make(chan struct{}, 1), random: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // of a test
		ports: map[string]io.ReadWriteCloser{}, names: map[address]string{}, links: map[direction]*state{},
	}
	ctx, s.stop = context.WithCancel(ctx)
	s.work.Go(func() { s.deliver(ctx) })
	return s
}

// attach connects a host, which has that Ethernet address. The switch closes the port. A Read of it returns one frame, a Write sends one, and Close ends both.
func (s *Switch) attach(name string, at address, port io.ReadWriteCloser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[name], s.names[at] = port, name
	s.work.Go(func() { s.listen(name, port) })
}

// Close closes the ports, and waits until nothing is under way any more. It returns the first error of a port.
func (s *Switch) Close() error {
	s.stop()
	s.mu.Lock()
	var errs []error
	for _, p := range s.ports {
		errs = append(errs, p.Close())
	}
	s.mu.Unlock()
	s.work.Wait()
	return errors.Join(append(errs, s.err)...)
}

// ShapeAll is what happens on every link from now on.
func (s *Switch) ShapeAll(l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usual = l
	for _, each := range s.links {
		each.link = l
	}
}

// Shape is what happens from one host to another from now on.
func (s *Switch) Shape(from, to string, l Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(direction{from, to}).link = l
}

// Cut ends what goes from one host to another, also what is under way; the other direction goes on.
func (s *Switch) Cut(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of(direction{from, to}).cut = true
}

// Isolate cuts hosts off from all others, in both directions. Those that are isolated together reach each other.
func (s *Switch) Isolate(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inside := map[string]bool{}
	for _, name := range names {
		inside[name] = true
	}
	for a := range s.ports {
		for b := range s.ports {
			if inside[a] != inside[b] {
				s.of(direction{a, b}).cut = true
			}
		}
	}
}

// Heal undoes all cuts. Links keep their shape.
func (s *Switch) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, each := range s.links {
		each.cut = false
	}
}

// Counts are those from one host to another.
func (s *Switch) Counts(from, to string) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(direction{from, to}).counts
}

// of is a link's state, with mu held.
func (s *Switch) of(way direction) *state {
	if s.links[way] == nil {
		s.links[way] = &state{link: s.usual}
	}
	return s.links[way]
}

// listen takes frames from a port until that is closed.
func (s *Switch) listen(name string, port io.Reader) {
	buffer := make([]byte, maxFrame)
	for {
		n, err := port.Read(buffer)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.EOF) {
				s.broke(fmt.Errorf("port %s: %w", name, err))
			}
			return
		}
		if n >= 14 {
			s.take(name, buffer[:n])
		}
	}
}

func (s *Switch) broke(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, err)
}

// take passes a frame on to whom it is for.
func (s *Switch) take(from string, content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := address(content[:6])
	if !to.toMany() {
		if name, known := s.names[to]; known && name != from {
			s.pass(direction{from, name}, content)
		}
		return
	}
	for name := range s.ports {
		if name != from {
			s.pass(direction{from, name}, content)
		}
	}
}

// pass decides what happens to a frame on one link, with mu held.
func (s *Switch) pass(way direction, content []byte) {
	l := s.of(way)
	switch {
	case l.cut:
		l.counts.Cut++
		return
	case s.happens(l.link.Loss):
		l.counts.Lost++
		return
	}
	s.enqueue(way, l, content)
	if s.happens(l.link.Duplicate) {
		l.counts.Duplicated++
		s.enqueue(way, l, content)
	}
}

func (s *Switch) happens(share float64) bool { return share > 0 && s.random.Float64() < share }

// enqueue says when a frame arrives, with mu held.
func (s *Switch) enqueue(way direction, l *state, content []byte) {
	if l.queued >= maxQueue {
		l.counts.Overflowed++
		return
	}
	now := time.Now()
	due := now.Add(l.link.Delay)
	if l.link.Jitter > 0 {
		due = due.Add(time.Duration(s.random.Int64N(int64(l.link.Jitter))))
	}
	if due.Before(l.last) {
		due = l.last
	}
	if s.happens(l.link.Reorder) {
		l.counts.Reordered++
		due = due.Add(time.Duration(1 + s.random.Int64N(int64(held))))
	} else {
		l.last = due
	}
	if l.queued == 0 && !due.After(now) {
		s.hand(way, l, content)
		return
	}
	l.queued++
	s.number++
	heap.Push(&s.queue, frame{due, s.number, way, append([]byte{}, content...)})
	if s.queue[0].number == s.number {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// hand gives a frame to its host, with mu held. One whose interface is down or whose queue is full loses it.
func (s *Switch) hand(way direction, l *state, content []byte) {
	if l.cut {
		l.counts.Cut++
		return
	}
	if _, err := s.ports[way.to].Write(content); err != nil {
		l.counts.Overflowed++
		return
	}
	l.counts.Passed++
}

// deliver hands out frames when they are due.
func (s *Switch) deliver(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.flush())
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// flush hands out what is due, and says when the next frame is.
func (s *Switch) flush() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		if wait := time.Until(s.queue[0].due); wait > 0 {
			return wait
		}
		f, _ := heap.Pop(&s.queue).(frame)
		l := s.of(f.way)
		l.queued--
		s.hand(f.way, l, f.content)
	}
	return time.Hour
}

// frames is a heap of them, the next one first.
type frames []frame

var _ heap.Interface = (*frames)(nil)

// Len is heap's.
func (f *frames) Len() int { return len(*f) }

// Less is heap's.
func (f *frames) Less(i, j int) bool {
	a, b := (*f)[i], (*f)[j]
	if a.due.Equal(b.due) {
		return a.number < b.number
	}
	return a.due.Before(b.due)
}

// Swap is heap's.
func (f *frames) Swap(i, j int) { (*f)[i], (*f)[j] = (*f)[j], (*f)[i] }

// Push is heap's.
func (f *frames) Push(x any) { *f = append(*f, x.(frame)) } //nolint:forcetypeassert // of its own kind

// Pop is heap's.
func (f *frames) Pop() any {
	all := *f
	last := all[len(all)-1]
	*f = all[:len(all)-1]
	return last
}

package event

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"orrery/fabric"
)

// world is senders and one receiver, without a network and with a clock of its own.
type world struct {
	t     *testing.T
	q     *sequencer
	now   time.Time
	clock uint64
	log   []string
	done  map[fabric.NodeID]mark
}

const (
	testSettle   = 200 * time.Millisecond
	testPatience = 5 * time.Second
)

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, q: newSequencer(testSettle, testPatience), now: time.Unix(1000, 0), done: map[fabric.NodeID]mark{}}
}

// sent is event seq of a sender's life.
func sent(from fabric.NodeID, life, seq, lamport uint64) *envelope {
	e := &envelope{id: id{from, mark{life, seq}}, prior: mark{life, seq - 1}, time: lamport, name: "a"}
	if seq == 1 {
		e.prior = mark{}
	}
	return e
}

func (w *world) offer(e *envelope) (fresh, room bool) {
	w.t.Helper()
	return w.q.offer(e, w.clock, w.now)
}

// step writes what is due, and checks what always holds.
func (w *world) step() {
	w.t.Helper()
	for _, turn := range w.q.next(w.now) {
		if turn.to.compare(w.done[turn.from]) <= 0 {
			w.t.Fatalf("%s goes from %v to %v", turn.from, w.done[turn.from], turn.to)
		}
		if turn.event != nil {
			if !turn.event.follows(w.done[turn.from]) {
				w.t.Fatalf("%s: %v is in the log after %v", turn.from, turn.to, w.done[turn.from])
			}
			w.clock = max(w.clock, turn.event.time)
			w.log = append(w.log, fmt.Sprintf("%s%d", turn.from, turn.event.At.Seq))
		} else if turn.missed > 0 {
			w.log = append(w.log, fmt.Sprintf("%s-%d", turn.from, turn.missed))
		}
		w.done[turn.from] = turn.to
		w.q.done(turn, w.now)
	}
}

func (w *world) after(d time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(d)
	w.step()
}

func (w *world) want(log ...string) {
	w.t.Helper()
	if !slices.Equal(w.log, log) {
		w.t.Errorf("log %v, want %v", w.log, log)
	}
	w.log = nil
}

func TestSettles(t *testing.T) {
	w := newWorld(t)
	w.offer(sent("b", 1, 1, 7))
	w.after(testSettle / 2)
	w.want()
	w.offer(sent("a", 1, 1, 3)) // later, and from before
	w.offer(sent("c", 1, 1, 9))
	w.after(testSettle / 2)
	w.want("a1", "b1")
	w.after(testSettle)
	w.want("c1")
	w.offer(sent("b", 1, 2, 10))
	w.offer(sent("a", 1, 2, 10)) // a tie
	w.offer(sent("d", 1, 1, 1))  // too late for its time, and in the log nevertheless
	w.after(testSettle)
	w.want("d1", "a2", "b2")
	for _, e := range []*envelope{sent("a", 1, 1, 3), sent("a", 1, 2, 10), sent("d", 1, 1, 1)} {
		if fresh, room := w.offer(e); fresh || !room {
			t.Errorf("%v was taken again", e.id)
		}
	}
}

func TestHoles(t *testing.T) {
	w := newWorld(t)
	w.offer(sent("a", 1, 1, 1))
	w.after(testSettle)
	w.want("a1")
	w.offer(sent("a", 1, 4, 4))
	w.offer(sent("a", 1, 3, 3))
	w.offer(sent("b", 1, 1, 5)) // nobody else waits for a
	w.after(testSettle)
	w.want("b1")
	if h := w.q.holes(); !slices.Equal(h, []fabric.NodeID{"a"}) {
		t.Error(h)
	}
	w.offer(sent("a", 1, 2, 2))
	w.after(testSettle)
	w.want("a2", "a3", "a4")
	// Given up after patience.
	w.offer(sent("a", 1, 7, 7))
	w.after(testSettle)
	w.q.asked("b", []fabric.NodeID{"b", "c", "d", "e"}, w.now)
	w.after(testPatience - 1)
	w.want()
	w.after(1)
	w.after(0)
	w.want("a-2", "a7")
	// Much later, where nobody could be asked, or not the sender.
	w.offer(sent("a", 1, 12, 12))
	w.after(testSettle)
	w.q.asked("b", []fabric.NodeID{"a", "b", "c", "d", "e"}, w.now)
	w.after(2 * testPatience)
	w.want()
	w.after(isolated * testPatience)
	w.after(0)
	w.want("a-4", "a12")
	if fresh, _ := w.offer(sent("a", 1, 6, 6)); fresh {
		t.Error("what was given up was taken")
	}
	// At once when the sender itself and two others have nothing, or as many as there are.
	w.offer(sent("a", 1, 14, 14))
	w.after(testSettle)
	for _, node := range []fabric.NodeID{"b", "c", "d", "a"} {
		w.want()
		w.q.asked(node, []fabric.NodeID{"a", "b", "c", "d", "e"}, w.now)
		w.after(time.Millisecond)
	}
	w.after(0)
	w.want("a-1", "a14")
	w.offer(sent("a", 1, 16, 16))
	before := w.now
	w.after(testSettle)
	w.q.asked("a", []fabric.NodeID{"a"}, before) // before it was known that something is missing
	w.after(time.Millisecond)
	w.want()
	w.q.asked("a", []fabric.NodeID{"a"}, w.now)
	w.after(time.Millisecond)
	w.after(0)
	w.want("a-1", "a16")
	// A sender that nobody knew began somewhere: nothing is missed.
	w.offer(sent("z", 1, 50, 50))
	w.after(testSettle)
	w.q.asked("z", []fabric.NodeID{"z"}, w.now)
	w.after(1)
	w.after(0)
	w.want("z50")
	// A new life says what was before it.
	again := sent("a", 2, 1, 20)
	again.prior = mark{1, 17}
	w.offer(again)
	w.after(testSettle)
	w.want()
	w.offer(sent("a", 1, 17, 17))
	w.after(testSettle)
	w.want("a17", "a1")
	third := sent("a", 5, 1, 30)
	third.prior = mark{4, 3}
	w.offer(third)
	w.after(testSettle)
	w.q.asked("b", []fabric.NodeID{"b", "c", "d", "e"}, w.now)
	w.after(testPatience)
	w.after(0)
	w.want("a-1", "a1") // at least one
}

func TestContentIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	large := sent("a", 1, 1, 1)
	large.size = 100
	w.offer(large)
	w.offer(sent("a", 1, 2, 2))
	w.after(testSettle)
	w.want()
	wanted := w.q.wanted(4)
	if len(wanted) != 1 || wanted[0].envelope != large || len(w.q.wanted(4)) != 0 {
		t.Fatalf("%v", wanted)
	}
	w.after(10 * testPatience) // it is being fetched
	w.want()
	w.q.arrivedContent(wanted[0], make([]byte, 100))
	w.after(0)
	w.want("a1", "a2")
	if w.q.bytes != 0 || w.q.waiting != 0 {
		t.Errorf("%d bytes, %d waiting", w.q.bytes, w.q.waiting)
	}
	more := sent("a", 1, 3, 3)
	more.size = 100
	w.offer(more)
	w.after(testSettle)
	missing := w.q.wanted(4)[0]
	w.after(20 * testPatience)
	w.want()
	missing.fetching, missing.failed = false, true
	w.after(0)
	w.after(0)
	w.want("a-1")
}

// TestBounds offers more than there is room for.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	for i := range uint64(2 * maxWaitingEach) {
		if fresh, room := w.offer(sent("a", 1, i+2, i+2)); fresh != room || fresh != (i < maxWaitingEach) {
			t.Fatalf("event %d: %t, %t", i, fresh, room)
		}
	}
	for s := range 2 * maxWaiting / maxWaitingEach {
		for i := range uint64(maxWaitingEach) {
			w.offer(sent(fabric.NodeID(fmt.Sprintf("s%d", s)), 1, i+2, i+2))
		}
	}
	if w.q.waiting > maxWaiting {
		t.Errorf("%d wait", w.q.waiting)
	}
	w = newWorld(t)
	for s := range 2 * maxSenders {
		w.offer(sent(fabric.NodeID(fmt.Sprintf("s%d", s)), 1, 1, 1))
		if s%256 == 255 {
			w.after(testSettle)
		}
	}
	if len(w.q.streams) != maxSenders {
		t.Errorf("%d senders", len(w.q.streams))
	}
	w.q.forget(w.now.Add(-testSettle*maxSenders/512), "s0")
	if n := len(w.q.streams); n == 0 || n == maxSenders {
		t.Errorf("%d senders after forgetting", n)
	}
	if fresh, _ := w.offer(sent("far", 1, 1, w.clock+maxJump+1)); fresh {
		t.Error("a time from the far future was taken")
	}
	for range 20 {
		e := sent("large", 1, 1, 1)
		e.size = MaxPayload
		e.From = fabric.NodeID(fmt.Sprint("large", rand.Uint64()))
		w.offer(e)
		second := sent(e.From, 1, 2, 2)
		second.size = MaxPayload
		w.offer(second)
	}
	for _, h := range w.q.wanted(100) {
		w.q.arrivedContent(h, make([]byte, h.size))
	}
	if w.q.bytes > 20*MaxPayload+maxWaitingBytes {
		t.Errorf("%d bytes wait", w.q.bytes)
	}
}

// TestAnyOrder delivers the events of several senders in any order, repeatedly, some late: all come into the log, once, those of each sender in order.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		var pool []*envelope
		total := 0
		for s := range 1 + r.IntN(5) {
			from := fabric.NodeID(fmt.Sprint("s", s))
			var last mark
			lamport := uint64(0)
			for life := range uint64(1 + r.IntN(3)) {
				for seq := range uint64(r.IntN(20)) {
					lamport += 1 + r.Uint64N(5)
					e := sent(from, life+1, seq+1, lamport)
					e.prior, last = last, e.At
					e.size = r.IntN(2)
					pool = append(pool, e)
					total++
				}
			}
		}
		pool = append(pool, pool...)
		r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		for _, e := range pool {
			w.offer(e)
			for _, h := range w.q.wanted(r.IntN(3)) {
				w.q.arrivedContent(h, []byte{1})
			}
			w.after(time.Duration(r.Int64N(int64(5 * time.Millisecond))))
		}
		for _, h := range w.q.wanted(1000) {
			w.q.arrivedContent(h, []byte{1})
		}
		w.after(testSettle)
		if len(w.log) != total || w.q.waiting != 0 || w.q.bytes != 0 {
			t.Fatalf("seed %d: %d of %d events in the log, %d wait", seed, len(w.log), total, w.q.waiting)
		}
	}
}

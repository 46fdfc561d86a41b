package event_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/event"
	"orrery/internal/testenv"
)

// TestAllGetAll has all nodes send, small and large payloads in turn: all of it is at all nodes, once, and that of each sender in order.
func TestAllGetAll(t *testing.T) {
	t.Parallel()
	const nodes, each = 4, 12
	all := cluster(t, nodes, nil)
	var sending sync.WaitGroup
	for i, n := range all {
		sending.Go(func() {
			for k := range each {
				payload := fmt.Sprintf("%d %03d ", i, k)
				if k%4 == 0 {
					payload += strings.Repeat("x", 40_000)
				}
				if _, err := n.Send("work.done", []byte(payload), "anna"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	for _, n := range all {
		got := n.collect(t, ever(), nodes*each)
		last := map[fabric.NodeID]uint64{}
		next := map[byte]int{}
		for i, e := range got {
			if want := fmt.Sprintf("%c %03d ", e.Payload[0], next[e.Payload[0]]); string(e.Payload[:6]) != want {
				t.Fatalf("payload %q where %q was expected", e.Payload[:6], want)
			}
			next[e.Payload[0]]++
			if e.Time <= last[e.From] || e.Position != uint64(i)+1 || e.By != "anna" || e.Name != "work.done" || e.Arrived.IsZero() || e.Sent.IsZero() {
				t.Errorf("event %+v", e)
			}
			last[e.From] = e.Time
		}
		if s := n.Status(); s.Missed != 0 || s.Garbage != 0 || s.Sent != each || s.Received != (nodes-1)*each || s.Waiting != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestCause has one node answer to another's event: no node sees the answer before what it answers.
func TestCause(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, nil)
	all[0].set(true) // the cause comes late to most
	cause := send(t, all[0], "cause", "")
	all[1].collect(t, ever(), 1)
	effect := send(t, all[1], "effect", "")
	if effect.Time <= cause.Time {
		t.Errorf("cause at %d, effect at %d", cause.Time, effect.Time)
	}
	for _, n := range all {
		got := n.collect(t, ever(), 2)
		slices.SortFunc(got, func(a, b event.Event) int { return int(a.Time) - int(b.Time) })
		if got[0].Name != "cause" {
			t.Errorf("%+v", got)
		}
	}
}

func (n *node) set(mute bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mute = mute
}

// TestGossipLost loses all gossip: the nodes ask each other.
func TestGossipLost(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, nil)
	for _, n := range all {
		n.set(true)
	}
	for i := range 50 {
		send(t, all[0], "a", fmt.Sprint(i))
	}
	for _, n := range all {
		for i, text := range payloads(n.collect(t, ever(), 50)) {
			if text != fmt.Sprint(i) {
				t.Fatalf("event %d is %s", i, text)
			}
		}
	}
}

// TestBurst sends more than gossip can carry, and more than may wait.
func TestBurst(t *testing.T) {
	t.Parallel()
	const n = 3000
	all := cluster(t, 2, nil)
	for i := range n {
		send(t, all[0], "burst", fmt.Sprint(i))
	}
	for i, text := range payloads(all[1].collect(t, ever(), n)) {
		if text != fmt.Sprint(i) {
			t.Fatalf("event %d is %s", i, text)
		}
	}
}

// TestAwayAndBack stops a node; it gets what it missed, and nothing again; and so does one whose log is lost, or that is new.
func TestAwayAndBack(t *testing.T) {
	t.Parallel()
	all := cluster(t, 3, nil)
	send(t, all[0], "before", "1")
	send(t, all[2], "before", "2")
	for _, n := range all {
		n.collect(t, ever(), 2)
	}
	w, err := all[2].Begin(event.Watch{})
	if err != nil || w.After != 2 {
		t.Fatal(w, err)
	}
	all[2].stop()
	send(t, all[0], "meanwhile", "3")
	large := strings.Repeat("large", 100_000)
	send(t, all[1], "meanwhile", large)
	all[2].start(t)
	if got := all[2].collect(t, w, 2); !slices.Equal(sortedPayloads(got), []string{"3", large}) {
		t.Errorf("after its return: %+v", got)
	}
	// What it sends in its new life is new to the others, and has a greater time than all before.
	again := send(t, all[2], "after", "4")
	for _, n := range all {
		got := n.collect(t, ever(), 5)
		for _, e := range got[:4] {
			if e.Time >= again.Time && e.Name != "after" {
				t.Errorf("%+v has a greater time than what was sent after it, %d", e, again.Time)
			}
		}
	}
	all[2].stop()
	all[2].config.Directory = t.TempDir()
	all[2].start(t)
	all[2].collect(t, ever(), 5)
	last := send(t, all[2], "after", "5")
	if last.Time <= again.Time {
		t.Errorf("time %d after %d", last.Time, again.Time)
	}
	if got := all[0].collect(t, ever(), 6); string(got[5].Payload) != "5" {
		t.Errorf("%+v", got[5])
	}
	if _, err := all[2].Begin(w); !errors.Is(err, event.ErrOtherLog) {
		t.Errorf("a position of the lost log: %v", err)
	}
}

// TestExpired has a node come back when what it missed has expired everywhere: it is told how much that was.
func TestExpired(t *testing.T) {
	t.Parallel()
	all := cluster(t, 2, func(i int, c *event.Config) {
		if c.Patience = 200 * time.Millisecond; i == 0 {
			c.MaxRecords = 32
		}
	})
	send(t, all[0], "a", "first")
	all[1].collect(t, ever(), 1)
	w, err := all[1].Begin(event.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	all[1].stop()
	const n = 200
	for i := range n {
		send(t, all[0], "a", fmt.Sprint(i))
	}
	slow := all[0].Watch(t.Context(), event.Watch{Since: time.Unix(1, 0)})
	all[1].start(t)
	seen, missed := 0, uint64(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for s, err := range all[1].Watch(ctx, w) {
		if err != nil {
			t.Fatal(err, seen, missed)
		}
		if s.Event == nil {
			missed += s.Missed
			if s.MissedFrom != all[0].id() {
				t.Errorf("%+v", s)
			}
		} else {
			seen++
		}
		if seen+int(missed) == n {
			break
		}
	}
	if seen == 0 || missed == 0 || all[1].Status().Missed != missed {
		t.Errorf("%d seen, %d missed, status %+v", seen, missed, all[1].Status())
	}
	for s, err := range slow {
		if err != nil || s.Event != nil && s.Position < n/2 {
			t.Errorf("an expired event was seen: %+v, %v", s, err)
		}
		if s.Position == n+1 {
			break
		}
	}
}

// TestSlowWatcher does not read while the log moves on: it is told how many it missed, and others are not held up.
func TestSlowWatcher(t *testing.T) {
	t.Parallel()
	n := cluster(t, 1, func(_ int, c *event.Config) { c.MaxRecords = 32 })[0]
	send(t, n, "a", "0")
	total := uint64(0)
	for s, err := range n.Watch(t.Context(), ever()) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Event != nil && string(s.Event.Payload) == "0" {
			for i := range 500 {
				send(t, n, "a", fmt.Sprint(i+1))
			}
		}
		if total += s.Missed; s.Event != nil {
			total++
		}
		if s.Position == 501 {
			break
		}
	}
	if total != 501 {
		t.Errorf("seen and missed are %d", total)
	}
}

// TestLargeSpread counts who gives a large payload: the sender does not give it to everybody.
func TestLargeSpread(t *testing.T) {
	t.Parallel()
	all := cluster(t, 8, nil)
	payload := bytes.Repeat([]byte("content "), 1<<15)
	if _, err := all[0].Send("large", payload, ""); err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if got := n.collect(t, ever(), 1); !bytes.Equal(got[0].Payload, payload) {
			t.Error("another payload arrived")
		}
	}
	given := 0
	for _, n := range all {
		given += int(n.Status().Given)
	}
	if first := all[0].Status().Given; first > 4 || given < 7 {
		t.Errorf("the sender gave the payload %d times, all together %d", first, given)
	}
}

func TestWhatMayBeSent(t *testing.T) {
	t.Parallel()
	n := cluster(t, 1, nil)[0]
	for _, name := range []string{"", "two words", "a\nb", "a\x00", "\x1b[2J", "é", "*", strings.Repeat("n", event.MaxName+1)} {
		if _, err := n.Send(name, nil, ""); !errors.Is(err, event.ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
		if err := n.Tell(t.Context(), n.id(), name, nil, ""); !errors.Is(err, event.ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := n.Query(t.Context(), name, nil, "", nil); !errors.Is(err, event.ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := n.Handle(name, nil); !errors.Is(err, event.ErrBadName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := n.Send("a", make([]byte, event.MaxPayload+1), ""); !errors.Is(err, event.ErrTooLarge) {
		t.Error(err)
	}
	if _, err := n.Send("a", nil, "anna\x1b[2J"); err == nil {
		t.Error("a name that controls terminals was taken")
	}
	if _, err := n.Begin(event.Watch{Names: []string{"a", "b c"}}); !errors.Is(err, event.ErrBadName) {
		t.Error(err)
	}
	if _, err := n.Receive("a*b"); !errors.Is(err, event.ErrBadName) {
		t.Error(err)
	}
	for _, size := range []int{0, 1, 100, 300, 320, 340, 360, 380, 400, 512, 513, event.MaxPayload} {
		if _, err := n.Send(strings.Repeat("n", event.MaxName), make([]byte, size), strings.Repeat("b", 64)); err != nil {
			t.Error(size, err)
		}
	}
	n.collect(t, event.Watch{Names: []string{"nn*", "other"}, Since: time.Unix(1, 0)}, 12)
}

// TestClosed uses a service that is closed.
func TestClosed(t *testing.T) {
	t.Parallel()
	n := cluster(t, 1, nil)[0]
	n.stop()
	if _, err := n.Send("a", nil, ""); !errors.Is(err, fabric.ErrClosed) {
		t.Error(err)
	}
	for _, err := range n.Watch(t.Context(), ever()) {
		if !errors.Is(err, fabric.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	all := cluster(t, 2, nil)
	a, b := all[0], all[1]
	if err := a.Tell(t.Context(), b.id(), "greeting", []byte("hello"), ""); !errors.Is(err, event.ErrNobody) {
		t.Fatal(err)
	}
	inbox, err := b.Receive("greet*")
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Receive("greeting")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Tell(t.Context(), b.id(), "greeting", []byte("hello"), "anna"); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*event.Inbox{inbox, second} {
		if m, err := i.Next(t.Context()); err != nil || m.From != a.id() || m.By != "anna" || m.Name != "greeting" || string(m.Payload) != "hello" || m.Time == 0 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if e := send(t, b, "later", ""); e.Time <= 1 {
		t.Errorf("an event after a message has time %d", e.Time)
	}
	// Full: refused, not lost.
	sent := 0
	for ; ; sent++ {
		if err := a.Tell(t.Context(), b.id(), "greeting", fmt.Append(nil, sent), ""); errors.Is(err, event.ErrBusy) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for i := range sent {
		if m, err := inbox.Next(t.Context()); err != nil || string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("%d: %+v, %v", i, m, err)
		}
	}
	if err := a.Tell(t.Context(), b.id(), "greeting", nil, ""); !errors.Is(err, event.ErrBusy) {
		t.Errorf("while another inbox is full: %v", err)
	}
	second.Close()
	if err := a.Tell(t.Context(), b.id(), "greeting", nil, ""); err != nil {
		t.Error(err)
	}
	if err := b.Tell(t.Context(), b.id(), "greeting", []byte("self"), ""); err != nil {
		t.Error(err)
	}
	if m, err := inbox.Next(t.Context()); err != nil || m.From != a.id() {
		t.Error(m, err)
	}
	if m, err := inbox.Next(t.Context()); err != nil || m.From != b.id() {
		t.Error(m, err)
	}
	inbox.Close()
}

// TestRetriedMessage sends while the receiver is away: it has the message when it is back, once.
func TestRetriedMessage(t *testing.T) {
	t.Parallel()
	all := cluster(t, 2, nil)
	all[1].stop()
	ended := make(chan error, 1)
	go func() { ended <- all[0].Tell(t.Context(), all[1].id(), "a", nil, "") }()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := all[0].Tell(short, all[1].id(), "a", nil, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	all[1].start(t)
	inbox, err := all[1].Receive()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		if m, err := inbox.Next(t.Context()); err != nil || m.Name != "a" {
			t.Errorf("%+v, %v", m, err)
		}
	} else if !errors.Is(err, event.ErrNobody) { // the answer before Receive
		t.Error(err)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	all := cluster(t, 4, nil)
	for i, n := range all[:3] {
		_, err := n.Handle("colour", func(ctx context.Context, q event.Question) ([]byte, error) {
			if q.From != all[0].id() || q.By != "anna" || string(q.Payload) != "which?" {
				return nil, fmt.Errorf("question %+v", q)
			}
			if i == 2 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return fmt.Append(nil, i), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := all[0].Handle("colour", nil); !errors.Is(err, fabric.ErrConflict) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers, err := all[0].Query(ctx, "colour", []byte("which?"), "anna", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]event.Answer{}
	for a := range answers {
		if got[a.Node] = a; len(got) == 3 {
			cancel()
		}
	}
	if len(got) != 4 || string(got["node-0"].Payload) != "0" || string(got["node-1"].Payload) != "1" || got["node-1"].From != all[1].id() {
		t.Errorf("%+v", got)
	}
	if err := got["node-2"].Err; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that does not answer: %v", err)
	}
	if err := got["node-3"].Err; !errors.Is(err, event.ErrNobody) {
		t.Errorf("the one that has no answer: %v", err)
	}
	one, err := all[0].Query(t.Context(), "ping", []byte("x"), "", func(m fabric.Member) bool { return m.ID == all[3].id() })
	if err != nil {
		t.Fatal(err)
	}
	for a := range one {
		if a.From != all[3].id() || string(a.Payload) != "x" || a.Err != nil {
			t.Errorf("%+v", a)
		}
	}
	for range answers { // left early
		break
	}
}

// TestRemote is what people's programs do, through the node's procedures.
func TestRemote(t *testing.T) {
	t.Parallel()
	all := cluster(t, 2, nil)
	r := event.Remote{Peer: all[0].client.Node(all[1].id())}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := make(chan struct{})
	seen := make(chan *event.Step, 8)
	var work sync.WaitGroup
	work.Go(func() {
		for step, err := range r.Watch(ctx, event.WatchRequest{Watch: event.Watch{Names: []string{"a"}}, Messages: true}) {
			if err != nil {
				return
			}
			if step.Log != "" {
				close(begun)
				continue
			}
			seen <- step
		}
	})
	<-begun
	if e, err := r.Send(ctx, "a", []byte("\xff")); err != nil || e.From != all[1].id() || e.By != "" {
		t.Errorf("%+v, %v", e, err)
	}
	if step := <-seen; step.Event == nil || string(step.Event.Payload) != "\xff" {
		t.Errorf("%+v", step)
	}
	if err := (event.Remote{Peer: all[1].client.Node(all[0].id())}).Tell(ctx, "node-1", "a", []byte("m")); err != nil {
		t.Error(err)
	}
	if step := <-seen; step.Message == nil || step.Message.From != all[0].id() {
		t.Errorf("%+v", step)
	}
	work.Go(func() {
		err := r.Answer(ctx, "colour", 2, func(_ context.Context, q event.Question) ([]byte, error) {
			if string(q.Payload) == "bad" {
				return nil, errors.New("it is bad")
			}
			return append(q.Payload, " blue"...), nil
		}, nil)
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	ask := func(payload string) string {
		for a, err := range r.Query(ctx, event.QueryRequest{Name: "colour", Payload: []byte(payload), Nodes: []string{"node-1"}, Timeout: 5 * time.Second}) {
			if err != nil {
				return err.Error()
			}
			return string(a.Payload) + a.Error
		}
		return ""
	}
	testenv.Eventually(t, "an answer", func() bool { return ask("a") == "a blue" })
	if got := ask("bad"); !strings.Contains(got, "it is bad") {
		t.Error(got)
	}
	for _, err := range r.Query(ctx, event.QueryRequest{Name: "ping", Nodes: []string{"nobody"}}) {
		if !errors.Is(err, fabric.ErrNotFound) {
			t.Error(err)
		}
	}
	for zone, want := range map[string]int{"": 2, "zone-of-node-1": 1, "nowhere": 0} {
		for role, has := range map[string]int{"": 1, "web": 1, "storage": 0} {
			got := 0
			for a, err := range r.Query(ctx, event.QueryRequest{Name: "ping", Zone: zone, Role: role}) {
				if got++; err != nil || a.Error != "" || zone != "" && a.Node != "node-1" {
					t.Errorf("zone %q, role %q: %+v, %v", zone, role, a, err)
				}
			}
			if got != want*has {
				t.Errorf("zone %q, role %q: %d answers", zone, role, got)
			}
		}
	}
	cancel()
	work.Wait()
	testenv.Eventually(t, "nobody answers", func() bool {
		stop, err := all[1].Handle("colour", nil)
		if err == nil {
			stop()
		}
		return err == nil
	})
}

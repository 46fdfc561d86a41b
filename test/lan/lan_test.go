package lan

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/internal/testenv"
)

// port is a host in memory.
type port struct {
	in, out chan []byte
	closed  chan struct{}
}

func (p *port) Read(b []byte) (int, error) {
	select {
	case content := <-p.in:
		return copy(b, content), nil
	case <-p.closed:
		return 0, os.ErrClosed
	}
}

func (p *port) Write(b []byte) (int, error) {
	p.out <- append([]byte{}, b...)
	return len(b), nil
}

func (p *port) Close() error {
	close(p.closed)
	return nil
}

func plugged(t *testing.T, names ...string) (*Switch, map[string]*port) {
	t.Helper()
	s := NewSwitch(t.Context(), 1)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	ports := map[string]*port{}
	for i, name := range names {
		ports[name] = &port{make(chan []byte), make(chan []byte, 10_000), make(chan struct{})}
		s.attach(name, address{2, 0, 0, 0, 0, byte(i)}, ports[name])
	}
	return s, ports
}

// to is a frame to the host of that number.
func to(host, content byte) []byte {
	return append([]byte{2, 0, 0, 0, 0, host}, 0, 0, 0, 0, 0, 0, 8, 0, content)
}

func numbers(p *port, n int) (got []byte) {
	for range n {
		content := <-p.out
		got = append(got, content[len(content)-1])
	}
	return got
}

func TestFramesGoToTheirHost(t *testing.T) {
	s, ports := plugged(t, "one", "two", "three")
	ports["one"].in <- to(1, 7)
	if got := numbers(ports["two"], 1); got[0] != 7 {
		t.Errorf("two got %d", got[0])
	}
	everybody := to(0, 8)
	everybody[0] = 0xff
	ports["one"].in <- everybody
	for _, name := range []string{"two", "three"} {
		if got := numbers(ports[name], 1); got[0] != 8 {
			t.Errorf("%s got %d", name, got[0])
		}
	}
	s.Cut("one", "two")
	ports["one"].in <- to(1, 1)
	ports["two"].in <- to(0, 9)
	if got := numbers(ports["one"], 1); got[0] != 9 {
		t.Errorf("the way back brought %d", got[0])
	}
	testenv.Eventually(t, "a frame is cut", func() bool { return s.Counts("one", "two").Cut == 1 })
	s.Heal()
	s.Isolate("one", "two")
	ports["one"].in <- to(2, 1)
	ports["one"].in <- to(1, 2)
	if got := numbers(ports["two"], 1); got[0] != 2 {
		t.Errorf("two got %d", got[0])
	}
	if c := s.Counts("one", "three"); c.Cut != 1 || len(ports["three"].out) > 0 {
		t.Errorf("an isolated host reached another: %+v", c)
	}
}

func TestJitterKeepsTheOrder(t *testing.T) {
	s, ports := plugged(t, "one", "two")
	s.ShapeAll(Link{Delay: time.Millisecond, Jitter: 5 * time.Millisecond})
	begun := time.Now()
	for i := range byte(100) {
		ports["one"].in <- to(1, i)
	}
	for i, got := range numbers(ports["two"], 100) {
		if int(got) != i {
			t.Fatalf("frame %d came at place %d", got, i)
		}
	}
	if took := time.Since(begun); took < time.Millisecond {
		t.Errorf("frames with a delay of 1 ms took %v", took)
	}
}

func TestSharesOfFrames(t *testing.T) {
	const n = 4000
	s, ports := plugged(t, "one", "two")
	s.Shape("one", "two", Link{Loss: 0.25, Duplicate: 0.1, Reorder: 0.1})
	for range n {
		ports["one"].in <- to(1, 0)
	}
	sum := func() Counts { return s.Counts("one", "two") }
	testenv.Eventually(t, "all frames came or are lost", func() bool {
		c := sum()
		return c.Passed+c.Lost+c.Overflowed-c.Duplicated == n
	})
	c := sum()
	for what, got := range map[string][2]float64{
		"lost": {float64(c.Lost) / n, 0.25}, "twice": {float64(c.Duplicated) / n, 0.075}, "late": {float64(c.Reordered) / n, 0.0825},
	} {
		if got[0] < got[1]*0.8 || got[0] > got[1]*1.2 {
			t.Errorf("a share of %.3f came %s, not %.3f", got[0], what, got[1])
		}
	}
	if s.Counts("two", "one") != (Counts{}) {
		t.Error("the other direction has frames")
	}
}

func TestFramesAreOvertaken(t *testing.T) {
	s, ports := plugged(t, "one", "two")
	s.ShapeAll(Link{Reorder: 0.5})
	for i := range byte(100) {
		ports["one"].in <- to(1, i)
	}
	late, before := 0, byte(0)
	for _, got := range numbers(ports["two"], 100) {
		if got < before {
			late++
		}
		before = got
	}
	if late == 0 {
		t.Error("all frames came in order")
	}
}

func TestAQueueIsBounded(t *testing.T) {
	s, ports := plugged(t, "one", "two")
	s.ShapeAll(Link{Delay: time.Hour})
	for range maxQueue + 10 {
		ports["one"].in <- to(1, 0)
	}
	testenv.Eventually(t, "frames overflow", func() bool { return s.Counts("one", "two").Overflowed == 10 })
}

// Namespaces reach each other over the switch, by both protocols, and a round trip has the delay of both directions.
func TestHosts(t *testing.T) {
	l := New(t, 1, "one", "two")
	delay := 20 * time.Millisecond
	l.ShapeAll(Link{Delay: delay})
	for _, listen := range []string{l.Host("two").IPv4 + ":7000", "[" + l.Host("two").IPv6 + "]:7000"} {
		serve := l.Host("two").Command(os.Args[0])
		serve.Env = append(os.Environ(), echoVariable+"="+listen)
		serve.Stderr = os.Stderr
		out, err := serve.StdoutPipe()
		if err == nil {
			err = serve.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it listens
			t.Fatal(err)
		}
		c, err := l.Host("one").Dial(t.Context(), "tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		answer := make([]byte, 5)
		if _, err := io.WriteString(c, "hello"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "hello" {
			t.Errorf("%q, %v", answer, err)
		}
		if took := time.Since(begun); took < 2*delay {
			t.Errorf("a round trip took %v", took)
		}
		_ = c.Close()
		if err := serve.Wait(); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*delay)
	defer cancel()
	l.Cut("one", "two")
	if c, err := l.Host("one").Dial(ctx, "tcp", l.Host("two").IPv4+":7000"); err == nil || strings.Contains(err.Error(), "refused") {
		t.Errorf("a host was reached over a link that is cut: %v, %v", c, err)
	}
}

// Kernels lose packets by nft. One that refuses to is named, and the switch does it (as the cluster's rounds do).
func TestHostsLose(t *testing.T) {
	l := New(t, 1, "one", "two")
	if err := l.Lose(0.25); err != nil {
		testenv.Missing(t, "a kernel that loses packets by nft ("+err.Error()+")", "use one with nf_tables; the switch loses frames without it")
	}
	var listener net.PacketConn
	err := l.Host("two").Do(func() (err error) {
		var listen net.ListenConfig
		listener, err = listen.ListenPacket(t.Context(), "udp", l.Host("two").IPv4+":7000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var got atomic.Int64
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, _, err := listener.ReadFrom(make([]byte, 10)); err != nil {
				return
			}
			got.Add(1)
		}
	})
	defer reading.Wait()
	defer listener.Close()
	c, err := l.Host("one").Dial(t.Context(), "udp", l.Host("two").IPv4+":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun, sent := l.Lost("two"), 0
	send := func() {
		for range 100 {
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		sent += 100
		testenv.Eventually(t, "all came or are lost", func() bool { return int(got.Load())+l.Lost("two")-begun >= sent })
	}
	for range 20 {
		send()
	}
	if share := 1 - float64(got.Load())/float64(sent); share < 0.2 || share > 0.3 {
		t.Errorf("a share of %.3f is lost, not 0.25", share)
	}
	if err := l.Lose(0); err != nil {
		t.Fatal(err)
	}
	before := got.Load()
	for range 100 {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "nothing is lost any more", func() bool { return got.Load() >= before+100 })
}

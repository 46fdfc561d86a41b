package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/discovery"
	"orrery/internal/testenv"
)

func TestMain(m *testing.M) { nodeMain(m, func(m *testing.M) { goleak.VerifyTestMain(m) }) }

func beacon(cluster string, i int) fabric.Beacon {
	return fabric.Beacon{
		Cluster: cluster, ID: fabric.NodeID(fmt.Sprintf("%016x", i)), Name: fmt.Sprintf("node-%d", i),
		RPC: fmt.Sprintf("127.0.0.1:%d", 1000+i), Gossip: fmt.Sprintf("127.0.0.1:%d", 2000+i),
	}
}

// start runs a service and returns what it finds.
func start(t *testing.T, config discovery.Config, own fabric.Beacon) <-chan fabric.Beacon {
	t.Helper()
	found := make(chan fabric.Beacon, 64)
	s, err := discovery.New(config, own, func(b fabric.Beacon) { found <- b })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return found
}

func next(t *testing.T, found <-chan fabric.Beacon) fabric.Beacon {
	t.Helper()
	select {
	case b := <-found:
		return b
	case <-time.After(time.Minute):
		t.Fatal("nothing was found")
		return fabric.Beacon{}
	}
}

func TestThreeNodesOnOneMachine(t *testing.T) {
	config := discovery.Config{Loopback: true, Port: testenv.FreePort(t)}
	var all []<-chan fabric.Beacon
	for i := range 3 {
		all = append(all, start(t, config, beacon("c1", i)))
	}
	start(t, config, beacon("c2", 7))
	for i, found := range all {
		seen := map[fabric.NodeID]bool{}
		for len(seen) < 2 {
			b := next(t, found)
			if b.Cluster != "c1" || b.Via != discovery.ViaMulticast && b.Via != discovery.ViaLoopback {
				t.Errorf("node %d found %+v", i, b)
			}
			seen[b.ID] = true
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := discovery.Find(ctx, config, "c2")
	if err != nil || b.Name != "node-7" {
		t.Errorf("found %+v, %v", b, err)
	}
	first, err := discovery.Find(ctx, config, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := discovery.Find(ctx, config, "c1", first.RPC); err != nil || second.RPC == first.RPC {
		t.Errorf("after %s came %s, %v", first.RPC, second.RPC, err)
	}
}

// TestNewcomerLearnsAtOnce starts a node among others that announce once an hour: the ask finds them.
func TestNewcomerLearnsAtOnce(t *testing.T) {
	config := discovery.Config{Loopback: true, Port: testenv.FreePort(t), Interval: time.Hour}
	start(t, config, beacon("c1", 1))
	next(t, start(t, config, beacon("c1", 2)))
	next(t, start(t, config, beacon("c1", 3)))
}

func TestFindNobody(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := discovery.Find(ctx, discovery.Config{Loopback: true, Port: testenv.FreePort(t)}, "c1"); !errors.Is(err, fabric.ErrNotFound) {
		t.Error(err)
	}
}

// TestRendezvous has two nodes that share a folder and no port.
func TestRendezvous(t *testing.T) {
	folder := t.TempDir()
	interval := 20 * time.Millisecond
	first := start(t, discovery.Config{Loopback: true, Port: testenv.FreePort(t), Interval: interval, Rendezvous: folder}, beacon("c1", 1))
	second := start(t, discovery.Config{Loopback: true, Port: testenv.FreePort(t), Interval: interval, Rendezvous: folder}, beacon("c1", 2))
	for name, content := range map[string]string{"x.json": "{", "y.json": "{}", "z.json": "", "w.txt": "w"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, found := range []<-chan fabric.Beacon{first, second} {
		if b := next(t, found); b.Via != discovery.ViaRendezvous {
			t.Errorf("found %+v", b)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if b, err := discovery.Find(ctx, discovery.Config{Loopback: true, Port: testenv.FreePort(t), Rendezvous: folder}, "c1"); err != nil || b.Via != discovery.ViaRendezvous {
		t.Errorf("found %+v, %v", b, err)
	}
}

func TestSeeds(t *testing.T) {
	seeds := []fabric.Beacon{beacon("c1", 1), beacon("c1", 2), beacon("c9", 3)}
	found := start(t, discovery.Config{Loopback: true, Port: testenv.FreePort(t), Seeds: seeds}, beacon("c1", 1))
	if b := next(t, found); b.ID != seeds[1].ID || b.Via != discovery.ViaSeed {
		t.Errorf("found %+v", b)
	}
	select {
	case b := <-found:
		t.Errorf("found also %+v", b)
	default:
	}
}

// TestGarbage sends what is no datagram of ours to the shared port; nodes go on finding each other.
func TestGarbage(t *testing.T) {
	config := discovery.Config{Loopback: true, Port: testenv.FreePort(t)}
	found := make(chan fabric.Beacon, 64)
	service, err := discovery.New(config, beacon("c1", 1), func(b fabric.Beacon) { found <- b })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	next(t, start(t, config, beacon("c1", 3))) // it listens
	next(t, found)
	c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", config.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sender, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for _, garbage := range []string{"", "{", "\x00\xff", `{"orrery":1}`, `{"orrery":2,"kind":"ask","cluster":"c1"}`, `{"orrery":1,"kind":"beacon","beacon":{}}`, string(make([]byte, 9000))} {
		_, _ = sender.WriteTo([]byte(garbage), &net.UDPAddr{IP: net.IPv4(127, 255, 255, 255), Port: config.Port})
	}
	testenv.Eventually(t, "what is dropped is counted", func() bool { return service.Dropped()["beacon"] >= 5 })
	start(t, config, beacon("c1", 2))
	if b := next(t, found); b.ID != beacon("c1", 2).ID {
		t.Errorf("found %+v", b)
	}
}

// TestNoUnicast checks that the shared port is not open to datagrams from elsewhere.
func TestNoUnicast(t *testing.T) {
	config := discovery.Config{Loopback: true, Port: testenv.FreePort(t)}
	next(t, func() <-chan fabric.Beacon {
		start(t, config, beacon("c1", 1))
		return start(t, config, beacon("c1", 2))
	}())
	c, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", config.Port))
	if err != nil {
		t.Fatalf("a service listens for unicast: %v", err)
	}
	_ = c.Close()
}

func TestBadBeacon(t *testing.T) {
	for _, b := range []fabric.Beacon{{}, {Cluster: "c", ID: "i", Name: "n"}, {Cluster: "c", ID: "i", Name: "n", RPC: "nowhere"}} {
		if _, err := discovery.New(discovery.Config{}, b, func(fabric.Beacon) {}); err == nil {
			t.Errorf("%+v is announced", b)
		}
	}
}

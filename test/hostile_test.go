package test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
	"orrery/fabric/rpc"
)

// metric reads one of a node's metrics, with its labels as they are written; 0 if there is none.
func (n *node) metric(name string) float64 {
	n.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(n.dir, "node.sock"))
	}}}
	q, err := http.NewRequestWithContext(n.Context(), http.MethodGet, "http://node/metrics", nil)
	if err != nil {
		n.Fatal(err)
	}
	answer, err := client.Do(q)
	if err != nil {
		n.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if value, found := strings.CutPrefix(lines.Text(), name+" "); found {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				n.Fatal(err)
			}
			return number
		}
	}
	return 0
}

// stranger is somebody at a node's port.
type stranger struct {
	*node
	beacon fabric.Beacon
}

// says connects by TLS, as holder or without a certificate, sends, and reads until the node ends the connection. With half the stranger ends it first.
func (s *stranger) says(holder *authority.Authority, protocol string, content []byte, half bool) {
	s.Helper()
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{protocol}} //nolint:gosec // the stranger does not care
	if holder != nil {
		own, err := holder.Certificate()
		if err != nil {
			s.Fatal(err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	c, err := (&tls.Dialer{Config: config}).DialContext(s.Context(), "tcp", s.beacon.RPC)
	if err != nil {
		return // it may be refused at once
	}
	defer c.Close()
	t, _ := c.(*tls.Conn)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = c.Write(content) // the node may have gone already
	if half {
		_ = t.CloseWrite()
	}
	if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
		s.Errorf("the node goes on with a connection that said %.20q", content)
	}
}

// shouts sends without TLS.
func (s *stranger) shouts(network, address string, content []byte) {
	s.Helper()
	var d net.Dialer
	c, err := d.DialContext(s.Context(), network, address)
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = c.Write(content)
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}

// What comes to a node's ports and is none of its protocols, or is from others than it may be, is refused and counted, costs no memory, and the node goes on.
func TestBadInputIsRefusedAndCounted(t *testing.T) {
	c := newCluster(t, "one")
	n := c.nodes["one"]
	c.must(n.dir, "kv", "bucket", "create", "b", "--factor", "1")
	eventually(t, 20*time.Second, func() error { // its chain begins a moment later
		_, err := c.run(n.dir, "kv", "put", "b", "key", "value")
		return err
	})
	own, err := authority.Open(filepath.Join(n.dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(c.dir, "elsewhere")
	c.must(elsewhere, "node", "init", "--cluster", "other", "--name", "one", "--loopback")
	other, err := authority.Open(filepath.Join(elsewhere, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	members, err := ask[[]fabric.Member](c, n.dir, "members")
	if err != nil {
		t.Fatal(err)
	}
	client := rpc.NewClient(rpc.ClientConfig{Authority: own, Errors: rpc.FabricErrors()})
	defer client.Close()
	beacon, err := rpc.Call[struct{}, fabric.Beacon](t.Context(), client.Address(members[0].Address), "/orrery.fabric.v1.Fabric/Beacon", &struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{n, *beacon}

	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // of a test
	garbage := make([]byte, 64<<10)
	for i := range garbage {
		garbage[i] = byte(random.Uint32())
	}
	good := wire.AppendRequest(nil, &chain.Request{ID: 1, Ask: chain.AskPing})
	oversized := binary.BigEndian.AppendUint32(nil, 1<<31)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-1] ^= 1
	replayed := wire.AppendMessage(nil, &replica.Message{
		Kind: replica.KindAppend, Chain: 1, Epoch: 1, From: chain.Replica{Node: "somebody", Incarnation: 1}, To: chain.Replica{Node: own.Identity().ID, Incarnation: 1},
	})
	const handshake, certificate, role = `orrery_rpc_refused_total{why="handshake"}`, `orrery_rpc_refused_total{why="certificate"}`, `orrery_rpc_refused_total{why="role"}`
	const corrupt, truncated, sender = `orrery_chain_refused_total{why="corrupt"}`, `orrery_chain_refused_total{why="truncated"}`, `orrery_chain_refused_total{why="sender"}`
	overview, err := ask[placement.Overview](c, n.dir, "kv", "chains")
	if err != nil {
		t.Fatal(err)
	}
	here := overview.Chains[slices.IndexFunc(overview.Chains, func(c placement.ChainView) bool { return c.Bucket == "b" })]
	self := here.Members[0].Replica
	old := func(epoch, incarnation uint64) []byte {
		return wire.AppendMessage(nil, &replica.Message{
			Kind: replica.KindAppend, Chain: here.ID, Epoch: epoch, From: self, To: chain.Replica{Node: self.Node, Incarnation: incarnation},
		})
	}
	const epoch, incarnation = `orrery_chain_refused_total{why="epoch"}`, `orrery_chain_refused_total{why="incarnation"}`
	const gossip = "orrery_gossip_refused_total"
	for _, try := range []struct {
		name, counted string
		do            func()
	}{
		{"garbage without TLS", handshake, func() { s.shouts("tcp", s.beacon.RPC, garbage) }},
		{"a version of the protocol from the future", handshake, func() { s.says(own, "orrery-chain/99", good, false) }},
		{"garbage for a frame", corrupt, func() { s.says(own, wire.Protocol, garbage, false) }},
		{"an oversized frame", corrupt, func() { s.says(own, wire.Protocol, append(oversized, garbage...), false) }},
		{"a damaged frame", corrupt, func() { s.says(own, wire.Protocol, damaged, false) }},
		{"a frame of a kind from the future", corrupt, func() { s.says(own, wire.Protocol, kind(good, 99), false) }},
		{"a request of a kind from the future", corrupt, func() { s.says(own, wire.Protocol, wire.AppendRequest(nil, &chain.Request{ID: 1, Ask: 99}), true) }},
		{"a frame that is cut short", truncated, func() { s.says(own, wire.Protocol, good[:len(good)-1], true) }},
		{"another node's message", sender, func() { s.says(own, wire.Protocol, replayed, false) }},
		{"a message of an older epoch", epoch, func() { s.says(own, wire.Protocol, old(here.Epoch-1, self.Incarnation), true) }},
		{"a message to the node before it was started again", incarnation, func() { s.says(own, wire.Protocol, old(here.Epoch, self.Incarnation-1), true) }},
		{"no certificate", role, func() { s.says(nil, wire.Protocol, good, false) }},
		{"a certificate of another cluster", certificate, func() { s.says(other, wire.Protocol, good, false) }},
		{"garbage for gossip", gossip, func() { s.shouts("udp", s.beacon.Gossip, garbage[:900]) }},
		{"garbage for gossip's connections", gossip, func() { s.shouts("tcp", s.beacon.Gossip, garbage) }},
	} {
		before := n.metric(try.counted)
		for range 20 {
			try.do()
		}
		eventually(t, 20*time.Second, func() error {
			if now := n.metric(try.counted); now < before+20 {
				return fmt.Errorf("%s: %s is %v, and was %v", try.name, try.counted, now, before)
			}
			return nil
		})
	}
	if got := c.must(n.dir, "kv", "get", "b", "key"); strings.TrimSpace(got) != "value" {
		t.Errorf("afterwards a key has %q", got)
	}
	log := tail(filepath.Join(c.dir, "one.log"), 1<<20)
	if strings.Contains(log, "panic") || !n.process.running() {
		t.Error("the node panicked")
	}
	if used := resident(t, n.process.Process.Pid); used > 400<<20 {
		t.Errorf("the node occupies %d MiB", used>>20)
	}
}

// kind makes a frame one of another kind.
func kind(frame []byte, k byte) []byte {
	changed := bytes.Clone(frame)
	changed[8] = k
	binary.BigEndian.PutUint32(changed[4:], checksum(changed[8:]))
	return changed
}

func checksum(body []byte) uint32 { return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) }

// resident is how much memory a process occupies.
func resident(t *testing.T, pid int) int {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(content))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

package discovery_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"orrery/fabric"
	"orrery/fabric/discovery"
	"orrery/fabric/discovery/mdns"
	"orrery/fabric/discovery/roster"
	"orrery/internal/testenv"
)

// The test binary runs itself as a node in a network namespace, told by this variable.
const nodeVariable = "ORRERY_TEST_DISCOVERY"

type nodeSettings struct {
	Own      fabric.Beacon
	MDNS     bool
	NoBeacon bool
	File     string
}

type foundLine struct {
	Beacon fabric.Beacon
	Via    string
}

// runNode is a node's process: it prints what it finds until its input ends.
func runNode(settings string) error {
	var s nodeSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	config := discovery.Config{NoBeacon: s.NoBeacon, Logger: log}
	if s.MDNS {
		config.Ways = append(config.Ways, &mdns.Way{Logger: log})
	}
	if s.File != "" {
		config.Ways = append(config.Ways, &roster.File{Path: s.File})
	}
	out := json.NewEncoder(os.Stdout)
	service, err := discovery.New(config, s.Own, func(b fabric.Beacon) { _ = out.Encode(foundLine{b, b.Via}) })
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return service.Run(ctx)
}

var networks atomic.Int32

// network is hosts, each a network namespace, and links, each a bridge in a namespace of its own, so that nothing touches the machine's network.
type network struct {
	*testing.T
	id    string
	wires int
}

func newNetwork(t *testing.T, hosts ...string) *network {
	t.Helper()
	testenv.Need(t, "ip", "apt-get install iproute2", "/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, for network namespaces", "run the tests as root")
	}
	n := &network{T: t, id: fmt.Sprintf("ord%d-%d-", os.Getpid(), networks.Add(1))}
	for _, h := range append([]string{"switch"}, hosts...) {
		n.ip("netns", "add", n.id+h)
		t.Cleanup(func() { n.ip("netns", "del", n.id+h) })
		n.ip("-n", n.id+h, "link", "set", "lo", "up")
	}
	return n
}

func (n *network) ip(args ...string) {
	n.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// link makes a bridge.
func (n *network) link(name string) {
	n.ip("-n", n.id+"switch", "link", "add", name, "type", "bridge", "mcast_snooping", "0")
	n.ip("-n", n.id+"switch", "link", "set", name, "up")
}

// plug connects a host to a link by an interface, with addresses.
func (n *network) plug(host, link, as string, addresses ...string) {
	n.wires++
	port := fmt.Sprintf("p%d", n.wires)
	n.ip("-n", n.id+"switch", "link", "add", port, "type", "veth", "peer", "name", as, "netns", n.id+host)
	n.ip("-n", n.id+"switch", "link", "set", port, "master", link, "up")
	for _, a := range addresses {
		args := []string{"-n", n.id + host, "addr", "add", a, "dev", as}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		n.ip(args...)
	}
	n.ip("-n", n.id+host, "link", "set", as, "up")
}

func (n *network) on(host, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.id + host, program}, args...)...)
}

// process is something that runs on a host.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	input io.Closer
	once  sync.Once

	mu    sync.Mutex
	lines []string
	log   bytes.Buffer
}

func (n *network) start(cmd *exec.Cmd) *process {
	n.Helper()
	p := &process{t: n.T, cmd: cmd}
	in, err := cmd.StdinPipe()
	if err != nil {
		n.Fatal(err)
	}
	p.input = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.Fatal(err)
	}
	cmd.Stderr = writer(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.log.Write(b)
	})
	if err := cmd.Start(); err != nil {
		n.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, s.Text())
			p.mu.Unlock()
		}
	}()
	n.Cleanup(func() {
		p.once.Do(func() {
			_ = p.input.Close()
			_ = p.cmd.Process.Kill()
		})
		<-done
		_ = p.cmd.Wait()
		if n.Failed() {
			n.Logf("%s\n%s%s", p.cmd, strings.Join(p.lines, "\n"), p.log.String())
		}
	})
	return p
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// stop ends a node as a node ends: with a goodbye.
func (p *process) stop() { p.once.Do(func() { _ = p.input.Close() }) }

func (p *process) printed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

func (p *process) logged(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.log.String(), what)
}

func (p *process) awaitLog(what string) {
	p.t.Helper()
	testenv.Eventually(p.t, "log has "+what, func() bool { return p.logged(what) })
}

// await waits until a line has all of the words.
func (p *process) await(words ...string) {
	p.t.Helper()
	testenv.Eventually(p.t, fmt.Sprintf("output has %q", words), func() bool { return has(p.printed(), words...) })
}

func has(lines []string, words ...string) bool {
	for _, l := range lines {
		all := true
		for _, w := range words {
			all = all && strings.Contains(l, w)
		}
		if all {
			return true
		}
	}
	return false
}

// found waits until a node found an id by a way, and returns the beacon.
func (p *process) found(id fabric.NodeID, via string) (b fabric.Beacon) {
	p.t.Helper()
	testenv.Eventually(p.t, fmt.Sprintf("%s found by %s", id, via), func() bool {
		for _, l := range p.printed() {
			var f foundLine
			if json.Unmarshal([]byte(l), &f) == nil && f.Beacon.ID == id && (via == "" || f.Via == via) {
				b = f.Beacon
				return true
			}
		}
		return false
	})
	return b
}

func (n *network) node(host string, s nodeSettings) *process {
	n.Helper()
	own, err := os.Executable()
	if err != nil {
		n.Fatal(err)
	}
	settings, err := json.Marshal(s)
	if err != nil {
		n.Fatal(err)
	}
	cmd := n.on(host, own)
	cmd.Env = append(os.Environ(), nodeVariable+"="+string(settings))
	return n.start(cmd)
}

// avahi starts a bus and Avahi's daemon on a host, and returns the environment of its clients.
func (n *network) avahi(host string) []string {
	n.Helper()
	bus := testenv.Need(n.T, "dbus-daemon", "apt-get install dbus-daemon", "/usr/bin/dbus-daemon")
	daemon := testenv.Need(n.T, "avahi-daemon", "apt-get install avahi-daemon", "/usr/sbin/avahi-daemon")
	testenv.Need(n.T, "avahi-browse", "apt-get install avahi-utils", "/usr/bin/avahi-browse")
	dir := n.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			n.Fatal(err)
		}
		return path
	}
	socket := filepath.Join(dir, "bus")
	env := append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+socket)
	busConfig := write("bus.conf", `<busconfig><type>session</type><listen>unix:path=`+socket+`</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy></busconfig>`)
	n.start(n.on(host, bus, "--nofork", "--nopidfile", "--config-file="+busConfig))
	testenv.Eventually(n.T, "the bus listens", func() bool { _, err := os.Stat(socket); return err == nil })
	avahiConfig := write("avahi.conf", "[server]\nhost-name=avahi-"+host+"\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\npublish-workstation=no\n")
	// Its socket and its pid are always below /run; ip netns exec has mounts of its own.
	d := n.on(host, "/bin/sh", "-c", `mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon && exec "$0" --no-drop-root --no-chroot --no-rlimits -f "$1"`, daemon, avahiConfig)
	d.Env = env
	n.start(d).awaitLog("Server startup complete")
	return env
}

func (n *network) client(env []string, host, program string, args ...string) *process {
	cmd := n.on(host, program, args...)
	cmd.Env = env
	return n.start(cmd)
}

func at(cluster string, i int, address string) fabric.Beacon {
	b := beacon(cluster, i)
	b.RPC, b.Gossip = address+":7373", address+":7374"
	if strings.Contains(address, ":") {
		b.RPC, b.Gossip = "["+address+"]:7373", "["+address+"]:7374"
	}
	return b
}

// Avahi sees a node, also one beside it on the same machine, sees it go, and its peers are seen. Names may be odd.
func TestAvahi(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "one", "two")
	n.link("lan")
	n.plug("one", "lan", "eth0", "10.9.0.1/24")
	n.plug("two", "lan", "eth0", "10.9.0.2/24")
	env := n.avahi("two")
	browse := n.client(env, "two", "/usr/bin/avahi-browse", "-r", "-p", "_orrery._udp")
	odd := at("c1", 1, "10.9.0.1")
	odd.Name = `a.b\c "d" é;`
	node := n.node("one", nodeSettings{Own: odd, MDNS: true, NoBeacon: true})
	beside := n.node("two", nodeSettings{Own: at("c1", 2, "10.9.0.2"), MDNS: true, NoBeacon: true})
	browse.await("=;", "IPv4", `a\.b\\c\032\034d\034\032\195\169\059\032\0400000000000000001\041`, "10.9.0.1;7373", `"cluster=c1"`, `"rpc=10.9.0.1:7373"`, `"gossip=10.9.0.1:7374"`)
	browse.await("=;", "node-2", "7373")
	if b := beside.found(odd.ID, mdns.Via); b != odd {
		t.Errorf("found %+v", b)
	}
	node.found(beacon("c1", 2).ID, mdns.Via)

	// Published by Avahi, with and without the address in the text.
	n.client(env, "two", "/usr/bin/avahi-publish", "-s", "stranger", "_orrery._udp", "9999",
		"cluster=c1", "id=00000000000000aa", "name=stranger", "gossip=10.9.0.2:9998")
	if b := node.found("00000000000000aa", mdns.Via); b.RPC != "10.9.0.2:9999" || b.Gossip != "10.9.0.2:9998" || b.Name != "stranger" {
		t.Errorf("found %+v", b)
	}
	node.stop()
	browse.await("-;", "0000000000000001")
	if has(browse.printed(), "-;", "node-2") {
		t.Error("the goodbye of one node took another away")
	}
}

// A link that has IPv6 only.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "one", "two")
	n.link("lan")
	n.plug("one", "lan", "eth0", "fd09::1/64")
	n.plug("two", "lan", "eth0", "fd09::2/64")
	for _, via := range []string{mdns.Via, discovery.ViaMulticast} {
		s := func(i int, address string) nodeSettings {
			return nodeSettings{Own: at("c1", i, address), MDNS: via == mdns.Via, NoBeacon: via == mdns.Via}
		}
		one, two := n.node("one", s(1, "fd09::1")), n.node("two", s(2, "fd09::2"))
		one.found(beacon("c1", 2).ID, via)
		two.found(beacon("c1", 1).ID, via)
		for _, p := range []*process{one, two} {
			if p.logged("partly") || p.logged("refuses") {
				t.Errorf("%s works, and it says otherwise", via)
			}
			p.stop()
		}
	}
}

// A host with several interfaces is seen on all of them, and one that comes later is used.
func TestSeveralInterfaces(t *testing.T) {
	t.Parallel()
	for _, way := range []string{mdns.Via, "beacon"} {
		n := newNetwork(t, "middle", "left", "right")
		n.link("west")
		n.link("east")
		n.plug("middle", "west", "eth0", "10.9.1.1/24")
		n.plug("left", "west", "eth0", "10.9.1.2/24")
		n.plug("right", "east", "eth0", "10.9.2.2/24")
		s := func(i int, address string) nodeSettings {
			return nodeSettings{Own: at("c1", i, address), MDNS: way == mdns.Via, NoBeacon: way == mdns.Via}
		}
		middle := n.node("middle", s(1, "10.9.1.1"))
		left, right := n.node("left", s(2, "10.9.1.2")), n.node("right", s(3, "10.9.2.2"))
		middle.found(beacon("c1", 2).ID, "")
		left.found(beacon("c1", 1).ID, "")
		n.plug("middle", "east", "eth1", "10.9.2.1/24")
		middle.found(beacon("c1", 3).ID, "")
		right.found(beacon("c1", 1).ID, "")
		if has(left.printed(), string(beacon("c1", 3).ID)) {
			t.Errorf("%s: a beacon crossed a host", way)
		}
	}
}

// Where the network drops multicast and broadcast, a list finds the nodes.
func TestMulticastDropped(t *testing.T) {
	t.Parallel()
	nft := testenv.Need(t, "nft", "apt-get install nftables", "/usr/sbin/nft")
	n := newNetwork(t, "one", "two")
	n.link("lan")
	n.plug("one", "lan", "eth0", "10.9.0.1/24")
	n.plug("two", "lan", "eth0", "10.9.0.2/24")
	rules := n.on("one", nft, "-f", "-")
	rules.Stdin = strings.NewReader("table inet t { chain o { type filter hook output priority 0; ip daddr 224.0.0.0/4 reject; ip daddr 10.9.0.255 reject; ip6 daddr ff00::/8 drop; }\n" +
		"chain i { type filter hook input priority 0; ip daddr 224.0.0.0/4 drop; ip daddr 10.9.0.255 drop; ip6 daddr ff00::/8 drop; }\n}\n")
	if out, err := rules.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	list := filepath.Join(t.TempDir(), "nodes")
	if err := os.WriteFile(list, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.node("two", nodeSettings{Own: at("c1", 2, "10.9.0.2"), MDNS: true})
	one := n.node("one", nodeSettings{Own: at("c1", 1, "10.9.0.1"), MDNS: true, File: list})
	one.awaitLog("refuses multicast and broadcast")
	entry, err := json.Marshal(at("c1", 2, "10.9.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, entry, 0o600); err != nil {
		t.Fatal(err)
	}
	one.found(beacon("c1", 2).ID, roster.ViaFile)
}

// A firewall that drops multicast without a word is noticed, and one that does not is not.
func TestMulticastDroppedSilently(t *testing.T) {
	t.Parallel()
	nft := testenv.Need(t, "nft", "apt-get install nftables", "/usr/sbin/nft")
	n := newNetwork(t, "one", "two")
	n.link("lan")
	n.plug("one", "lan", "eth0", "10.9.0.1/24")
	n.plug("two", "lan", "eth0", "10.9.0.2/24")
	firewall := func(rules string) {
		cmd := n.on("one", nft, rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
	}
	firewall("table inet t { chain i { type filter hook input priority 0; udp dport 5353 drop; }; }")
	one := n.node("one", nodeSettings{Own: at("c1", 1, "10.9.0.1"), MDNS: true})
	two := n.node("two", nodeSettings{Own: at("c1", 2, "10.9.0.2"), MDNS: true, NoBeacon: true})
	one.awaitLog("not even heard here")
	firewall("delete table inet t")
	one.found(beacon("c1", 2).ID, mdns.Via)
	one.awaitLog("is heard now")
	if two.logged("not even heard") {
		t.Error("a host that hears says that it does not")
	}
}

// A host without any network says so and runs on.
func TestNoInterface(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "one")
	one := n.node("one", nodeSettings{Own: at("c1", 1, "127.0.0.1"), MDNS: true})
	one.awaitLog("no interface takes multicast")
	n.link("lan")
	n.plug("one", "lan", "eth0", "10.9.0.1/24")
	n.ip("netns", "add", n.id+"two")
	t.Cleanup(func() { n.ip("netns", "del", n.id+"two") })
	n.plug("two", "lan", "eth0", "10.9.0.2/24")
	n.node("two", nodeSettings{Own: at("c1", 2, "10.9.0.2"), MDNS: true, NoBeacon: true})
	one.found(beacon("c1", 2).ID, mdns.Via)
}

// Artillery's discovery took a node at its own port for itself, so hosts with the default port never met; and it took every program that used its library
// for one of its own, and every cluster for the same.
func TestArtilleryDefects(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "one", "two", "three")
	n.link("lan")
	for i, h := range []string{"one", "two", "three"} {
		n.plug(h, "lan", "eth0", fmt.Sprintf("10.9.0.%d/24", i+1))
	}
	env := n.avahi("three")
	n.client(env, "three", "/usr/bin/avahi-publish", "-s", "printer", "_ipp._tcp", "7373", "cluster=c1", "id=00000000000000bb")
	n.client(env, "three", "/usr/bin/avahi-publish", "-s", "nameless", "_orrery._udp", "7373")
	other := n.node("three", nodeSettings{Own: at("c2", 3, "10.9.0.3"), MDNS: true})
	for _, way := range []nodeSettings{{MDNS: true, NoBeacon: true}, {}} {
		a, b := way, way
		a.Own, b.Own = at("c1", 1, "10.9.0.1"), at("c1", 2, "10.9.0.2") // the same ports on both
		one, two := n.node("one", a), n.node("two", b)
		one.found(b.Own.ID, "")
		two.found(a.Own.ID, "")
		for _, p := range []*process{one, two} {
			if has(p.printed(), "10.9.0.3") || has(p.printed(), "00000000000000bb") {
				t.Errorf("found what is not of the cluster: %q", p.printed())
			}
			p.stop()
		}
	}
	if lines := other.printed(); len(lines) != 0 {
		t.Errorf("the other cluster found %q", lines)
	}
}

// nodeMain is the other face of the test binary.
func nodeMain(m *testing.M, verify func(*testing.M)) {
	if settings, ok := os.LookupEnv(nodeVariable); ok {
		if err := runNode(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	_ = os.Setenv("LC_ALL", "C.UTF-8") // of Avahi's tools
	verify(m)
}

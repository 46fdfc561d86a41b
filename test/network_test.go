package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orrery/internal/testenv"
)

// network is three hosts on one bridge, each a network namespace.
type network struct {
	*testing.T
	bridge string
	hosts  map[string]string // namespace by node name
	cables map[string]string // the bridge's end of a host's cable

	addresses map[string]string
}

// networks counts them.
var networks atomic.Int32

// newNetwork makes the hosts; the first has address 10.213.7.1, and so on.
func newNetwork(t *testing.T, names ...string) *network {
	t.Helper()
	testenv.Need(t, "ip", "apt-get install iproute2", "/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, for network namespaces", "run the tests as root")
	}
	id := fmt.Sprintf("or%d%c", os.Getpid()%100000, 'a'+networks.Add(1)%26) // the kernel takes its time to forget names
	n := &network{T: t, bridge: id + "b", hosts: map[string]string{}, cables: map[string]string{}, addresses: map[string]string{}}
	n.ip("link", "add", n.bridge, "type", "bridge", "mcast_snooping", "0")
	t.Cleanup(func() { n.ip("link", "del", n.bridge) })
	n.ip("addr", "add", "10.213.7.254/24", "dev", n.bridge)
	n.ip("link", "set", n.bridge, "up")
	for i, name := range names {
		host, cable := fmt.Sprintf("%sn%d", id, i), fmt.Sprintf("%sv%d", id, i)
		n.ip("netns", "add", host)
		t.Cleanup(func() { n.ip("netns", "del", host) })
		n.hosts[name], n.cables[name] = host, cable
		n.addresses[name] = fmt.Sprintf("10.213.7.%d", i+1)
		n.ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", host)
		n.ip("link", "set", cable, "master", n.bridge, "up")
		n.ip("-n", host, "addr", "add", fmt.Sprintf("10.213.7.%d/24", i+1), "dev", "eth0")
		n.ip("-n", host, "link", "set", "eth0", "up")
		n.ip("-n", host, "link", "set", "lo", "up")
		n.ip("-n", host, "route", "add", "default", "dev", "eth0")
	}
	return n
}

func (n *network) ip(args ...string) {
	n.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// on is a command on a host.
func (n *network) on(name, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.hosts[name], program}, args...)...)
}

// cluster forms a cluster on the hosts.
func (n *network) cluster(names ...string) *cluster {
	n.Helper()
	return form(n.T, names, n.on)
}

// form forms a cluster with the settings of real machines: all interfaces, well-known ports, found by multicast. on is a program on the host of that name.
func form(t *testing.T, names []string, on func(name, program string, args ...string) *exec.Cmd) *cluster {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, bin: bin, dir: t.TempDir(), nodes: map[string]*node{}}
	t.Cleanup(c.close)
	for i, name := range names {
		host := &node{cluster: c, name: name, dir: filepath.Join(c.dir, name)}
		host.on = func(program string, args ...string) *exec.Cmd { return on(name, program, args...) }
		verb := []string{"node", "init"}
		if i > 0 {
			verb = []string{"node", "join", strings.TrimSpace(c.must(c.nodes[names[0]].dir, "node", "token"))}
		}
		setup := host.on(bin.orrery, append(append([]string{"--dir", host.dir}, verb...), "--name", name)...)
		if out, err := setup.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", setup, err, out)
		}
		c.nodes[name] = host
		host.start()
	}
	for _, host := range c.nodes {
		host.awaitAlive(len(names))
	}
	return c
}

// Machines of one network find each other by a token alone; a cable that is cut stops a move before it begins, and
// the cluster heals by itself when it is plugged in again.
func TestMachinesOnANetwork(t *testing.T) {
	n := newNetwork(t, "one", "two", "three")
	c := n.cluster("one", "two", "three")
	c.observatory(`127\.0\.0\.1:0`, ":8080")
	if want := "http://10.213.7.1:8080"; c.sky.base != want {
		t.Errorf("sky is at %s, not %s", c.sky.base, want)
	}
	for i := range 20 {
		if err := c.sky.write(fmt.Sprintf("over the network %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	n.ip("link", "set", n.cables["three"], "down")
	c.place("three")
	if _, err := c.run(c.nodes["one"].dir, "deploy", "apply", c.manifest); err == nil {
		t.Error("apply moved a service to a machine without a network")
	}
	c.settled("two")
	n.ip("link", "set", n.cables["three"], "up")
	for _, host := range c.nodes {
		host.awaitAlive(3)
	}
	eventually(t, 60*time.Second, func() error {
		_, err := c.run(c.nodes["one"].dir, "deploy", "apply", c.manifest)
		return err
	})
	c.settled("three")
}

package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/internal/testenv"
	"orrery/test/lan"
)

// nemesis does things to the nodes of a cluster on a LAN.
type nemesis struct {
	*cluster
	lan    *lan.LAN
	random *rand.Rand // of the round
	quota  *quota
	small  *node // whose chains are on a small disk
	names  map[fabric.NodeID]string
}

// fault is something that goes wrong.
type fault struct {
	name  string
	begin func()
	end   func()
	alone bool // nothing else goes wrong meanwhile
}

// weathers are how the network may be throughout a round.
var weathers = []struct {
	name string
	link lan.Link
	nft  bool // the kernels lose, and not the switch
}{
	{name: "a good network"},
	{name: "20 ms and jitter", link: lan.Link{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}},
	{name: "10% loss", link: lan.Link{Loss: 0.10}},
	{name: "25% loss by nft", link: lan.Link{Loss: 0.25}, nft: true},
	{name: "10% duplicates, 10% late", link: lan.Link{Duplicate: 0.10, Reorder: 0.10}},
	{name: "some of all", link: lan.Link{Delay: 5 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.03, Duplicate: 0.05, Reorder: 0.05}},
}

// shape makes the weather. A kernel without nft is named, and the switch loses what it should have lost.
func (n *nemesis) shape(link lan.Link, nft bool) {
	n.Helper()
	if nft {
		if err := n.lan.Lose(link.Loss); err != nil {
			n.Logf("the kernel does not lose packets, the switch does: %v", err)
		} else {
			link.Loss = 0
		}
	}
	n.lan.ShapeAll(link)
}

// victim is a node in a role: at a place of a chain, the leader of the table, or any.
func (n *nemesis) victim(o placement.Overview) (*node, string) {
	c := o.Chains[n.random.IntN(len(o.Chains))]
	place := n.random.IntN(5)
	if place < len(c.Members) {
		return n.nodes[n.names[c.Members[place].Node]], []string{"head", "middle", "tail"}[place]
	}
	if place == 3 {
		return n.nodes[n.names[o.Keeper]], "leader"
	}
	all := make([]string, 0, len(n.names))
	for _, name := range n.names {
		all = append(all, name)
	}
	slices.Sort(all)
	return n.nodes[all[n.random.IntN(len(all))]], "any"
}

// faults chooses what goes wrong in a round: one thing, or two that overlap.
func (n *nemesis) faults() []fault {
	o := n.whole()
	first := n.fault(o)
	if first.alone || n.random.IntN(2) == 0 {
		return []fault{first}
	}
	for {
		if second := n.fault(o); !second.alone && second.name != first.name {
			return []fault{first, second}
		}
	}
}

// fault chooses one.
func (n *nemesis) fault(o placement.Overview) fault {
	v, role := n.victim(o)
	w, second := n.victim(o)
	for w == v {
		w, second = n.victim(o)
	}
	named := func(what string) string { return fmt.Sprintf("%s %s (%s)", what, v.name, role) }
	pair := fmt.Sprintf("%s (%s) and %s (%s)", v.name, role, w.name, second)
	others := func(do func(other string)) {
		for other := range n.nodes {
			if other != v.name {
				do(other)
			}
		}
	}
	switch n.random.IntN(11) {
	case 0, 1:
		return fault{name: named("kill -9 of"), begin: v.kill, end: v.startAgain}
	case 2:
		return fault{name: "kill -9 of all", alone: true, begin: func() { n.all((*node).kill) }, end: func() { n.all((*node).launch); n.all((*node).awaitAnswer) }}
	case 3:
		return fault{name: named("SIGSTOP of"), begin: func() { v.signal(syscall.SIGSTOP) }, end: func() { v.signal(syscall.SIGCONT) }}
	case 4:
		return fault{name: named("isolation of"), begin: func() { n.lan.Isolate(v.name) }, end: n.lan.Heal}
	case 5:
		return fault{name: named("nobody hears"), begin: func() { others(func(o string) { n.lan.Cut(v.name, o) }) }, end: n.lan.Heal}
	case 6:
		return fault{name: named("deafness of"), begin: func() { others(func(o string) { n.lan.Cut(o, v.name) }) }, end: n.lan.Heal}
	case 7:
		return fault{name: "isolation, with a client, of " + pair, begin: func() { n.lan.Isolate(v.name, w.name, "other") }, end: n.lan.Heal}
	case 8:
		return fault{name: "a one-way cut between " + pair, begin: func() { n.lan.Cut(v.name, w.name) }, end: n.lan.Heal}
	case 9:
		return fault{name: named("a twentieth of a core for"), begin: func() { n.quota.limit(v) }, end: func() { n.quota.free(v) }}
	}
	return fault{name: "a full disk of " + n.small.name, alone: true, begin: n.fill, end: n.empty}
}

// startAgain starts a node that was killed, unless it runs again: it may be the victim of both faults.
func (n *node) startAgain() {
	if !n.process.running() {
		n.start()
	}
}

func (n *nemesis) all(do func(*node)) {
	for _, each := range n.nodes {
		do(each)
	}
}

// signal stops a node or lets it go on; one that was killed meanwhile stays so.
func (n *node) signal(s syscall.Signal) {
	n.Helper()
	if err := n.process.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		n.Fatal(err)
	}
	n.stopped = s == syscall.SIGSTOP
}

// shrink gives a node's chains a small disk.
func (n *nemesis) shrink(v *node) {
	n.Helper()
	v.kill()
	dir := filepath.Join(v.dir, "chains")
	if err := errors.Join(os.Rename(dir, dir+".away"), os.Mkdir(dir, 0o700)); err != nil {
		n.Fatal(err)
	}
	testenv.SmallDisk(n.T, dir, "64m")
	v.start()
	n.small = v
}

func (n *nemesis) fill() {
	n.Helper()
	f, err := os.Create(filepath.Join(n.small.dir, "chains", "fill"))
	if err != nil {
		n.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(errors.Join(err, f.Close()), syscall.ENOSPC) {
		n.Fatal(err)
	}
}

// empty makes room, and starts the node again, as whoever made room would.
func (n *nemesis) empty() {
	n.Helper()
	n.small.kill()
	if err := os.Remove(filepath.Join(n.small.dir, "chains", "fill")); err != nil {
		n.Fatal(err)
	}
	n.small.start()
}

// quota is a control group whose processes have a twentieth of a core together.
type quota struct {
	*testing.T
	group string // folder
}

// newQuota makes the group, of whichever version the machine has.
func newQuota(t *testing.T) *quota {
	t.Helper()
	q := &quota{T: t}
	name := fmt.Sprintf("orrery-test-%d", os.Getpid())
	limits := map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "5000"}
	switch {
	case exists("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), exists("/sys/fs/cgroup/cpu/cgroup.procs"):
		q.group = filepath.Join("/sys/fs/cgroup/cpu", name)
	case exists("/sys/fs/cgroup/cgroup.controllers"):
		_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu"), 0) //nolint:gosec // the file is there; what did not work shows below
		q.group = filepath.Join("/sys/fs/cgroup", name)
		limits = map[string]string{"cpu.max": "5000 100000"}
	}
	err := errors.New("no control groups")
	if q.group != "" {
		err = os.Mkdir(q.group, 0o755)
	}
	if err == nil {
		t.Cleanup(func() {
			if err := os.Remove(q.group); err != nil {
				t.Error(err)
			}
		})
	}
	for file, content := range limits {
		if err == nil {
			err = os.WriteFile(filepath.Join(q.group, file), []byte(content), 0) //nolint:gosec // the kernel's
		}
	}
	if err != nil {
		testenv.Missing(t, "a control group with a quota of CPU ("+err.Error()+")", "run the tests as root, where control groups are mounted")
	}
	return q
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// limit puts a node into the group.
func (q *quota) limit(n *node) { q.move(n, q.group) }

// free takes it out again.
func (q *quota) free(n *node) { q.move(n, filepath.Dir(q.group)) }

func (q *quota) move(n *node, group string) {
	q.Helper()
	pid := strconv.Itoa(n.process.Process.Pid)
	err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(pid), 0) //nolint:gosec // the kernel's
	if err != nil && !errors.Is(err, syscall.ESRCH) {                         // it was killed
		q.Fatal(err)
	}
}

// list is the names of faults.
func list(all []fault) string {
	names := make([]string, 0, len(all))
	for _, f := range all {
		names = append(names, f.name)
	}
	return strings.Join(names, "; and ")
}

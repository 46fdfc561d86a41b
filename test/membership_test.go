package test

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"orrery/internal/clock"
	"orrery/test/lan"
)

// seen is the state of each node as one of them sees it.
func (n *node) seen() (map[string]string, error) {
	all, err := ask[[]member](n.cluster, n.dir, "members")
	states := map[string]string{}
	for _, m := range all {
		states[m.Name] = m.State
	}
	return states, err
}

// awaitSeen waits until a node sees another one in a state.
func (n *node) awaitSeen(other, state string) {
	n.Helper()
	eventually(n.T, 60*time.Second, func() error {
		states, err := n.seen()
		if err == nil && states[other] != state {
			err = fmt.Errorf("%s sees %s as %q, not %s", n.name, other, states[other], state)
		}
		return err
	})
}

// Five nodes on a bad network: with a quarter of all frames lost none is taken for dead; one that is cut off, and one that is frozen, is, and is back when
// it can be reached again. ORRERY_TEST_ROUNDS is how many times ten seconds the loss lasts.
func TestMembersOnABadNetwork(t *testing.T) {
	names := hosts(5)
	l := lan.New(t, 1, names...)
	c := form(t, names, func(name, program string, args ...string) *exec.Cmd { return l.Host(name).Command(program, args...) })
	machine := watchLateness(t)
	l.ShapeAll(lan.Link{Loss: 0.25})
	for end := time.Now().Add(time.Duration(rounds(1)) * 10 * time.Second); time.Now().Before(end); clock.Wait(t.Context(), 200*time.Millisecond) {
		for _, n := range c.nodes {
			states, err := n.seen()
			if err != nil {
				t.Fatal(err)
			}
			for name, state := range states {
				if state == "dead" {
					machine.complain(t, "%s takes %s for dead", n.name, name)
				}
			}
		}
	}
	if counts := l.Counts("one", "two"); counts.Lost == 0 {
		t.Error("no frame was lost")
	}
	l.ShapeAll(lan.Link{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
	for _, n := range c.nodes {
		n.awaitAlive(len(names))
	}
	one, two := c.nodes["one"], c.nodes["two"]
	l.Isolate("two")
	two.awaitSeen("one", "dead")
	one.awaitSeen("two", "dead")
	l.Heal()
	for _, n := range c.nodes {
		n.awaitAlive(len(names))
	}
	two.signal(syscall.SIGSTOP)
	one.awaitSeen("two", "dead")
	two.signal(syscall.SIGCONT)
	for _, n := range c.nodes {
		n.awaitAlive(len(names))
	}
}

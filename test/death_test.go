package test

import (
	"fmt"
	"testing"
	"time"
)

// A target that dies during a move costs nothing but the move.
func TestTargetDiesDuringMove(t *testing.T) {
	c := newCluster(t, "one", "two", "three")
	c.observatory()
	stop := c.sky.busy(t, "target dies")
	for _, line := range killings(14, 0) {
		c.place("three")
		p, at := c.apply("one", line)
		c.nodes["three"].kill()
		<-p.done
		code := p.ProcessState.ExitCode()
		t.Logf("killed at %d (%s): exit code %d: %s", line, at, code, p.said())
		if code != 0 { // or else the move was faster than the kill
			// The source serves before the target is back.
			eventually(t, 60*time.Second, func() error { return c.sky.write(fmt.Sprintf("without target %d", line)) })
			notes, err := c.service("one", "notes")
			if err != nil || notes.Node != "two" {
				t.Fatalf("notes are on %s (%v) after the target died at %q", notes.Node, err, at)
			}
		}
		c.nodes["three"].start()
		c.place("two")
		c.applied("one")
		c.settled("two")
	}
	stop()
	c.place("three")
	c.applied("one")
	c.settled("three")
}

// A source that dies during a move takes its state along only until it is back.
func TestSourceDiesDuringMove(t *testing.T) {
	c := newCluster(t, "one", "two", "three")
	c.observatory()
	stop := c.sky.busy(t, "source dies")
	from, to := "three", "two"
	for _, line := range killings(14, 1) {
		from, to = to, from
		c.place(to)
		p, at := c.apply("one", line)
		c.nodes[from].kill()
		<-p.done
		t.Logf("killed at %d (%s): exit code %d: %s", line, at, p.ProcessState.ExitCode(), p.said())
		c.nodes[from].start()
		by := c.recovered(from, to)
		t.Logf("found on %s", by)
		c.applied("one")
		c.settled(to)
	}
	stop()
	if err := c.sky.complete(); err != nil {
		t.Fatal(err)
	}
}

// The command line is not needed for an apply to end well, one way or the other.
func TestCommandLineDiesDuringMove(t *testing.T) {
	c := newCluster(t, "one", "two", "three")
	c.observatory()
	stop := c.sky.busy(t, "command line dies")
	from, to := "three", "two"
	for _, line := range killings(16, 2) {
		from, to = to, from
		c.place(to)
		p, at := c.apply("one", line)
		p.kill()
		by := c.recovered(from, to)
		t.Logf("killed at %d (%s): found on %s", line, at, by)
		c.applied("one")
		c.settled(to)
	}
	stop()
	if err := c.sky.complete(); err != nil {
		t.Fatal(err)
	}
}

// After a loss of power of all machines at once everything is as it was.
func TestAllDieAtOnce(t *testing.T) {
	c := newCluster(t, "one", "two", "three")
	c.observatory()
	stop := c.sky.busy(t, "power")
	eventually(t, 20*time.Second, func() error {
		if n := c.sky.known(); n < 50 {
			return fmt.Errorf("%d notes", n)
		}
		return nil
	})
	for _, during := range []string{"rest", "move"} {
		if during == "move" {
			c.place("three")
			c.apply("one", 9)
		}
		before, err := c.service("one", "sky")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range c.nodes {
			n.kill()
		}
		for _, n := range c.nodes {
			n.launch()
		}
		for _, n := range c.nodes {
			n.awaitAnswer()
			n.awaitAlive(len(c.nodes))
		}
		by := c.recovered("two", "three")
		after, err := c.service("one", "sky")
		if err != nil || after.Public != before.Public {
			t.Fatalf("sky was at %s and is at %s (%v)", before.Public, after.Public, err)
		}
		t.Logf("killed at %s: notes are on %s, %d are there", during, by, c.sky.known())
	}
	stop()
	c.applied("one")
	c.settled("three")
}

package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"orrery/state"
)

// apply starts deploy apply through a node and returns at its line-th line of progress, or when it has ended. The
// command line goes on meanwhile.
func (c *cluster) apply(via string, line int) (p *process, at string) {
	c.Helper()
	cmd := c.command(context.Background(), c.nodes[via].dir, "deploy", "apply", c.manifest)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	p = &process{Cmd: cmd, done: make(chan struct{})}
	reached := make(chan string, 1)
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if p.lines = append(p.lines, lines.Text()); len(p.lines) == line {
				reached <- lines.Text()
			}
		}
		p.err = cmd.Wait()
	}()
	c.Cleanup(p.kill)
	if line <= 0 {
		return p, "the start"
	}
	select {
	case at = <-reached:
	case <-p.done:
	case <-time.After(60 * time.Second):
		c.Fatal("deploy apply says nothing")
	}
	return p, at
}

// owned checks that one node, and the one that the table says, has the notes in service, and that they are
// all there.
func (c *cluster) owned(by string) error {
	notes, err := c.service(by, "notes")
	if err != nil {
		return err
	}
	if notes.Node != by || notes.Held || notes.Err != "" {
		return fmt.Errorf("notes are on %s (held %t, %s), not on %s", notes.Node, notes.Held, notes.Err, by)
	}
	for name, n := range c.nodes {
		all, err := ask[[]state.Status](c, n.dir, "component", "list")
		if err != nil {
			return fmt.Errorf("node %s: %w", name, err)
		}
		for _, s := range all {
			ref, active := s.Component.Ref().String(), s.Phase == state.PhaseActive
			if (s.Component.Name == "notes" || s.Component.Name == "notes-db") && active != (name == by) {
				return fmt.Errorf("%s on %s is %s, and notes belong to %s", ref, name, s.Phase, by)
			}
		}
	}
	return c.sky.complete()
}

// settled waits until the notes are owned by a node; a lost note is told at once.
func (c *cluster) settled(by string) {
	c.Helper()
	eventually(c.T, 90*time.Second, func() error {
		err := c.owned(by)
		if l, ok := errors.AsType[lost](err); ok {
			c.Fatal(l)
		}
		return err
	})
}

// recovered waits, without asking for anything, until one of two nodes owns the notes; it returns which.
func (c *cluster) recovered(a, b string) (by string) {
	c.Helper()
	eventually(c.T, 90*time.Second, func() error {
		var problems []error
		for _, by = range []string{a, b} {
			err := c.owned(by)
			if l, ok := errors.AsType[lost](err); ok {
				c.Fatal(l)
			}
			if err == nil {
				return nil
			}
			problems = append(problems, err)
		}
		return errors.Join(problems...)
	})
	return by
}

// applied repeats deploy apply until it succeeds, since a recovery may be under way.
func (c *cluster) applied(via string) {
	c.Helper()
	eventually(c.T, 60*time.Second, func() error {
		_, err := c.run(c.nodes[via].dir, "deploy", "apply", c.manifest)
		return err
	})
}

// killings are the lines of progress at which something is killed: all of them, or a selection that differs from
// role to role.
func killings(lines, role int) []int {
	var all []int
	for line := range lines + 1 {
		if full() || line%5 == (1+2*role)%5 {
			all = append(all, line)
		}
	}
	return all
}

func TestCoordinatorDiesDuringMove(t *testing.T) {
	c := newCluster(t, "one", "two", "three")
	c.observatory()
	from, to := "two", "three"
	c.place(to)
	p, _ := c.apply("one", -1)
	<-p.done
	if p.err != nil {
		t.Fatal(p.err)
	}
	c.settled(to)
	lines := len(p.lines)
	t.Logf("a move has %d lines of progress", lines)
	for role, name := range []string{"the source", "the target", "neither"} {
		for i, line := range killings(lines, role) {
			from, to = to, from
			via := []string{from, to, "one"}[role]
			began := time.Now()
			stop := c.sky.busy(t, fmt.Sprintf("%s dies at %d", name, line))
			c.place(to)
			p, at := c.apply(via, line)
			c.nodes[via].kill()
			<-p.done
			c.nodes[via].start()
			by := "?"
			if i%2 == 0 {
				by = c.recovered(from, to)
			}
			c.applied(via)
			c.settled(to)
			stop()
			if err := c.sky.complete(); err != nil {
				t.Fatal(err)
			}
			t.Logf("coordinator is %s, killed at %d (%s): found on %s, then moved; %d acknowledged, %d refused, %s", name, line, at, by, len(c.sky.acked), c.sky.refused, time.Since(began).Round(time.Millisecond))
		}
	}
}

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// node is one node process of the story.
type node struct {
	name    string
	dir     string
	process *child
}

// child is a process that the story started and waits for.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed
}

// start runs the orrery binary in the background; its output goes to a log file.
func (s *story) start(ctx context.Context, log string, args ...string) (c *child, err error) {
	file, err := os.Create(filepath.Join(s.Dir, log))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }() // the child has its own copy
	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.Self, args...)
	cmd.Stdout, cmd.Stderr = file, file
	// An own group, so that Ctrl-C reaches the story only and it stops its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c = &child{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = cmd.Wait()
	}()
	return c, nil
}

// stop asks the process to end, and after a bound makes it.
func (c *child) stop(limit time.Duration) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.err
	case <-timer.C:
		err := c.cmd.Process.Kill()
		<-c.done
		return errors.Join(fmt.Errorf("process %d did not end within %s and was killed", c.cmd.Process.Pid, limit), err)
	}
}

// stop ends all nodes, the last first.
func (s *story) stop() error {
	var errs []error
	for _, n := range slices.Backward(s.nodes) {
		if n.process != nil {
			if err := n.process.stop(20 * time.Second); err != nil {
				errs = append(errs, fmt.Errorf("node %s: %w", n.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// orrery runs the command line against a node and returns what it prints.
func (s *story) orrery(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.Self, append([]string{"--dir", dir}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("orrery %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// ask runs the command line with -o json and decodes what it prints.
func (s *story) ask(ctx context.Context, n *node, into any, args ...string) error {
	out, err := s.orrery(ctx, n.dir, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("orrery %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// until repeats a check until it holds; the last reason is told when time is over.
func until(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-timer.C:
		}
	}
}

// formCluster starts three nodes; the second and third are given a token and no address.
func (s *story) formCluster(ctx context.Context) (string, error) {
	local := []string{"--loopback", "--listen", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"}
	for _, name := range []string{"one", "two", "three"} {
		n := &node{name: name, dir: filepath.Join(s.Dir, name)}
		verb := []string{"node", "init", "--cluster", "demo"}
		if len(s.nodes) > 0 {
			token, err := s.orrery(ctx, s.nodes[0].dir, "node", "token")
			if err != nil {
				return "", err
			}
			verb = []string{"node", "join", strings.TrimSpace(string(token))}
		}
		if _, err := s.orrery(ctx, n.dir, append(append(verb, "--name", name), local...)...); err != nil {
			return "", err
		}
		process, err := s.start(ctx, name+".log", "--dir", n.dir, "node", "run")
		if err != nil {
			return "", err
		}
		n.process = process
		s.nodes = append(s.nodes, n)
		if err := s.awaitNode(ctx, n); err != nil {
			return "", err
		}
	}
	return s.awaitMembers(ctx)
}

// awaitNode waits until a node answers its command line.
func (s *story) awaitNode(ctx context.Context, n *node) error {
	return until(ctx, 20*time.Second, func() error {
		select {
		case <-n.process.done:
			return fmt.Errorf("node %s ended: %w (see %s.log)", n.name, n.process.err, filepath.Join(s.Dir, n.name))
		default:
		}
		var all []member
		return s.ask(ctx, n, &all, "members")
	})
}

// member is what the story reads of `orrery members -o json`.
type member struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Via   string `json:"via"`
}

// awaitMembers waits until all nodes see the same three alive, and tells how they found each other.
func (s *story) awaitMembers(ctx context.Context) (string, error) {
	via := map[string]bool{}
	for _, n := range s.nodes {
		err := until(ctx, 20*time.Second, func() error {
			var all []member
			if err := s.ask(ctx, n, &all, "members"); err != nil {
				return err
			}
			alive := 0
			for _, m := range all {
				if m.State == "alive" {
					alive++
				}
				if m.Via != "self" && m.Via != "" {
					via[m.Via] = true
				}
			}
			return claim(alive == len(s.nodes), "node %s sees %d of %d nodes alive", n.name, alive, len(s.nodes))
		})
		if err != nil {
			return "", err
		}
	}
	var ways []string
	for way := range via {
		ways = append(ways, way)
	}
	return "found by " + strings.Join(ways, ", "), nil
}

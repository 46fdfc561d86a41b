// Package nodes starts a cluster of node processes on this machine for a
// benchmark, from the built binary, and carries its command line to them. Who
// starts a cluster closes it; no process is left.
package nodes

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

// Bounds of what a node may take to start and to stop.
const (
	startLimit = 30 * time.Second
	stopLimit  = 30 * time.Second
	lookAgain  = 50 * time.Millisecond
)

// Node is one node's process.
type Node struct {
	Name string
	Dir  string
	PID  int

	cmd    *exec.Cmd
	done   chan struct{}
	err    error // of Wait, once done is closed
	killed bool
}

// Cluster is nodes that found each other.
type Cluster struct {
	Nodes  []*Node
	binary string
	dir    string
}

// Start makes a node of each name below dir and returns when each sees all of them alive.
func Start(ctx context.Context, binary, dir string, names ...string) (*Cluster, error) {
	c := &Cluster{binary: binary, dir: dir}
	for _, name := range names {
		if err := c.add(ctx, name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	for _, n := range c.Nodes {
		if err := c.await(ctx, n, len(names)); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// add makes one more node, which founds the cluster if it is the first.
func (c *Cluster) add(ctx context.Context, name string) error {
	n := &Node{Name: name, Dir: filepath.Join(c.dir, name), done: make(chan struct{})}
	verb := []string{"node", "init", "--cluster", "bench"}
	if len(c.Nodes) > 0 {
		token, err := c.Run(ctx, c.Nodes[0], "node", "token")
		if err != nil {
			return err
		}
		verb = []string{"node", "join", strings.TrimSpace(string(token))}
	}
	verb = append(verb, "--name", name, "--loopback", "--listen", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--dashboard", "127.0.0.1:0")
	if _, err := c.Run(ctx, n, verb...); err != nil {
		return err
	}
	if err := n.start(ctx, c.binary, filepath.Join(c.dir, name+".log")); err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, n)
	return c.await(ctx, n, 1)
}

// start runs the node; its output goes to a log file.
func (n *Node) start(ctx context.Context, binary, log string) error {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, "--dir", n.Dir, "node", "run")
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt reaches the benchmark only, which stops its nodes
	if err := errors.Join(cmd.Start(), file.Close()); err != nil {
		return err
	}
	n.cmd, n.PID = cmd, cmd.Process.Pid
	go func() {
		defer close(n.done)
		n.err = cmd.Wait()
	}()
	return nil
}

// await returns when a node sees so many nodes alive.
func (c *Cluster) await(ctx context.Context, n *Node, count int) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := c.sees(ctx, n, count)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(lookAgain)
		select {
		case <-n.done:
			timer.Stop()
			return fmt.Errorf("node %s ended: %w (see its log in %s)", n.Name, n.err, c.dir)
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("node %s: %w: %w", n.Name, ctx.Err(), err)
		case <-timer.C:
		}
	}
}

func (c *Cluster) sees(ctx context.Context, n *Node, count int) error {
	var members []struct{ Name, State string }
	if err := c.Ask(ctx, n, &members, "members"); err != nil {
		return err
	}
	alive := 0
	for _, m := range members {
		if m.State == "alive" {
			alive++
		}
	}
	if alive < count {
		return fmt.Errorf("it sees %d of %d nodes alive", alive, count)
	}
	return nil
}

// Command is the command line against a node, not started yet.
func (c *Cluster) Command(ctx context.Context, n *Node, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.binary, append([]string{"--dir", n.Dir}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopLimit
	return cmd
}

// Run runs the command line against a node and returns what it prints.
func (c *Cluster) Run(ctx context.Context, n *Node, args ...string) ([]byte, error) {
	cmd := c.Command(ctx, n, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("orrery %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// Ask runs the command line with -o json and decodes what it prints.
func (c *Cluster) Ask(ctx context.Context, n *Node, into any, args ...string) error {
	out, err := c.Run(ctx, n, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return fmt.Errorf("orrery %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// Kill ends a node without warning, and waits for it.
func (n *Node) Kill() error {
	if err := n.cmd.Process.Kill(); err != nil {
		return err
	}
	<-n.done
	n.killed = true
	return nil
}

// Restart starts a node again, which is stopped first unless it was killed. It may not answer yet.
func (c *Cluster) Restart(ctx context.Context, n *Node) error {
	if err := n.stop(); err != nil {
		return err
	}
	n.done, n.err, n.killed = make(chan struct{}), nil, false
	return n.start(ctx, c.binary, filepath.Join(c.dir, n.Name+".log"))
}

// Close ends all nodes, the last first, and waits for them.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range slices.Backward(c.Nodes) {
		if err := n.stop(); err != nil {
			errs = append(errs, fmt.Errorf("node %s: %w", n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// stop asks the node to end, and after a bound makes it.
func (n *Node) stop() error {
	if n.killed {
		return nil
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(stopLimit)
	defer timer.Stop()
	select {
	case <-n.done:
		return n.err
	case <-timer.C:
		err := n.cmd.Process.Kill()
		<-n.done
		return errors.Join(errors.New("it did not end in time and was killed"), err)
	}
}

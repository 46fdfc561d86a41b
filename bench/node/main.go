// Command node measures what a node costs that has nothing to do, and how soon it is ready: three nodes of the
// built binary find each other on this machine and are left alone, and then their memory and their use of the processor are
// read from /proc; one of them is started again and again. The same is done with three members of etcd. See ../README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"orrery/bench/internal/server"
)

type options struct {
	binary, dir string
	idle        time.Duration
	starts      int
	etcd        bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary := flag.String("orrery", "bin/orrery", "the orrery binary")
	idle := flag.Duration("idle", 20*time.Second, "how long the nodes are left alone")
	dir := flag.String("dir", "", "where to work, on a disk (default: a temporary folder)")
	starts := flag.Int("starts", 5, "how often a node is started, to see when it is ready")
	against := flag.String("against", "etcd", "what to measure beside: etcd, or none")
	flag.Parse()
	if err := run(ctx, options{*binary, *dir, *idle, *starts, *against == "etcd"}, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		stop()
		os.Exit(1)
	}
}

// cluster is three servers.
type cluster interface {
	// pids are the processes.
	pids() []int
	// restart stops a server in order and starts it again; ready asks it for a strong read, which is an error until it is part of its cluster.
	restart(ctx context.Context) error
	ready(ctx context.Context) error
	close() error
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	if o.binary, err = filepath.Abs(o.binary); err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "orrery-bench-node-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "server\tresident MB\tof it anonymous MB\tof its program MB\tpeak MB\tidle processor %\tready after ms\tload\t")
	if err := o.measure(ctx, "orrery", table, func() (cluster, error) { return startOrrery(ctx, o.binary, o.dir) }); err != nil {
		return err
	}
	if o.etcd {
		if err := o.measure(ctx, "etcd", table, func() (cluster, error) { return startEtcd(ctx, o.dir) }); err != nil {
			return err
		}
	}
	return table.Flush()
}

// measure adds a line for each server. The last one is started again in the end.
func (o options) measure(ctx context.Context, name string, out io.Writer, start func() (cluster, error)) (err error) {
	c, err := start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	before := used(c)
	select {
	case <-time.After(o.idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after := used(c)
	var lines []string
	for i, pid := range c.pids() {
		m := server.Memory(pid)
		share := 100 * (after[i] - before[i]).Seconds() / o.idle.Seconds()
		lines = append(lines, fmt.Sprintf("%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f", name, m["VmRSS"]/1e6, m["RssAnon"]/1e6, m["RssFile"]/1e6, m["VmHWM"]/1e6, share))
	}
	for i, line := range lines {
		ready := ""
		if i == len(lines)-1 && o.starts > 0 {
			if ready, err = o.starting(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t\n", line, ready, server.Load())
	}
	return nil
}

// starting is how soon a server is ready, in ms: the median, the least and the most.
func (o options) starting(ctx context.Context, c cluster) (string, error) {
	var took []time.Duration
	for range o.starts {
		if err := c.restart(ctx); err != nil {
			return "", err
		}
		begun := time.Now()
		for c.ready(ctx) != nil {
			if time.Since(begun) > time.Minute || ctx.Err() != nil {
				return "", errors.Join(errors.New("it is not ready within a minute"), ctx.Err())
			}
			time.Sleep(time.Millisecond)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return fmt.Sprintf("%d (%d to %d)", took[len(took)/2].Milliseconds(), took[0].Milliseconds(), took[len(took)-1].Milliseconds()), nil
}

func used(c cluster) []time.Duration {
	var all []time.Duration
	for _, pid := range c.pids() {
		all = append(all, server.Used(pid))
	}
	return all
}

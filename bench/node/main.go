// Command node measures what a node costs that has nothing to do: three nodes of the
// built binary find each other on this machine and are left alone, and then their resident memory and
// their use of the processor are read from /proc. See ../README.md.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"orrery/bench/internal/nodes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	binary := flag.String("orrery", "bin/orrery", "the orrery binary")
	idle := flag.Duration("idle", 20*time.Second, "how long the nodes are left alone")
	dir := flag.String("dir", "", "where to work, on a disk (default: a temporary folder)")
	flag.Parse()
	if err := run(ctx, *binary, *dir, *idle, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, dir string, idle time.Duration, out io.Writer) (err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if dir, err = os.MkdirTemp(dir, "orrery-bench-node-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	cluster, err := nodes.Start(ctx, binary, dir, "one", "two", "three")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	fmt.Fprintf(out, "three nodes made a cluster in %s\n", time.Since(began).Round(time.Millisecond))
	before, err := processors(cluster)
	if err != nil {
		return err
	}
	select {
	case <-time.After(idle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := processors(cluster)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "node\tRSS MB\tof it anonymous MB\tpeak RSS MB\tidle processor %\t")
	for i, n := range cluster.Nodes {
		m, err := readMemory(n.PID)
		if err != nil {
			return err
		}
		share := 100 * (after[i] - before[i]).Seconds() / idle.Seconds()
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.1f\t%.2f\t\n", n.Name, m["VmRSS"], m["RssAnon"], m["VmHWM"], share)
	}
	return table.Flush()
}

// readMemory reads the amounts of memory in /proc/PID/status, in MB.
func readMemory(pid int) (map[string]float64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	found := map[string]float64{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if amount, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			n, err := strconv.ParseFloat(amount, 64)
			if err != nil {
				return nil, err
			}
			found[name] = n * 1024 / 1e6
		}
	}
	return found, lines.Err()
}

// tick is the unit of the times in /proc/PID/stat, which is the same on all architectures.
const tick = 10 * time.Millisecond

// processors reads how long each node has used a processor.
func processors(c *nodes.Cluster) ([]time.Duration, error) {
	used := make([]time.Duration, len(c.Nodes))
	for i, n := range c.Nodes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID))
		if err != nil {
			return nil, err
		}
		// What comes after the name, which is in brackets, begins with the state, the third field.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 13 {
			return nil, fmt.Errorf("/proc/%d/stat is not as expected", n.PID)
		}
		for _, field := range fields[11:13] { // user and system
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			used[i] += time.Duration(ticks) * tick
		}
	}
	return used, nil
}

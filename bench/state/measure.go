package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// usage is what a process used, with the children that it waited for.
type usage struct {
	wall, cpu time.Duration
	rss       int64 // peak of the largest process, in bytes
}

// shell carries out a line of sh. Variables are given by name, so that nothing in it is quoted.
func (b *bench) shell(script string, variables ...string) (usage, error) {
	cmd := exec.CommandContext(b.ctx, "/bin/bash", "-euc", "set -o pipefail; "+script)
	cmd.Env = append(os.Environ(), variables...)
	return measured(cmd)
}

// command runs the program under measurement in a folder of its own.
func (b *bench) command(dir string, args ...string) (usage, error) {
	cmd := exec.CommandContext(b.ctx, b.orrery, args...)
	cmd.Env = append(os.Environ(), "ORRERY_DIR="+dir)
	return measured(cmd)
}

func measured(cmd *exec.Cmd) (usage, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return usage{}, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, errs.Bytes())
	}
	u := usage{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rss = r.Maxrss << 10
	}
	return u, nil
}

// best repeats something and returns the run with the least wall time.
func best(times int, do func() (usage, error)) (usage, error) {
	var least usage
	for range times {
		u, err := do()
		if err != nil {
			return u, err
		}
		if least.wall == 0 || u.wall < least.wall {
			least = u
		}
	}
	return least, nil
}

// diskSize is what the files below a folder take, each as often as it has names.
func diskSize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// table prints rows as they come, and one header.
type table struct{ w *tabwriter.Writer }

func newTable(title string) *table {
	fmt.Fprintf(os.Stdout, "\n## %s (load %s)\n", title, load())
	t := &table{tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w, "work\twall s\tCPU s\tpeak MB\tdisk MB")
	return t
}

func (t *table) row(what string, u usage, disk int64) {
	size := "-"
	if disk >= 0 {
		size = fmt.Sprintf("%.2f", float64(disk)/1e6)
	}
	fmt.Fprintf(t.w, "%s\t%.3f\t%.3f\t%d\t%s\n", what, u.wall.Seconds(), u.cpu.Seconds(), u.rss>>20, size)
}

func (t *table) end() error { return t.w.Flush() }

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// until waits for a condition, looking often.
func until(ctx context.Context, holds func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !holds() {
		select {
		case <-limit.Done():
			return limit.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Command move measures how long a writer waits while a service moves between
// two nodes with its SQLite database, for databases of several sizes: three nodes of
// the built binary on this machine, one writer through the router. After the
// moves every acknowledged note must be there, once. See ../README.md.
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
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"orrery/bench/internal/nodes"
)

type options struct {
	orrery string
	notes  string
	dir    string
	sizes  []int
	moves  int
	steps  bool
	pause  time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	sizes := flag.String("sizes", "20,200,1000", "sizes of the databases in MB")
	flag.StringVar(&o.orrery, "orrery", "bin/orrery", "the orrery binary")
	flag.StringVar(&o.notes, "notes", "examples/observatory/bin/notes", "the notes binary of the observatory")
	flag.StringVar(&o.dir, "dir", "", "where to work, on a disk (default: a temporary folder)")
	flag.IntVar(&o.moves, "moves", 5, "moves of each database, of which the first carries it whole")
	flag.DurationVar(&o.pause, "every", 0, "time between two writes; 0: as fast as they are acknowledged")
	flag.BoolVar(&o.steps, "steps", false, "print the duration of each action of each move instead of the bytes moved")
	flag.Parse()
	err := o.parse(*sizes)
	if err == nil {
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "move:", err)
		stop()
		os.Exit(1)
	}
}

func (o *options) parse(sizes string) (err error) {
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil || n < 1 {
			return fmt.Errorf("size %q is not a number of MB", size)
		}
		o.sizes = append(o.sizes, n)
	}
	if o.orrery, err = filepath.Abs(o.orrery); err != nil {
		return err
	}
	o.notes, err = filepath.Abs(o.notes)
	return err
}

// run measures each size on a cluster of its own.
func run(ctx context.Context, o options, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "database MB\tmove\twriter's pause ms\trequests held ms\tlongest sync ms\tmoved MB\tbefore and after the pause s\tload\t")
	for _, size := range o.sizes {
		moves, err := measure(ctx, o, size, out)
		if err != nil {
			return fmt.Errorf("%d MB: %w", size, err)
		}
		for i, m := range moves {
			m.print(table, size, strconv.Itoa(i+1))
		}
		if len(moves) > 1 {
			median(moves[1:]).print(table, size, "median of 2...")
		}
	}
	return table.Flush()
}

// moved is what one move took.
type moved struct {
	writer time.Duration // the longest time from a write's beginning to its acknowledgement
	held   time.Duration // as the engine has it
	sync   time.Duration // the longest sync of a small file beside the databases
	bytes  int64
	rest   time.Duration // of the apply, outside held
	load   float64
}

func (m moved) print(w io.Writer, size int, name string) {
	fmt.Fprintf(w, "%d\t%s\t%d\t%d\t%d\t%.2f\t%.2f\t%.1f\t\n", size, name,
		m.writer.Milliseconds(), m.held.Milliseconds(), m.sync.Milliseconds(), float64(m.bytes)/1e6, m.rest.Seconds(), m.load)
}

// median is of each figure by itself.
func median(all []moved) moved {
	return moved{
		writer: middle(all, func(m moved) time.Duration { return m.writer }),
		held:   middle(all, func(m moved) time.Duration { return m.held }),
		sync:   middle(all, func(m moved) time.Duration { return m.sync }),
		bytes:  middle(all, func(m moved) int64 { return m.bytes }),
		rest:   middle(all, func(m moved) time.Duration { return m.rest }),
		load:   middle(all, func(m moved) float64 { return m.load }),
	}
}

func middle[T int64 | float64 | time.Duration](all []moved, figure func(moved) T) T {
	figures := make([]T, len(all))
	for i, m := range all {
		figures[i] = figure(m)
	}
	slices.Sort(figures)
	return figures[len(figures)/2]
}

// measure deploys a database of a size and moves it back and forth under load.
func measure(ctx context.Context, o options, size int, out io.Writer) (moves []moved, err error) {
	dir, err := os.MkdirTemp(o.dir, "orrery-bench-move-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cluster, err := nodes.Start(ctx, o.orrery, dir, "one", "two", "three")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	s := &service{cluster: cluster, dir: dir, notes: o.notes, out: out}
	if err := s.deploy(ctx, size); err != nil {
		return nil, err
	}
	acknowledged := map[string]bool{}
	for i := range o.moves {
		to := []string{"three", "two"}[i%2]
		m, err := s.moveUnderLoad(ctx, o, to, i, acknowledged)
		if err != nil {
			return nil, fmt.Errorf("move %d: %w", i+1, err)
		}
		moves = append(moves, m)
	}
	return moves, s.complete(ctx, acknowledged)
}

// moveUnderLoad moves the service while somebody writes to it.
func (s *service) moveUnderLoad(ctx context.Context, o options, to string, number int, acknowledged map[string]bool) (moved, error) {
	d := probeDisk(ctx, s.dir)
	w := startWriter(ctx, s.address, fmt.Sprintf("move %d", number), o.pause)
	outcome, took, err := s.move(ctx, to, o.steps)
	w.stop()
	d.stop()
	if err = errors.Join(err, w.failed, d.failed); err != nil {
		return moved{}, err
	}
	for _, key := range w.acknowledged {
		acknowledged[key] = true
	}
	held := outcome.Pauses[serviceName]
	return moved{writer: w.longest, held: held, sync: d.longest, bytes: outcome.Moved, rest: took - held, load: load()}, nil
}

// load is the machine's load average over a minute.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	n, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return n
}

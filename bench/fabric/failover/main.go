// Command failover measures for how long a cluster answers nothing after one of its nodes was killed: three nodes of the built orrery binary, of
// which the head, the middle and the tail of a chain are killed in turn, and three members of etcd, of which the leader is. See ../../README.md.
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

	"orrery/bench/internal/server"
)

type options struct {
	orrery, dir string
	rounds      int
	etcd        []int // failure timeouts in ms
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.orrery, "orrery", "bin/orrery", "the orrery binary; - for none")
	flag.StringVar(&o.dir, "dir", "", "where to work, on a disk (default: a temporary folder)")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each is killed")
	timeouts := flag.String("etcd", "1000,2000", "election timeouts of etcd, in ms: its default, and that of chains; empty: no etcd")
	flag.Parse()
	for t := range strings.SplitSeq(*timeouts, ",") {
		if t == "" {
			continue
		}
		n, err := strconv.Atoi(t)
		if err != nil {
			fmt.Fprintf(os.Stderr, "failover: %q is no time in ms\n", t)
			stop()
			os.Exit(2)
		}
		o.etcd = append(o.etcd, n)
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) (err error) {
	if o.dir, err = os.MkdirTemp(o.dir, "orrery-bench-failover-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	t := &table{rows: map[string][]outage{}}
	if o.orrery != "-" {
		binary, err := filepath.Abs(o.orrery)
		if err != nil {
			return err
		}
		if err := killChains(ctx, binary, filepath.Join(o.dir, "o"), o.rounds, t); err != nil {
			return err
		}
	}
	for _, timeout := range o.etcd {
		dir := filepath.Join(o.dir, fmt.Sprint("etcd-", timeout))
		if err := killEtcd(ctx, dir, timeout, o.rounds, t); err != nil {
			return err
		}
	}
	return t.print(out)
}

// table has what each kill did, by what was killed, in the order in which that happened first.
type table struct {
	names []string
	rows  map[string][]outage
}

func (t *table) add(name string, o outage) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, o)
	if !slices.Contains(t.names, name) {
		t.names = append(t.names, name)
	}
	t.rows[name] = append(t.rows[name], o)
}

func (t *table) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "killed\trounds\twithout writes\twithout strong reads\twithout strong reads of keys being written\tload")
	for _, name := range t.names {
		cells := []string{name, strconv.Itoa(len(t.rows[name]))}
		for k := range kinds {
			cells = append(cells, summary(t.rows[name], k))
		}
		fmt.Fprintln(w, strings.Join(append(cells, server.Load()), "\t"))
	}
	return w.Flush()
}

// summary is the median and the greatest of a kind.
func summary(all []outage, k kind) string {
	var d []time.Duration
	for _, o := range all {
		d = append(d, o[k])
	}
	slices.Sort(d)
	return fmt.Sprintf("%d (at most %d) ms", d[len(d)/2].Milliseconds(), d[len(d)-1].Milliseconds())
}

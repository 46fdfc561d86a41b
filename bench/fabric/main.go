// Command fabric measures chains beside etcd: three servers of each on this machine, the same number of clients, values of
// 256 bytes, every write synced to the disk, one after the other in one run. Leases are given by the nodes themselves here: there is no keeper.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"orrery/bench/internal/server"
	"orrery/internal/load"
)

var errMissing = errors.New("key is missing")

// store is one of those that are compared.
type store interface {
	client(ctx context.Context) (kv, error)
	servers() []*server.Process
	stop() error
}

type options struct {
	against string
	dir     string
	clients []int
	seconds float64
	keys    int
	value   int
	only    string
	profile string
	nats    string
	// replicas is how many nodes the chain has; quota is how many hundredths of a core each of its nodes may use, 0: all.
	replicas, quota int
	// durability is that of the chains' bucket; etcd has only one.
	durability string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveArgument {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "fabric:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	var clients string
	flag.StringVar(&o.against, "against", "etcd", "what to measure beside chains: etcd, nats (NATS JetStream KV, durable writes only), one (the same with one replica), plain (the same, where only the tail answers reads), or none")
	flag.StringVar(&o.dir, "dir", "", "where to keep the data, on a disk (default: a temporary folder here)")
	flag.StringVar(&clients, "clients", "1,16,64", "numbers of clients")
	flag.Float64Var(&o.seconds, "seconds", 3, "how long each measurement takes")
	flag.IntVar(&o.keys, "keys", 10000, "keys that are there at the beginning")
	flag.IntVar(&o.value, "value", 256, "bytes of a value")
	flag.StringVar(&o.only, "only", "reads,writes,mixes,hot,memory", "which measurements, also shared and the names of mixes: mix, A to F")
	flag.StringVar(&o.durability, "durability", "synced", "of the chains: synced, or replicated: writes are in the memory of all three when they are acknowledged, and on disks within 100 ms")
	flag.IntVar(&o.replicas, "replicas", 3, "replicas of the chain, each a node")
	flag.IntVar(&o.quota, "quota", 0, "hundredths of a core that each node of a chain may use (etcd is not limited); 0: all. Needs root")
	flag.StringVar(&o.nats, "nats", "nats-server", "the program of NATS; see bench/README.md")
	flag.StringVar(&o.profile, "profile", "", "write a profile of the clients to this file, and of the servers to FILE.0, .1 and .2")
	flag.Parse()
	if o.replicas < 1 || o.quota < 0 || o.quota > 0 && o.quota < 5 || !slices.Contains([]string{"etcd", "nats", "one", "plain", "none"}, o.against) {
		fmt.Fprintln(os.Stderr, "fabric: -replicas is 1 at least, -quota 5 at least, -against etcd, nats, one, plain or none")
		stop()
		os.Exit(2)
	}
	if o.against == "nats" && o.only != "writes" {
		fmt.Fprintln(os.Stderr, "fabric: with -against nats only durable writes can be compared: pass -only writes")
		stop()
		os.Exit(2)
	}
	if o.durability != "synced" && o.durability != "replicated" {
		fmt.Fprintf(os.Stderr, "fabric: there is no durability %q\n", o.durability)
		stop()
		os.Exit(2)
	}
	for c := range strings.SplitSeq(clients, ",") {
		n, err := strconv.Atoi(c)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "fabric: %q is no number of clients\n", c)
			stop()
			os.Exit(2)
		}
		o.clients = append(o.clients, n)
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fabric:", err)
		stop()
		os.Exit(1)
	}
}

func (o options) does(what string) bool { return slices.Contains(strings.Split(o.only, ","), what) }

func run(ctx context.Context, o options, out io.Writer) (err error) {
	if o.dir, err = os.MkdirTemp(cmpOr(o.dir, "."), "bench-fabric-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	b := &bench{options: o, table: tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)}
	defer func() { err = errors.Join(err, b.table.Flush()) }()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return b.run(ctx)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// bench compares stores.
type bench struct {
	options
	table *tabwriter.Writer
	names []string
	all   []store
}

func (b *bench) run(ctx context.Context) (err error) {
	defer func() {
		for _, s := range b.all {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := b.open(ctx, "chains", func() (store, error) { return startChains(ctx, b.dir, b.options, b.replicas, false) }); err != nil {
		return err
	}
	if err := b.openOther(ctx); err != nil {
		return err
	}
	b.line(append([]string{"work", "clients"}, append(b.names, "ratio", "load")...)...)
	for _, t := range b.tasks() {
		if err := b.compare(ctx, t.name, t.clients, t.connections, t.mix, t.hot); err != nil {
			return err
		}
	}
	if b.does("shared") {
		if err := b.shared(ctx); err != nil {
			return err
		}
	}
	if b.does("memory") {
		b.memory()
	}
	return nil
}

// openOther opens what the chains are compared with.
func (b *bench) openOther(ctx context.Context) error {
	switch b.against {
	case "one":
		return b.open(ctx, "one replica", func() (store, error) { return startChains(ctx, b.dir, b.options, 1, false) })
	case "plain":
		return b.open(ctx, "plain chain", func() (store, error) { return startChains(ctx, b.dir, b.options, b.replicas, true) })
	case "etcd":
		return b.open(ctx, "etcd", func() (store, error) { return startEtcd(ctx, b.dir) })
	case "nats":
		return b.open(ctx, "nats", func() (store, error) { return startNATS(ctx, b.dir, b.nats) })
	}
	return nil
}

// task is a line of the table.
type task struct {
	name                 string
	clients, connections int
	mix                  load.Mix
	hot                  string
}

// tasks are what was asked for.
func (b *bench) tasks() []task {
	var all []task
	plain := func(name string, m load.Mix) {
		for _, n := range b.clients {
			all = append(all, task{name + ", a connection each", n, n, m, ""})
		}
		all = append(all, task{name + ", one connection to each server", b.most(), 1, m, ""})
	}
	if b.does("reads") {
		plain("strong reads", load.Mix{Read: 100})
	}
	if b.does("writes") {
		plain(map[string]string{"synced": "durable writes", "replicated": "replicated writes"}[b.durability], load.Mix{Update: 100})
	}
	for _, m := range mixes {
		if b.does("mixes") || b.does(m.short) {
			all = append(all, task{m.name, b.most(), b.most(), m.Mix, ""})
		}
	}
	if b.does("hot") {
		connections := 1
		if b.quota > 0 { // what limits is to be the nodes, and one connection would let a single node answer more requests a system call
			connections = b.most()
		}
		for _, writes := range []int{0, 10, 25, 50, 75, 90, 100} {
			all = append(all, task{fmt.Sprintf("one key, %d%% writes", writes), b.most(), connections, load.Mix{Read: 100 - writes, Update: writes}, keyName(0)})
		}
	}
	return all
}

func (b *bench) most() int { return slices.Max(b.clients) }

func (b *bench) open(ctx context.Context, name string, begin func() (store, error)) error {
	begun := time.Now()
	s, err := begin()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: servers ready in %s\n", name, time.Since(begun).Round(time.Millisecond))
	b.names, b.all = append(b.names, name), append(b.all, s)
	return b.fill(ctx, s)
}

// fill writes the keys that are there at the beginning.
func (b *bench) fill(ctx context.Context, s store) error {
	c, err := s.client(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	l := &load.Load{Keys: b.keys, Value: make([]byte, b.value)}
	return l.Fill(ctx, slices.Repeat([]load.Store{c}, 64))
}

// compare runs a mix on each store, with clients that share so many connections.
func (b *bench) compare(ctx context.Context, name string, clients, connections int, m load.Mix, hot string) error {
	row := []string{name, strconv.Itoa(clients)}
	var figures []load.Figures
	for _, s := range b.all {
		f, err := b.measure(ctx, s, clients, connections, m, hot)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		figures = append(figures, f)
		row = append(row, cell(&f))
	}
	b.line(append(row, ratio(figures), server.Load())...)
	return ctx.Err()
}

// ratio is how much more the first store does than the second.
func ratio(f []load.Figures) string {
	if len(f) < 2 {
		return ""
	}
	return fmt.Sprintf("%.1fx", f[0].Rate(&f[0].All)/f[1].Rate(&f[1].All))
}

func (b *bench) measure(ctx context.Context, s store, clients, connections int, m load.Mix, hot string) (f load.Figures, err error) {
	open := make([]kv, connections)
	for i := range open {
		if open[i], err = s.client(ctx); err != nil {
			return f, err
		}
		defer func() { err = errors.Join(err, open[i].Close()) }()
	}
	l := &load.Load{Mix: m, Keys: b.keys, Value: make([]byte, b.value), Duration: time.Duration(b.seconds * float64(time.Second)), Hot: hot}
	for i := range l.Value {
		l.Value[i] = byte(i * 7)
	}
	all := make([]load.Store, clients)
	for i := range all {
		all[i] = open[i%connections]
		if err := all[i].Put(ctx, keyName(0), l.Value); err != nil { // it is connected
			return f, err
		}
	}
	own, theirs := server.Used(os.Getpid()), cpu(s)
	f = l.Run(ctx, all)
	own, theirs = server.Used(os.Getpid())-own, cpu(s)-theirs
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(max(1, f.All.Count)) }
	fmt.Fprintf(os.Stderr, "  processor: %.1f s of the clients, %.1f s of the servers; %.1f and %.1f µs an operation\n", own.Seconds(), theirs.Seconds(), each(own), each(theirs))
	return f, nil
}

func cpu(s store) time.Duration {
	var sum time.Duration
	for _, p := range s.servers() {
		sum += server.Used(p.PID())
	}
	return sum
}

// memory says how large the servers are after all that.
func (b *bench) memory() {
	row := []string{"resident memory of the servers, MiB", ""}
	for _, s := range b.all {
		var each []string
		for _, p := range s.servers() {
			each = append(each, fmt.Sprintf("%.0f", server.Memory(p.PID())["VmRSS"]/(1<<20)))
		}
		row = append(row, strings.Join(each, " "))
	}
	b.line(row...)
}

func (b *bench) line(cells ...string) {
	fmt.Fprintln(b.table, strings.Join(cells, "\t"))
	_ = b.table.Flush()
}

// Command membership measures how fast members find each other and notice a death, how many are taken for dead
// that are not, and what gossip costs: many nodes in this process, on loopback, first Orrery's and then memberlist with its
// own defaults for a LAN. Both encrypt. See ../../README.md.
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
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

type options struct {
	nodes   []int
	against string
	steady  time.Duration
	limit   time.Duration
	loss    int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	nodes := flag.String("nodes", "50,200", "numbers of nodes")
	flag.StringVar(&o.against, "against", "memberlist", "what to measure beside Orrery: memberlist, or none")
	flag.DurationVar(&o.steady, "steady", 20*time.Second, "how long a complete cluster is left alone")
	flag.DurationVar(&o.limit, "limit", time.Minute, "when to stop waiting for what does not happen")
	flag.IntVar(&o.loss, "loss", 0, "of a hundred datagrams, how many are lost")
	profile := flag.String("profile", "", "write a profile of the processor to this file")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "membership:", err)
			stop()
			os.Exit(1)
		}
		defer func() { pprof.StopCPUProfile(); _ = f.Close() }()
	}
	for text := range strings.SplitSeq(*nodes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 2 {
			fmt.Fprintf(os.Stderr, "membership: %q is no number of nodes\n", text)
			stop()
			os.Exit(2)
		}
		o.nodes = append(o.nodes, n)
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "membership:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	kinds := map[string]func(*sight, int) (node, error){"orrery": startOrrery, "memberlist": startMemberlist}
	names := []string{"orrery"}
	if o.against != "none" {
		if kinds[o.against] == nil {
			return fmt.Errorf("%q is unknown (use memberlist or none)", o.against)
		}
		names = append(names, o.against)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "nodes\twhat\tall see all, s\tthe median node\tjoining, kB a node\tbytes/s a node\tprocessor\tdeath: first\tmedian\tall know, s\tfalse deaths\tload")
	for _, n := range o.nodes {
		for _, name := range names {
			r, err := measure(ctx, o, n, kinds[name])
			if err != nil {
				return errors.Join(fmt.Errorf("%d nodes of %s: %w", n, name, err), w.Flush())
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%.0f\t%.0f\t%.2f %%\t%s\t%s\t%s\t%d\t%s\n", n, name, r.complete, r.median, r.joining/1000, r.rate, r.processor,
				r.first, r.half, r.all, r.lies, load())
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func load() string {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "-"
	}
	first, _, _ := strings.Cut(string(content), " ")
	return first
}

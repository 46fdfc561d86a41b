// Command router measures what a proxy in front of a service costs: the same client sends the same small
// requests directly to a service, through Orrery's router, through nginx and through Caddy, in
// alternating rounds on the same machine, each program in a process of its own. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"
)

type options struct {
	role        string
	backend     string
	nginx       string
	caddy       string
	rounds      int
	duration    time.Duration
	connections int
}

func main() {
	var o options
	flag.StringVar(&o.role, "role", "", "what this process is: service or router; empty: the measurement")
	flag.StringVar(&o.backend, "backend", "", "address of the service, for a router")
	flag.StringVar(&o.nginx, "nginx", "nginx", "nginx's binary; - leaves it out")
	flag.StringVar(&o.caddy, "caddy", "-", "Caddy's binary (go build in ./caddy); - leaves it out")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each is measured")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "length of one measurement")
	flag.IntVar(&o.connections, "c", 32, "connections of the client, kept alive")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch o.role {
	case "service":
		err = runService(ctx)
	case "router":
		err = runRouter(ctx, o.backend)
	default:
		err = measureAll(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// measureAll runs the rounds and prints medians.
func measureAll(ctx context.Context, o options) error {
	targets, stop, err := startAll(ctx, o)
	defer stop()
	if err != nil {
		return err
	}
	type figures struct{ rate, p50, p99, alone []float64 }
	all := make([]figures, len(targets))
	for round := range o.rounds {
		for i := range targets {
			// Each round begins with another one, so that a slow change of the machine's speed hits all alike.
			i = (i + round) % len(targets)
			busy, err := load(ctx, targets[i].address, o.connections, o.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", targets[i].name, err)
			}
			alone, err := load(ctx, targets[i].address, 1, o.duration/2)
			if err != nil {
				return fmt.Errorf("%s: %w", targets[i].name, err)
			}
			f := &all[i]
			f.rate = append(f.rate, busy.rate)
			f.p50, f.p99 = append(f.p50, busy.percentile(50)), append(f.p99, busy.percentile(99))
			f.alone = append(f.alone, alone.percentile(50))
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	fmt.Printf("medians of %d rounds of %v, %d connections (and 1 connection)\n\n", o.rounds, o.duration, o.connections)
	fmt.Printf("%-8s %10s %10s %10s %14s %14s\n", "", "requests/s", "p50 µs", "p99 µs", "p50 µs, 1 conn", "added µs, 1 conn")
	direct := median(all[0].alone)
	for i, t := range targets {
		f := all[i]
		fmt.Printf("%-8s %10.0f %10.0f %10.0f %14.0f %14.0f\n", t.name, median(f.rate), median(f.p50), median(f.p99), median(f.alone), median(f.alone)-direct)
	}
	fmt.Println()
	for i, t := range targets[2:] {
		fmt.Printf("orrery / %s: %.2fx the requests/s (median of the rounds' ratios)\n", t.name, ratio(all[1].rate, all[i+2].rate))
	}
	return nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// ratio compares round by round, so that what slowed a whole round down cancels out.
func ratio(a, b []float64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return median(ratios)
}

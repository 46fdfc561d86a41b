// Command infection shows how an event spreads: many nodes in one process, each with sockets and gossip of its own, as
// orrery/fabric/membership gives them to any program. One node broadcasts; who has it when is drawn on the terminal while it happens, and as
// a picture. The same with --kill for the news that nodes are dead, which nobody broadcasts.
//
//	go run ./examples/infection --nodes 64 --svg infection.svg
//	go run ./examples/infection --loss 0.25 --kill 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// options are what the command line says.
type options struct {
	nodes int
	kill  int
	loss  float64
	svg   string
	limit time.Duration // for each part
}

func main() {
	var o options
	flag.IntVar(&o.nodes, "nodes", 64, "how many nodes")
	flag.IntVar(&o.kill, "kill", 0, "how many nodes to kill afterwards, to see how that spreads")
	flag.Float64Var(&o.loss, "loss", 0, "the part of all datagrams that is lost, such as 0.25")
	flag.StringVar(&o.svg, "svg", "", "file to write the picture to")
	flag.DurationVar(&o.limit, "limit", 2*time.Minute, "give up after so long")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	screen := &screen{w: os.Stdout, live: term.IsTerminal(int(os.Stdout.Fd())), color: os.Getenv("NO_COLOR") == ""}
	if err := run(ctx, o, screen); err != nil {
		fmt.Fprintln(os.Stderr, "infection:", err)
		os.Exit(1) //nolint:gocritic // the deferred call only gives signals back
	}
}

func (o options) check() error {
	switch {
	case o.nodes < 2 || o.nodes > 512:
		return fmt.Errorf("--nodes %d: 2 to 512 are possible", o.nodes)
	case o.kill < 0 || o.kill > o.nodes-2:
		return fmt.Errorf("--kill %d: two nodes at least have to stay", o.kill)
	case o.loss < 0 || o.loss > 0.6:
		return fmt.Errorf("--loss %g: 0 to 0.6 are possible", o.loss)
	}
	return nil
}

// run does what the options say, and draws it.
func run(ctx context.Context, o options, screen *screen) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	s, err := start(ctx, o.nodes, o.loss)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	began := time.Now()
	if err := s.wait(ctx, o.limit, s.whole, nil); err != nil {
		return fmt.Errorf("not all nodes see all others: %w", err)
	}
	screen.say("%d nodes see each other after %.1f s%s\n", o.nodes, time.Since(began).Seconds(), lossNote(o.loss))
	if err := s.wait(ctx, o.limit, s.quiet(), nil); err != nil {
		return fmt.Errorf("the nodes do not come to rest: %w", err)
	}
	spreads := []*spread{}
	event, err := s.broadcast()
	if err != nil {
		return err
	}
	if err := s.follow(ctx, o.limit, event, screen); err != nil {
		return err
	}
	spreads = append(spreads, event)
	if o.kill > 0 {
		death, err := s.kill(o.kill)
		if err != nil {
			return err
		}
		if err := s.follow(ctx, o.limit, death, screen); err != nil {
			return err
		}
		spreads = append(spreads, death)
	}
	if o.svg == "" {
		return nil
	}
	return save(o.svg, func(w io.Writer) error { return draw(w, o, spreads) })
}

func lossNote(loss float64) string {
	if loss == 0 {
		return ""
	}
	return fmt.Sprintf(", with %g%% of all datagrams lost", loss*100)
}

func save(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

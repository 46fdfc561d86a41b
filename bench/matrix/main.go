// Command matrix measures a homeserver of this tree, another one beside it in the same run, or any that runs already (-url; it must let anybody register,
// and limit nobody). bench/README.md says how.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"orrery/bench/internal/server"
)

type options struct {
	binary, dendrite, url, database, only string
	senders, listeners, profile           string
	length                                time.Duration
	rooms, events, many, pollers, memory  int
}

func main() {
	var o options
	flag.StringVar(&o.binary, "homeserver", "bin/homeserver", "the homeserver's binary")
	flag.StringVar(&o.dendrite, "dendrite", "", "a folder with dendrite and generate-config; none: it is left out")
	flag.StringVar(&o.url, "url", "", "measure only the homeserver that runs there")
	flag.StringVar(&o.database, "database", "sqlite", "sqlite or postgresql")
	flag.StringVar(&o.only, "only", "people,send,photos,sync,many,idle", "what to measure")
	flag.StringVar(&o.senders, "senders", "1,8,32", "how many send at a time, line by line")
	flag.StringVar(&o.listeners, "listeners", "0,10", "how many listen to them")
	flag.StringVar(&o.profile, "profile", "", "a folder for a profile of the server's processor in each line")
	flag.DurationVar(&o.length, "for", 4*time.Second, "how long each line sends")
	flag.IntVar(&o.rooms, "rooms", 50, "rooms of the user whose first /sync is measured")
	flag.IntVar(&o.events, "events", 1000, "messages in each of them")
	flag.IntVar(&o.many, "many", 500, "rooms of another user; the server is also started with twice as many")
	flag.IntVar(&o.pollers, "pollers", 10_000, "clients that wait")
	flag.IntVar(&o.memory, "memory", 0, "run ours with so many MB of memory, in a control group; 0: as it is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func (o *options) run(ctx context.Context) (err error) {
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 65_536, Max: 65_536}) // for those who wait; servers inherit it
	if o.url != "" {
		return o.measure(ctx, &homeserver{name: o.url, url: o.url})
	}
	dir, err := os.MkdirTemp("", "bench-matrix-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the database's user passes through
		return err
	}
	database, peers := "sqlite:homeserver.db", ""
	var pg *server.PostgreSQL
	if o.database == "postgresql" {
		if pg, err = server.StartPostgreSQL(ctx, filepath.Join(dir, "pg")); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pg.Stop()) }()
		if database, err = pg.NewDatabase(ctx); err != nil {
			return err
		}
		if peers, err = pg.NewDatabase(ctx); err != nil {
			return err
		}
	}
	h, err := ours(ctx, o.binary, filepath.Join(dir, "ours"), database)
	if err != nil {
		return err
	}
	h.database = pg
	if o.memory > 0 {
		end, err := h.bounded(o.memory)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	if err := o.measure(ctx, h); err != nil || o.dendrite == "" {
		return err
	}
	if h, err = dendrite(ctx, o.dendrite, filepath.Join(dir, "dendrite"), peers); err != nil {
		return err
	}
	h.database = pg
	return o.measure(ctx, h)
}

func ms(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e6, 'f', 2, 64) }

// cpu is the processor time of each of what was done, the server's and its database's.
func (f *figures) cpu() string {
	s := ms(f.own / time.Duration(max(f.n, 1)))
	if f.database > 0 {
		s += "+" + ms(f.database/time.Duration(max(f.n, 1)))
	}
	return s + " ms CPU each"
}

func (o *options) has(what string) bool { return slices.Contains(strings.Split(o.only, ","), what) }

// measure starts a homeserver if it is one of ours to start, and prints what it reaches.
func (o *options) measure(ctx context.Context, h *homeserver) (err error) {
	fmt.Printf("%s, %s, load %s\n", h.name, o.database, server.Load())
	if h.command != nil {
		took, err := h.start(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.stop()) }()
		fmt.Printf("  first start to first answer %s ms; %s\n", ms(took), h.resident())
		if err := h.rest(ctx); err != nil {
			return err
		}
		fmt.Printf("  idle, after some requests: %s\n", h.resident())
		if took, err = h.again(ctx); err != nil {
			return err
		}
		fmt.Printf("  started again, to first answer %s ms\n", ms(took))
	}
	c, registered, joined, err := gather(ctx, h)
	if err != nil {
		return err
	}
	fmt.Printf("  register a user p50 %s ms, %s (our hash of a password alone: %s ms); join a room p50 %s ms, %s\n", ms(quantile(registered.each, .5)), registered.cpu(), ms(hashing()), ms(quantile(joined.each, .5)), joined.cpu())
	for _, part := range []struct {
		name string
		do   func(context.Context, *crowd) error
	}{{"send", o.send}, {"photos", o.photos}, {"sync", o.first}, {"many", o.manyRooms}, {"idle", o.waiting}} {
		if !o.has(part.name) {
			continue
		}
		if err := part.do(ctx, c); err != nil {
			return err
		}
		fmt.Printf("  %s, load %s\n", h.resident(), server.Load())
	}
	return nil
}

func (o *options) send(ctx context.Context, c *crowd) error {
	best := 0.0
	line := func(what string, senders, listeners int, rate float64) error {
		profiled := c.server.profile(ctx, o.profile, fmt.Sprintf("%d-%d%s", senders, listeners, strings.ReplaceAll(what, " ", "")), o.length)
		f, err := c.talk(ctx, senders, listeners, rate, o.length)
		if err := errors.Join(err, <-profiled); err != nil {
			return err
		}
		each := float64(f.n) / f.took.Seconds()
		if senders == 32 && listeners > 0 {
			best = each
		}
		fmt.Printf("  %s%2d senders, %2d listeners: %6.0f messages/s, p50 %s p99 %s ms, %s", what, senders, listeners, each, ms(quantile(f.each, .5)), ms(quantile(f.each, .99)), f.cpu())
		if listeners > 0 {
			fmt.Printf("; heard after p50 %s p99 %s ms (%d of %d)", ms(quantile(f.heard, .5)), ms(quantile(f.heard, .99)), len(f.heard), f.n*listeners)
		}
		fmt.Println()
		return nil
	}
	senders, listeners, err := numbers(o.senders, o.listeners)
	if err != nil {
		return err
	}
	for _, s := range senders {
		for _, l := range listeners {
			if err := line("", s, l, 0); err != nil {
				return err
			}
		}
	}
	if best == 0 {
		return nil
	}
	return line("half of that: ", 32, 10, best/2)
}

// numbers reads lists of numbers between commas.
func numbers(first, second string) (a, b []int, err error) {
	read := func(list string) (all []int) {
		for one := range strings.SplitSeq(list, ",") {
			n, e := strconv.Atoi(one)
			all, err = append(all, n), errors.Join(err, e)
		}
		return all
	}
	return read(first), read(second), err
}

func (o *options) first(ctx context.Context, c *crowd) error {
	token, err := c.register(ctx)
	if err == nil {
		err = c.fill(ctx, token, o.rooms, o.events)
	}
	if err != nil {
		return err
	}
	return o.initial(ctx, c, token, fmt.Sprintf("%d rooms of %d messages", o.rooms, o.events))
}

func (o *options) initial(ctx context.Context, c *crowd, token, what string) error {
	took, size, allocated, err := c.initial(ctx, token)
	if err == nil {
		fmt.Printf("  first /sync, %s: %s ms, %d kB", what, ms(took), size/1000)
		if allocated >= 0 {
			fmt.Printf(", %.1f MB allocated", allocated)
		}
		fmt.Println()
	}
	return err
}

func (o *options) manyRooms(ctx context.Context, c *crowd) error {
	token, err := c.register(ctx)
	if err == nil {
		err = c.fill(ctx, token, o.many, 1)
	}
	if err == nil {
		err = o.initial(ctx, c, token, fmt.Sprintf("%d rooms", o.many))
	}
	if err == nil {
		err = c.fill(ctx, c.tokens[0], o.many, 0)
	}
	if err != nil || c.server.command == nil {
		return err
	}
	c.http.CloseIdleConnections()
	took, err := c.server.again(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  start with more than %d rooms to first answer %s ms\n", 2*o.many, ms(took))
	return o.initial(ctx, c, token, fmt.Sprintf("%d rooms, right after the start", o.many))
}

func (o *options) waiting(ctx context.Context, c *crowd) error {
	f, resident, err := c.idle(ctx, o.pollers)
	if err != nil {
		return err
	}
	fmt.Printf("  %d clients wait: %s; a message is heard by all after p50 %s p99 %s ms\n", o.pollers, resident, ms(quantile(f.heard, .5)), ms(quantile(f.heard, .99)))
	return nil
}

// allocated is how many bytes the server has allocated so far; -1 if it does not say.
func (h *homeserver) allocated(ctx context.Context) (float64, error) {
	if h.metrics == "" {
		return -1, nil
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, h.metrics, nil)
	if err != nil {
		return 0, err
	}
	q.SetBasicAuth("metrics", "metrics")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if n, ok := strings.CutPrefix(line, "go_memstats_alloc_bytes_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(n), 64)
		}
	}
	return 0, fmt.Errorf("%s does not say what is allocated", h.metrics)
}

// newKey is a signing key as Dendrite keeps it.
func newKey() (ed25519.PublicKey, []byte, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return public, pem.EncodeToMemory(&pem.Block{Type: "MATRIX PRIVATE KEY", Headers: map[string]string{"Key-ID": "ed25519:bench"}, Bytes: private.Seed()}), nil
}

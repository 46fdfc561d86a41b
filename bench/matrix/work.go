package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/argon2"
)

const members = 50

// crowd is people in one room.
type crowd struct {
	*client

	server *homeserver
	tokens []string
	room   string
}

// figures are what a piece of work took.
type figures struct {
	n             int
	took          time.Duration
	own, database time.Duration // processor
	each          []time.Duration
	heard         []time.Duration
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(float64(len(all)-1)*q)]
}

// measured does something n times, some at a time.
func (c *crowd) measured(n, workers int, do func(i int) error) (figures, error) {
	f := figures{n: n}
	own, database := c.server.used()
	begun := time.Now()
	var next atomic.Int64
	var mu sync.Mutex
	var failed error
	var work sync.WaitGroup
	for range workers {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				at := time.Now()
				err := do(i)
				mu.Lock()
				f.each, failed = append(f.each, time.Since(at)), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	work.Wait()
	f.took = time.Since(begun)
	nowOwn, nowDatabase := c.server.used()
	f.own, f.database = nowOwn-own, nowDatabase-database
	return f, failed
}

// gather registers people, and lets them join one room.
func gather(ctx context.Context, h *homeserver) (c *crowd, registered, joined figures, err error) {
	c = &crowd{client: newClient(h.url), server: h, tokens: make([]string, members)}
	registered, err = c.measured(members, 1, func(i int) (err error) {
		c.tokens[i], err = c.register(ctx)
		return err
	})
	if err != nil {
		return c, registered, joined, err
	}
	if c.room, err = c.create(ctx, c.tokens[0]); err != nil {
		return c, registered, joined, err
	}
	joined, err = c.measured(members-1, 1, func(i int) error {
		_, err := c.ask(ctx, c.tokens[i+1], "POST", "join/"+c.room, struct{}{}, nil)
		return err
	})
	return c, registered, joined, err
}

// talk lets some send for a time, while others listen; a rate of 0 is as fast as they can.
func (c *crowd) talk(ctx context.Context, senders, listeners int, rate float64, length time.Duration) (f figures, err error) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var heard []time.Duration
	var failed error
	var ears, mouths sync.WaitGroup
	for i := range listeners {
		ears.Go(func() {
			err := c.listen(listening, c.tokens[members-1-i], func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				heard = append(heard, d)
			})
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	own, database := c.server.used()
	begun := time.Now()
	for s := range senders {
		mouths.Go(func() {
			for i := 0; time.Since(begun) < length; i++ {
				if rate > 0 {
					time.Sleep(time.Until(begun.Add(time.Duration((float64(i) + float64(s)/float64(senders)) * float64(senders) / rate * float64(time.Second)))))
				}
				at := time.Now()
				err := c.send(ctx, c.tokens[s], c.room)
				mu.Lock()
				f.each, failed = append(f.each, time.Since(at)), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	mouths.Wait()
	f.n, f.took = len(f.each), time.Since(begun)
	for end := time.Now().Add(5 * time.Second); listeners > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		mu.Lock()
		all := len(heard) >= f.n*listeners
		mu.Unlock()
		if all {
			break
		}
	}
	nowOwn, nowDatabase := c.server.used()
	f.own, f.database = nowOwn-own, nowDatabase-database
	stop()
	ears.Wait()
	f.heard = heard
	return f, failed
}

// fill makes rooms of one user with messages, some at a time.
func (c *crowd) fill(ctx context.Context, token string, rooms, events int) error {
	_, err := c.measured(rooms, 8, func(int) error {
		room, err := c.create(ctx, token)
		for i := 0; i < events && err == nil; i++ {
			err = c.send(ctx, token, room)
		}
		return err
	})
	return err
}

// initial is a first /sync, some times: the fastest, the answer's size, and what the server allocated for each in MB (-1: it does not say).
func (c *crowd) initial(ctx context.Context, token string) (time.Duration, int, float64, error) {
	filter := url.QueryEscape(`{"room":{"timeline":{"limit":20},"state":{"lazy_load_members":true}}}`)
	before, err := c.server.allocated(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	const times = 3
	size := 0
	f, err := c.measured(times, 1, func(int) (err error) {
		size, err = c.ask(ctx, token, "GET", "sync?filter="+filter, nil, nil)
		return err
	})
	if err != nil {
		return 0, 0, 0, err
	}
	after, err := c.server.allocated(ctx)
	each := (after - before) / times / 1e6
	if before < 0 {
		each = -1
	}
	return slices.Min(f.each), size, each, err
}

// ear is one of many who wait, with a connection and no more, so that what is measured is the server.
func (c *crowd) ear(ctx context.Context, token, since string, heard func(time.Duration)) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(c.base, "http://"))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for ctx.Err() == nil {
		out, err := next(conn, in, token, since)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		out.each(heard)
		since = out.Next
	}
	return nil
}

// next waits for what is new.
func next(conn net.Conn, in *bufio.Reader, token, since string) (out synced, err error) {
	if _, err := fmt.Fprintf(conn, "GET /_matrix/client/v3/sync?timeout=120000&since=%s HTTP/1.1\r\nHost: bench.test\r\nAuthorization: Bearer %s\r\n\r\n", since, token); err != nil {
		return out, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return out, err
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return out, err
	}
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("sync: %s: %s", resp.Status, text)
	}
	return out, json.Unmarshal(text, &out)
}

// idle lets many wait at the same time, and sends a few messages that all of them hear.
func (c *crowd) idle(ctx context.Context, n int) (heard figures, resident string, err error) {
	listening, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var failed error
	var ears sync.WaitGroup
	var since []string
	for _, token := range c.tokens {
		var out synced
		if _, err := c.ask(ctx, token, "GET", "sync?timeout=0", nil, &out); err != nil {
			return heard, "", err
		}
		since = append(since, out.Next)
	}
	for i := range n {
		ears.Go(func() {
			err := c.ear(listening, c.tokens[i%members], since[i%members], func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				heard.heard = append(heard.heard, d)
			})
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	const messages = 3
	time.Sleep(time.Duration(n) * time.Millisecond) // so long it takes until all wait
	for i := range messages {
		if err := c.send(ctx, c.tokens[0], c.room); err != nil {
			return heard, "", err
		}
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			all := len(heard.heard) >= (i+1)*n
			mu.Unlock()
			if all {
				break
			}
		}
	}
	resident = c.server.resident()
	stop()
	ears.Wait()
	if len(heard.heard) < messages*n {
		failed = errors.Join(failed, fmt.Errorf("%d of %d deliveries came", len(heard.heard), messages*n))
	}
	return heard, resident, failed
}

// hashing is the processor time of one hash of a password as our server makes it (matrix/account), here, where nothing else is done meanwhile.
func hashing() time.Duration {
	const times = 10
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	for range times {
		argon2.IDKey([]byte("a password"), make([]byte, 16), 2, 19<<10, 1, 32)
	}
	return (used() - before) / times
}

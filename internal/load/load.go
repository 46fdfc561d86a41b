// Package load lets clients of a store of keys work, each as soon as it has its answer, and says how fast that was. Mixes of operations are as YCSB
// has them (Cooper et al., SoCC 2010). It belongs to no store: bench/fabric compares several, and orrery kv bench measures a user's own.
package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Store is one client of a store. Each is used by one worker at a time unless it is given twice.
type Store interface {
	Get(ctx context.Context, key string) error
	Put(ctx context.Context, key string, value []byte) error
	// Scan reads keys from one on, limit at the most.
	Scan(ctx context.Context, from string, limit int) error
}

// Mix is what clients do, as shares of all that they do.
type Mix struct {
	Read, Update, Insert, Scan int
	Replace                    int  // read a key, then write it
	Latest                     bool // reads prefer what was inserted last
	Zipf                       bool // some keys are asked for much more often than others, with exponent 0.99
}

func (m Mix) sum() int { return m.Read + m.Update + m.Insert + m.Scan + m.Replace }

// Operation is a kind of what clients do, as far as figures tell it apart.
type Operation int

// The operations. Updates and inserts are writes.
const (
	Read Operation = iota
	Write
	Scan
	Replace
	operations
)

func (o Operation) String() string { return [...]string{"read", "write", "scan", "replace"}[o] }

// Load runs a mix.
type Load struct {
	Mix      Mix
	Prefix   string // of all keys
	Keys     int    // that are there at the beginning, from Key(0)
	Value    []byte // of all writes
	Duration time.Duration
	Hot      string // all operations are on this key, unless it is empty

	inserted     atomic.Int64 // that were begun
	acknowledged window       // of these, all up to which there are
}

// Key is the name of a key.
func (l *Load) Key(n int) string { return fmt.Sprintf("%suser%09d", l.Prefix, n) }

// Fill writes the keys that are there at the beginning.
func (l *Load) Fill(ctx context.Context, clients []Store) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var work sync.WaitGroup
	for _, c := range clients {
		work.Go(func() {
			for n := int(next.Add(1)) - 1; n < l.Keys && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				if err := c.Put(ctx, l.Key(n), l.Value); err != nil {
					cancel(err)
				}
			}
		})
	}
	work.Wait()
	return context.Cause(ctx)
}

// Run lets the clients work. What is under way at the end may take five more seconds.
func (l *Load) Run(ctx context.Context, clients []Store) Figures {
	ctx, cancel := context.WithTimeout(ctx, l.Duration+5*time.Second)
	defer cancel()
	begun := time.Now()
	all := make([]*worker, len(clients))
	var work sync.WaitGroup
	for i, c := range clients {
		w := &worker{load: l, client: c, random: rand.New(rand.NewPCG(uint64(i), 7))} //nolint:gosec // load
		if l.Mix.Zipf {
			w.zipf = newZipf(w.random, l.Keys)
		}
		all[i] = w
		work.Go(func() { w.run(ctx, begun.Add(l.Duration)) })
	}
	work.Wait()
	f := Figures{Took: time.Since(begun)}
	for _, w := range all {
		for o := range f.Each {
			f.Each[o].add(&w.times[o])
			f.All.add(&w.times[o])
		}
		f.Errors += w.errors
		if f.Err == nil {
			f.Err = w.err
		}
	}
	return f
}

// worker is one client at work.
type worker struct {
	load   *Load
	client Store
	random *rand.Rand
	zipf   *zipf
	times  [operations]Histogram
	errors int64
	err    error // the first one
}

func (w *worker) run(ctx context.Context, end time.Time) {
	for {
		begun := time.Now()
		if begun.After(end) || ctx.Err() != nil {
			return
		}
		o, err := w.one(ctx)
		if err == nil {
			w.times[o].observe(time.Since(begun))
			continue
		}
		if w.errors++; w.err == nil {
			w.err = err
		}
	}
}

func (w *worker) one(ctx context.Context) (Operation, error) {
	l := w.load
	n := w.random.IntN(l.Mix.sum())
	if n < l.Mix.Read {
		return Read, w.client.Get(ctx, w.key())
	}
	if n -= l.Mix.Read; n < l.Mix.Update {
		return Write, w.client.Put(ctx, w.key(), l.Value)
	}
	if n -= l.Mix.Update; n < l.Mix.Insert {
		return Write, w.insert(ctx)
	}
	if n -= l.Mix.Insert; n < l.Mix.Scan {
		return Scan, w.client.Scan(ctx, w.key(), 1+w.random.IntN(100))
	}
	key := w.key()
	if err := w.client.Get(ctx, key); err != nil {
		return Replace, err
	}
	return Replace, w.client.Put(ctx, key, l.Value)
}

func (w *worker) insert(ctx context.Context) error {
	n := w.load.inserted.Add(1)
	err := w.client.Put(ctx, w.load.Key(w.load.Keys+int(n)-1), w.load.Value)
	if err == nil {
		w.load.acknowledged.add(n)
	}
	return err
}

func (w *worker) key() string {
	if w.load.Hot != "" {
		return w.load.Hot
	}
	var n int
	if w.zipf != nil {
		n = w.zipf.next()
	} else {
		n = w.random.IntN(w.load.Keys)
	}
	if w.load.Mix.Latest { // of those that are there: an insert may take long while later ones are done
		n = max(0, w.load.Keys-1+int(w.load.acknowledged.upTo())-n)
	}
	return w.load.Key(n)
}

// window knows up to which number, from 1, all have been added.
type window struct {
	mu   sync.Mutex
	up   int64
	more map[int64]bool
}

func (w *window) add(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.more == nil {
		w.more = map[int64]bool{}
	}
	w.more[n] = true
	for w.more[w.up+1] {
		w.up++
		delete(w.more, w.up)
	}
}

func (w *window) upTo() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up
}

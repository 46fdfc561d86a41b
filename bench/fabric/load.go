package main

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// kv is one client of a store.
type kv interface {
	Get(ctx context.Context, key string) error // linearizable
	Put(ctx context.Context, key string, value []byte) error
	Scan(ctx context.Context, from string, limit int) error
	Close() error
}

// mix is what clients do, in hundredths.
type mix struct {
	name                                string
	short                               string // for -only
	read, update, insert, scan, replace int    // replace: read, then write what was read
	latest                              bool   // reads prefer what was inserted last
	zipf                                bool
}

var mixes = []mix{
	{name: "60% read 25% update 10% insert 5% scan", short: "mix", read: 60, update: 25, insert: 10, scan: 5},
	{name: "YCSB A: 50% read 50% update", short: "A", read: 50, update: 50, zipf: true},
	{name: "YCSB B: 95% read 5% update", short: "B", read: 95, update: 5, zipf: true},
	{name: "YCSB C: read only", short: "C", read: 100, zipf: true},
	{name: "YCSB D: 95% read of the latest 5% insert", short: "D", read: 95, insert: 5, latest: true, zipf: true},
	{name: "YCSB E: 95% scan 5% insert", short: "E", scan: 95, insert: 5, zipf: true},
	{name: "YCSB F: 50% read 50% read-modify-write", short: "F", read: 50, replace: 50, zipf: true},
}

// load runs a mix.
type load struct {
	mix     mix
	keys    int // that are there at the beginning
	value   []byte
	seconds float64
	hot     string // all operations on this key

	inserted atomic.Int64
}

// figures are what was measured.
type figures struct {
	rate     float64 // operations a second
	p50, p99 time.Duration
	errors   int64
	reads    float64 // of rate, reads
}

func (f figures) String() string {
	s := fmt.Sprintf("%.0f/s %s/%s ms", f.rate, millis(f.p50), millis(f.p99))
	if f.errors > 0 {
		s += fmt.Sprintf(" (%d errors)", f.errors)
	}
	return s
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e6) }

// run lets the clients work, each as soon as it has its answer.
func (l *load) run(ctx context.Context, clients []kv) figures {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(l.seconds*1e9)+5*time.Second)
	defer cancel()
	end := time.Now().Add(time.Duration(l.seconds * 1e9))
	all := make([]*worker, len(clients))
	var work sync.WaitGroup
	begun := time.Now()
	for i, c := range clients {
		w := &worker{load: l, client: c, random: rand.New(rand.NewPCG(uint64(i), 7))} //nolint:gosec // load
		if l.mix.zipf {
			w.zipf = newZipf(w.random, l.keys)
		}
		all[i] = w
		work.Go(func() { w.run(ctx, end) })
	}
	work.Wait()
	took := time.Since(begun).Seconds()
	var sum histogram
	var f figures
	for _, w := range all {
		sum.add(&w.times)
		f.errors += w.errors
		f.reads += float64(w.reads) / took
	}
	f.rate = float64(sum.count) / took
	f.p50, f.p99 = sum.quantile(0.5), sum.quantile(0.99)
	return f
}

// worker is one client at work.
type worker struct {
	load   *load
	client kv
	random *rand.Rand
	zipf   *zipf
	times  histogram
	errors int64
	reads  int64
}

func (w *worker) run(ctx context.Context, end time.Time) {
	for {
		begun := time.Now()
		if begun.After(end) || ctx.Err() != nil {
			return
		}
		if err := w.one(ctx); err != nil {
			w.errors++
			continue
		}
		w.times.observe(time.Since(begun))
	}
}

func (w *worker) one(ctx context.Context) error {
	l := w.load
	n := w.random.IntN(100)
	if n < l.mix.read {
		w.reads++
		return w.client.Get(ctx, w.key())
	}
	if n -= l.mix.read; n < l.mix.update {
		return w.client.Put(ctx, w.key(), l.value)
	}
	if n -= l.mix.update; n < l.mix.insert {
		return w.client.Put(ctx, keyName(l.keys+int(l.inserted.Add(1))), l.value)
	}
	if n -= l.mix.insert; n < l.mix.scan {
		return w.client.Scan(ctx, w.key(), 1+w.random.IntN(100))
	}
	key := w.key()
	if err := w.client.Get(ctx, key); err != nil {
		return err
	}
	return w.client.Put(ctx, key, l.value)
}

func (w *worker) key() string {
	if w.load.hot != "" {
		return w.load.hot
	}
	var n int
	if w.zipf != nil {
		n = w.zipf.next()
	} else {
		n = w.random.IntN(w.load.keys)
	}
	if w.load.mix.latest {
		newest := w.load.keys + int(w.load.inserted.Load()) - 100 // those being inserted are not there yet
		return keyName(max(0, newest-n))
	}
	return keyName(n)
}

func keyName(n int) string { return fmt.Sprintf("user%09d", n) }

// zipf draws numbers as YCSB does: the smaller the more often, with exponent 0.99.
type zipf struct {
	random                  *rand.Rand
	n                       float64
	alpha, zetan, eta, half float64
}

const theta = 0.99

var zetas sync.Map

func newZipf(random *rand.Rand, n int) *zipf {
	zeta := func(n int) float64 {
		if z, ok := zetas.Load(n); ok {
			return z.(float64) //nolint:forcetypeassert // nothing else is stored
		}
		sum := 0.0
		for i := 1; i <= n; i++ {
			sum += 1 / math.Pow(float64(i), theta)
		}
		zetas.Store(n, sum)
		return sum
	}
	z := &zipf{random: random, n: float64(n), alpha: 1 / (1 - theta), zetan: zeta(n), half: 1 + math.Pow(0.5, theta)}
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - zeta(2)/z.zetan)
	return z
}

func (z *zipf) next() int {
	u := z.random.Float64()
	uz := u * z.zetan
	switch {
	case uz < 1:
		return 0
	case uz < z.half:
		return 1
	}
	return min(int(z.n)-1, int(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)))
}

// histogram counts durations in steps of about 3%.
type histogram struct {
	count   int64
	buckets [64 * 32]int64
}

func (h *histogram) observe(d time.Duration) {
	h.count++
	h.buckets[bucketOf(uint64(max(1, d)))]++ //nolint:gosec // positive
}

func bucketOf(n uint64) int {
	exponent := bits.Len64(n) - 1
	if exponent < 5 {
		return int(n) //nolint:gosec // small
	}
	return exponent*32 + int(n>>(exponent-5)&31) //nolint:gosec // small
}

func (h *histogram) add(o *histogram) {
	h.count += o.count
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

func (h *histogram) quantile(q float64) time.Duration {
	left := int64(q * float64(h.count))
	for i, n := range h.buckets {
		if left -= n; left < 0 {
			if i < 160 {
				return time.Duration(i)
			}
			return time.Duration(uint64(32+i%32) << (i/32 - 5)) //nolint:gosec // small
		}
	}
	return 0
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric/chain"
	"orrery/fabric/client"
	"orrery/internal/commandline"
	"orrery/internal/load"
)

// keyBench is what orrery kv bench is asked for.
type keyBench struct {
	reading
	read, write, scan   int // shares
	clients, keys, size int
	duration            time.Duration
	zipf                bool
}

func (c *cli) kvBench() *cobra.Command {
	var k keyBench
	cmd := &cobra.Command{
		Use:   "bench BUCKET",
		Short: "Measure how fast keys are read and written",
		Long: `Clients of this machine read and write keys of their own in the bucket, each as soon as it has its answer, and share the connections of one program.
The keys begin with orrery-bench/ and are deleted in the end; of a bucket with several partitions the one that has them is measured. Writes go to the disks of all replicas, as always: it is work for the cluster and for who uses it meanwhile.`,
		Args:              commandline.Exactly("BUCKET"),
		ValidArgsFunction: first(c.completeBuckets()),
		PreRunE:           func(*cobra.Command, []string) error { return k.check() },
		RunE: c.onNode(func(ctx context.Context, node *agent.Client, args []string) (err error) {
			keys, err := node.Keys(ctx, c.dir)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, keys.Close()) }()
			f, err := k.run(ctx, keys.Bucket(args[0]))
			if err != nil {
				return fmt.Errorf("cannot measure bucket %s: %w", args[0], err)
			}
			return c.benched(args[0], &k, f)
		}),
	}
	flags := cmd.Flags()
	flags.IntVar(&k.read, "read", 50, "share of reads")
	flags.IntVar(&k.write, "write", 50, "share of writes")
	flags.IntVar(&k.scan, "scan", 0, "share of scans of up to 100 keys")
	flags.IntVar(&k.clients, "clients", 16, "how many clients work at a time")
	flags.IntVar(&k.keys, "keys", 1000, "how many keys there are")
	flags.IntVar(&k.size, "size", 256, "bytes of a value")
	flags.DurationVar(&k.duration, "duration", 10*time.Second, "how long to measure")
	flags.BoolVar(&k.zipf, "zipf", false, "ask for some keys much more often than for others")
	k.flags(cmd)
	return cmd
}

// check says what is wrong with the flags.
func (k *keyBench) check() error {
	switch {
	case min(k.read, k.write, k.scan) < 0 || k.read+k.write+k.scan == 0:
		return commandline.Usage(errors.New("--read, --write and --scan are shares, of which one is more than 0 and none less"))
	case k.clients < 1 || k.clients > 10000 || k.keys < 1:
		return commandline.Usage(errors.New("--clients is 1 to 10000, and --keys 1 at least"))
	case k.size < 0 || k.size > chain.MaxValue:
		return commandline.Usage(fmt.Errorf("--size is 0 to %d", chain.MaxValue))
	case k.duration <= 0:
		return commandline.Usage(errors.New("--duration is more than 0"))
	}
	return nil
}

// run fills, measures and cleans up, also if it is interrupted.
func (k *keyBench) run(ctx context.Context, b *client.Bucket) (f load.Figures, err error) {
	var id [8]byte
	_, _ = rand.Read(id[:])
	l := &load.Load{
		Mix:    load.Mix{Read: k.read, Update: k.write, Scan: k.scan, Zipf: k.zipf},
		Prefix: "orrery-bench/" + hex.EncodeToString(id[:]) + "/", Keys: k.keys, Value: make([]byte, k.size), Duration: k.duration,
	}
	_, _ = rand.Read(l.Value) // what does not compress
	clients := slices.Repeat([]load.Store{benchStore{b, k.option()}}, k.clients)
	defer func() {
		if left := dropPrefix(context.WithoutCancel(ctx), b, l.Prefix); left != nil {
			err = errors.Join(err, fmt.Errorf("keys that begin with %s are left: %w", l.Prefix, left))
		}
	}()
	if err := l.Fill(ctx, clients); err != nil {
		return f, err
	}
	f = l.Run(ctx, clients)
	if f.All.Count == 0 && f.Err != nil {
		return f, f.Err
	}
	return f, ctx.Err()
}

// dropPrefix deletes all keys that begin so, in a minute at the most.
func dropPrefix(ctx context.Context, b *client.Bucket, prefix string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s := span{prefix: prefix}
	var writes []chain.Write
	for item, err := range b.Scan(ctx, s.keys()) {
		if err != nil {
			return err
		}
		if writes = append(writes, chain.Write{Op: chain.OpDelete, Key: item.Key}); len(writes) == chain.MaxWrites {
			if err := b.Batch(ctx, writes); err != nil {
				return err
			}
			writes = writes[:0]
		}
	}
	return b.Batch(ctx, writes)
}

// benchStore is a bucket as the load wants it.
type benchStore struct {
	bucket *client.Bucket
	option client.ReadOption
}

var _ load.Store = benchStore{}

func (s benchStore) Get(ctx context.Context, key string) error {
	_, err := s.bucket.Get(ctx, []byte(key), s.option)
	return err
}

func (s benchStore) Put(ctx context.Context, key string, value []byte) error {
	_, err := s.bucket.Put(ctx, []byte(key), value)
	return err
}

func (s benchStore) Scan(ctx context.Context, from string, limit int) error {
	_, _, _, err := s.bucket.Page(ctx, chain.Range{Start: []byte(from)}, limit, s.option)
	return err
}

// benchLine is what was measured of an operation. Times are in milliseconds.
type benchLine struct {
	Operation string  `json:"operation"`
	Count     int64   `json:"count"`
	Rate      float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p999_ms"`
	Max       float64 `json:"max_ms"`
}

func lineOf(name string, f *load.Figures, h *load.Histogram) benchLine {
	at := func(q float64) float64 { return float64(h.Quantile(q).Microseconds()) / 1000 }
	return benchLine{name, h.Count, f.Rate(h), at(0.5), at(0.9), at(0.99), at(0.999), at(1)}
}

// benched prints what was measured.
func (c *cli) benched(bucket string, k *keyBench, f load.Figures) error {
	var lines []benchLine
	for o := range f.Each {
		if f.Each[o].Count > 0 {
			lines = append(lines, lineOf(load.Operation(o).String(), &f, &f.Each[o]))
		}
	}
	if len(lines) > 1 {
		lines = append(lines, lineOf("all", &f, &f.All))
	}
	rows := make([][]string, len(lines))
	for i, l := range lines {
		rows[i] = []string{l.Operation, strconv.FormatInt(l.Count, 10), fmt.Sprintf("%.0f", l.Rate)}
		for _, ms := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
			rows[i] = append(rows[i], fmt.Sprintf("%.2f", ms))
		}
	}
	all := map[string]any{
		"bucket": bucket, "clients": k.clients, "keys": k.keys, "size": k.size, "seconds": f.Took.Seconds(), "operations": lines, "errors": f.Errors,
	}
	if err := c.table(all, []string{"operation", "count", "per second", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"}, rows); err != nil {
		return err
	}
	if f.Errors > 0 {
		return fmt.Errorf("%d operations failed, the first one with: %w", f.Errors, f.Err)
	}
	return nil
}

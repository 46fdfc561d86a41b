package table

import (
	"context"
	"testing"
	"time"

	"orrery/fabric/table/disk"
)

// benchTable is one node on a real disk, or three in one process.
func benchTables(b *testing.B, n int) []*Table {
	b.Helper()
	net := newNetwork(1)
	var tables []*Table
	for i := range n {
		c := Config{Self: id(i), Transport: port{net, id(i)}, Tick: 50 * time.Millisecond}.withDefaults()
		d := disk.Config{Directory: b.TempDir()}
		if i == 0 {
			if err := createOn(c, "", d); err != nil {
				b.Fatal(err)
			}
		}
		table, err := open(c, d)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := table.Close(); err != nil {
				b.Error(err)
			}
		})
		net.plug(id(i), table)
		tables = append(tables, table)
		if err := tables[0].Add(b.Context(), id(i), ""); err != nil {
			b.Fatal(err)
		}
	}
	if err := tables[0].await(b.Context(), func(s Status) bool { return len(s.Voters) == n }); err != nil {
		b.Fatal(err)
	}
	return tables
}

func Benchmark(b *testing.B) {
	value := make([]byte, 256)
	for _, size := range []struct {
		name  string
		nodes int
	}{{"Nodes=1", 1}, {"Nodes=3", 3}} {
		tables := benchTables(b, size.nodes)
		if _, err := tables[0].Put(b.Context(), "key", value); err != nil {
			b.Fatal(err)
		}
		put := func(ctx context.Context) error { _, err := tables[0].Put(ctx, "key", value); return err }
		get := func(ctx context.Context) error { _, err := tables[size.nodes-1].Get(ctx, "key"); return err }
		for name, op := range map[string]func(context.Context) error{"Put": put, "Get": get} {
			b.Run(name+"/"+size.name+"/Clients=1", func(b *testing.B) {
				for b.Loop() {
					if err := op(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(name+"/"+size.name+"/Clients=64", func(b *testing.B) {
				b.SetParallelism(32)
				b.RunParallel(func(p *testing.PB) {
					for p.Next() {
						if err := op(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

package main

import (
	"fmt"
	"time"

	"orrery/internal/load"
)

// kv is one client of a store. Its reads are linearizable.
type kv interface {
	load.Store
	Close() error
}

// mixes are those of the table, with what -only calls each.
var mixes = []struct {
	short, name string
	load.Mix
}{
	{"mix", "60% read 25% update 10% insert 5% scan", load.Mix{Read: 60, Update: 25, Insert: 10, Scan: 5}},
	{"A", "YCSB A: 50% read 50% update", load.Mix{Read: 50, Update: 50, Zipf: true}},
	{"B", "YCSB B: 95% read 5% update", load.Mix{Read: 95, Update: 5, Zipf: true}},
	{"C", "YCSB C: read only", load.Mix{Read: 100, Zipf: true}},
	{"D", "YCSB D: 95% read of the latest 5% insert", load.Mix{Read: 95, Insert: 5, Latest: true, Zipf: true}},
	{"E", "YCSB E: 95% scan 5% insert", load.Mix{Scan: 95, Insert: 5, Zipf: true}},
	{"F", "YCSB F: 50% read 50% read-modify-write", load.Mix{Read: 50, Replace: 50, Zipf: true}},
}

// cell is what a line of the table says of a store.
func cell(f *load.Figures) string {
	s := fmt.Sprintf("%.0f/s %s/%s ms", f.Rate(&f.All), millis(f.All.Quantile(0.5)), millis(f.All.Quantile(0.99)))
	if f.Errors > 0 {
		s += fmt.Sprintf(" (%d errors)", f.Errors)
	}
	return s
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/1e6) }

// keyName is the name of a key that is there from the beginning.
func keyName(n int) string { return (&load.Load{}).Key(n) }

package disk_test

import (
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
)

// What is applied is there at once, by whatever way one looks, though only the log is in the database.
func TestRecentIsSeen(t *testing.T) {
	d, err := disk.Open(disk.Config{Directory: "db", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	s, err := d.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	sequence := uint64(0)
	apply := func(changes ...chain.Change) {
		t.Helper()
		sequence++
		e := chain.Entry{Epoch: 1, Sequence: sequence, Client: 1, Request: sequence, Floor: sequence, Result: chain.Result{Version: sequence}, Changes: changes}
		if err := s.Write(&disk.Batch{Append: []chain.Entry{e}, Apply: []chain.Entry{e}}); err != nil {
			t.Fatal(err)
		}
	}
	expired := func(time int64, want int) {
		t.Helper()
		if keys, err := s.Expired(time, 10); err != nil || len(keys) != want {
			t.Fatalf("%d keys expire at %d, %v", len(keys), time, err)
		}
	}
	apply(chain.Change{Key: []byte("k"), Value: []byte("v"), Expires: 10}, chain.Change{Key: []byte("other"), Value: []byte("v"), Expires: 20})
	expired(9, 0)
	expired(10, 1)
	apply(chain.Change{Key: []byte("k"), Value: []byte("w")}) // lasts now
	expired(10, 0)
	if v, ok, err := s.Get([]byte("k")); err != nil || !ok || string(v.Value) != "w" || v.Version != 2 {
		t.Fatalf("%+v, %v, %v", v, ok, err)
	}
	apply(chain.Change{Key: []byte("k"), Deleted: true})
	if v, ok, err := s.Get([]byte("k")); err != nil || ok {
		t.Fatalf("deleted, and has %+v, %v", v, err)
	}
	if r, known, _, err := s.Recall(1, 3); err != nil || !known || r.Version != 3 {
		t.Fatalf("%+v, %v, %v", r, known, err)
	}
	if first, last, n := keys(t, s); n != 1 || first != "other" || last != "other" {
		t.Fatalf("%d keys, %s to %s", n, first, last)
	}
	expired(20, 1)
}

// BenchmarkWrite is batches of 16 writes of 256 bytes, as a replica in the middle of a chain makes them, of 64 clients and 10000 keys, some of them hot.
func BenchmarkWrite(b *testing.B) {
	d, err := disk.Open(disk.Config{Directory: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	s, err := d.Open(1)
	if err != nil {
		b.Fatal(err)
	}
	sequence := uint64(0)
	value := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		var entries []chain.Entry
		for range 16 {
			sequence++
			n := sequence * 2654435761 % 10000
			if n%2 == 0 {
				n %= 100
			}
			entries = append(entries, chain.Entry{
				Epoch: 1, Sequence: sequence, Client: 1 + sequence%64, Request: sequence / 64, Floor: sequence / 64, Result: chain.Result{Version: sequence},
				Changes: []chain.Change{{Key: binary.BigEndian.AppendUint64(nil, n), Value: value}},
			})
		}
		if err := s.Write(&disk.Batch{Append: entries, Apply: entries}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sequence), "ns/write")
}

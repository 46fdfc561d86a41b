package sqlite

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"orrery/state"
)

// benchmarkRows is how many rows of 1,000 bytes the benchmarks' database has: 1 GB.
const benchmarkRows = 1_000_000

// BenchmarkGigabyte measures what matters for a database of 1 GB:
//
//	go test -run '^$' -bench Gigabyte -benchtime 3x ./state/module/sqlite
func BenchmarkGigabyte(b *testing.B) {
	m := New(nil)
	target := state.Target{
		Component: state.Component{Name: "big", Module: Name, Container: Name},
		Container: state.Container{Name: Name, Module: Name, Directory: b.TempDir()},
	}
	if err := m.Activate(b.Context(), target); err != nil {
		b.Fatal(err)
	}
	file := path(target)
	_, err := tryQuery(b.Context(), file, "CREATE TABLE note(id INTEGER PRIMARY KEY, text)",
		fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO note(text) SELECT randomblob(1000) FROM c", benchmarkRows),
		"PRAGMA wal_checkpoint(TRUNCATE)", "SELECT 1")
	if err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	measure := func(name string, bytes int64, do func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(bytes)
			before := cpu(b)
			for b.Loop() {
				do(b)
			}
			b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
	check := func(b *testing.B, err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	plain := func(b *testing.B, w io.Writer) {
		b.Helper()
		f, err := os.Open(file)
		check(b, err)
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, copyBuffer))
		check(b, err)
		check(b, f.Close())
	}
	measure("file", info.Size(), func(b *testing.B) { b.Helper(); plain(b, io.Discard) })
	measure("file-and-hash", info.Size(), func(b *testing.B) { b.Helper(); plain(b, sha256.New()) })
	measure("snapshot", info.Size(), func(b *testing.B) {
		b.Helper()
		check(b, m.Snapshot(b.Context(), target, io.Discard))
	})
	measure("fork", info.Size(), func(b *testing.B) {
		b.Helper()
		into := target
		into.Component.Name = "big@blue"
		_, err := m.Fork(b.Context(), target, into)
		check(b, err)
		check(b, m.CollectGarbage(b.Context(), into))
	})
	tracker, err := m.Track(b.Context(), target)
	if err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 1<<20)
	measure("image-after-100-updates", 0, func(b *testing.B) {
		b.Helper()
		b.StopTimer()
		_, err := tryQuery(b.Context(), file, fmt.Sprintf("UPDATE note SET text=randomblob(1000) WHERE id%%%d=5", benchmarkRows/100), "SELECT 1")
		check(b, err)
		b.StartTimer()
		began := time.Now()
		image, err := tracker.Image(b.Context())
		check(b, err)
		ranges, ok := image.Changed()
		for _, r := range ranges {
			_, err := image.ReadAt(buffer[:r.Length], r.Offset)
			check(b, err)
		}
		check(b, image.Close())
		b.Logf("%d ranges (%t) in %s", len(ranges), ok, time.Since(began))
	})
	check(b, tracker.Close())
	check(b, os.Rename(filepath.Clean(file), file+suffixStage))
	measure("commit", 0, func(b *testing.B) {
		b.Helper()
		s, err := m.NewStage(b.Context(), target)
		check(b, err)
		check(b, s.Commit(b.Context()))
		b.StopTimer()
		check(b, os.Rename(file, file+suffixStage))
		b.StartTimer()
	})
}

// cpu is the processor time that this process used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

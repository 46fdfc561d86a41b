package keeper

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/module/sqlite"
	"orrery/state/store"
)

// BenchmarkMove measures what a move does while requests are held (the last snapshot, staging it and committing), after
// 100 updates, for databases of different sizes. Both keepers share a store, so nothing is sent.
//
//	go test -run '^$' -bench Move -benchtime 1x ./state/keeper
func BenchmarkMove(b *testing.B) {
	for _, megabytes := range []int{20, 200, 1000} {
		b.Run(fmt.Sprintf("%dMB", megabytes), func(b *testing.B) {
			for b.Loop() {
				move(b, megabytes)
			}
		})
	}
}

func move(b *testing.B, megabytes int) {
	b.Helper()
	ctx := b.Context()
	step := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	folder := b.TempDir()
	s, err := store.Open(ctx, filepath.Join(folder, "store"), store.Options{})
	step(err)
	var keepers [2]machine
	for i := range keepers {
		k, err := Open(Config{Directory: filepath.Join(folder, fmt.Sprint(i)), Store: s, Modules: []state.Module{sqlite.New(nil)}})
		step(err)
		keepers[i] = machine{Keeper: k}
	}
	from, to := keepers[0], keepers[1]
	_, err = from.Activate(ctx, notes)
	step(err)
	from.exec(b, notesRef, "CREATE TABLE note(id INTEGER PRIMARY KEY, text)",
		fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO note(text) SELECT randomblob(1000) FROM c", megabytes*1000))
	step(from.Track(ctx, notesRef))
	began := time.Now()
	g, err := from.Snapshot(ctx, notesRef, "move")
	step(err)
	step(to.Stage(ctx, notes, g.Snapshot))
	b.ReportMetric(time.Since(began).Seconds(), "precopy-s")
	from.exec(b, notesRef, fmt.Sprintf("UPDATE note SET text=randomblob(1000) WHERE id%%%d=5", megabytes*10))
	began = time.Now()
	g, err = from.Snapshot(ctx, notesRef, "move")
	step(err)
	b.ReportMetric(time.Since(began).Seconds(), "last-snapshot-s")
	step(to.Stage(ctx, notes, g.Snapshot))
	step(from.Deactivate(ctx, notesRef))
	step(to.Commit(ctx, notesRef, g.Snapshot))
	_, err = to.Activate(ctx, notes)
	step(err)
	b.ReportMetric(time.Since(began).Seconds(), "pause-s")
	b.ReportMetric(float64(g.Stored), "stored-B")
}

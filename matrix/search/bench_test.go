package search_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/internal/testenv"
	"orrery/matrix/search"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/sqldb"
)

// wordless is a database whose transactions do not show that they have an index of texts.
type wordless struct{ table.DB }

func (d wordless) Update(ctx context.Context, f func(table.Tx) error) error {
	return d.DB.Update(ctx, func(tx table.Tx) error { return f(struct{ table.Tx }{tx}) })
}

func (d wordless) View(ctx context.Context, f func(table.Tx) error) error {
	return d.DB.View(ctx, func(tx table.Tx) error { return f(struct{ table.Tx }{tx}) })
}

// BenchmarkIndex indexes messages of some eight words in 50 rooms, 100 in a commit, and then looks for words in all rooms: one that a message in ten has, two such, a beginning
// of many, and one that is rare. Beside the time it says how much processor each message took, without that of a server of PostgreSQL. To fill it with 100,000: -benchtime 100000x.
func BenchmarkIndex(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) (table.DB, error){
		"SQLite": func(b *testing.B) (table.DB, error) {
			b.Helper()
			return sqldb.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "x.db"))
		},
		"SQLite-words": func(b *testing.B) (table.DB, error) {
			b.Helper()
			db, err := sqldb.Open(b.Context(), "sqlite:"+filepath.Join(b.TempDir(), "x.db"))
			return wordless{db}, err
		},
		"PostgreSQL": func(b *testing.B) (table.DB, error) {
			b.Helper()
			return sqldb.Open(b.Context(), testenv.PostgreSQL(b).NewDatabase(b, ""))
		},
		"Pebble": func(b *testing.B) (table.DB, error) {
			b.Helper()
			return pebbledb.Open(pebbledb.Config{Directory: b.TempDir()})
		},
	} {
		b.Run(name, func(b *testing.B) {
			db, err := open(b)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			if err := store.Open(b.Context(), db); err != nil {
				b.Fatal(err)
			}
			r := rand.New(rand.NewPCG(9, 9))
			var all [][]store.Words
			for i := range b.N {
				if i%100 == 0 {
					all = append(all, nil)
				}
				var text []string
				for range 8 {
					text = append(text, fmt.Sprintf("%c%d", 'a'+r.IntN(26), int(r.ExpFloat64()*300)))
				}
				all[len(all)-1] = append(all[len(all)-1], store.Words{Room: 1 + r.Int64N(50), Order: int64(i + 1), Words: text})
			}
			b.ResetTimer()
			before := processor()
			for _, batch := range all {
				for i := range batch {
					batch[i].Words = search.Words(strings.Join(batch[i].Words, " "))
				}
				if err := db.Update(b.Context(), func(tx table.Tx) error { return store.AddWords(tx, batch) }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((processor()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.StopTimer()
			if b.N < 1000 {
				return
			}
			for _, terms := range []string{"a1", "a1 b2", "c", "d1999"} {
				for _, ranked := range []bool{false, true} {
					benchFind(b, db, terms, ranked)
				}
			}
		})
	}
}

func benchFind(b *testing.B, db table.DB, terms string, ranked bool) {
	b.Helper()
	q := store.WordQuery{Begins: strings.Fields(terms), Ranked: ranked, Limit: 500}
	for i := range int64(50) {
		q.Rooms = append(q.Rooms, 1+i)
	}
	var took []time.Duration
	n := 0
	before := processor()
	const times = 9
	for range times {
		begin := time.Now()
		if err := db.View(b.Context(), func(tx table.Tx) error {
			found, err := store.FindWords(tx, q)
			n = len(found)
			return err
		}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	fmt.Printf("%q, ranked %t: %d found in %v, processor %v\n", terms, ranked, n, took[times/2], (processor()-before)/times)
}

// processor is how much of it this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

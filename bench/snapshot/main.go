// Command snapshot measures the snapshot store on a SQLite database: what the
// second snapshot stores and costs after one row in a hundred was updated,
// evenly over the table, against reading and hashing the file in the same process.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
	"lukechampine.com/blake3"
	_ "modernc.org/sqlite" // the driver

	"orrery/state"
	"orrery/state/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	size := flag.Int64("size", 1000, "size of the database in MB")
	dir := flag.String("dir", "", "where to work (default: a temporary folder)")
	kind := flag.String("source", "image", "how the file is given to the store: image or stream")
	rounds := flag.Int("rounds", 3, "snapshots after the first, each with 1% of the rows updated")
	flag.Parse()
	if err := run(ctx, *dir, *size<<20, *kind, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "snapshot:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, size int64, kind string, rounds int) error {
	work, err := os.MkdirTemp(dir, "bench-snapshot-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	name := filepath.Join(work, "database")
	if err := generate(ctx, name, size); err != nil {
		return err
	}
	s, err := store.Open(ctx, filepath.Join(work, "store"), store.Options{})
	if err != nil {
		return err
	}
	b := bench{ctx: ctx, store: s, name: name, kind: kind, out: tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(b.out, "what\tCPU s\twall s\tx read+hash\tstored MB\t% of logical\tpeak RSS MB")
	if err := b.first(); err != nil {
		return err
	}
	for i := range rounds {
		if err := update(ctx, name, i); err != nil {
			return err
		}
		if err := b.next(i); err != nil {
			return err
		}
	}
	return b.out.Flush()
}

type bench struct {
	ctx   context.Context //nolint:containedctx // a program's
	store *store.Store
	name  string
	kind  string
	since state.SnapshotID
	out   *tabwriter.Writer
}

func (b *bench) first() error {
	return b.save("first snapshot", false, 0)
}

// next measures reading and hashing twice around a snapshot, so that a change of the machine's pace shows.
func (b *bench) next(i int) error {
	plain, err := b.measure(b.hash)
	if err != nil {
		return err
	}
	n := strconv.Itoa(i + 2)
	b.print("read and hash (BLAKE3)", plain, plain.cpu, -1, 0)
	if err := b.save("snapshot "+n, false, plain.cpu); err != nil {
		return err
	}
	again, err := b.measure(b.hash)
	if err != nil {
		return err
	}
	b.print("read and hash again", again, plain.cpu, -1, 0)
	if b.kind != "image" {
		return nil
	}
	if err := touch(b.name); err != nil {
		return err
	}
	return b.save("tracked, one row changed", true, plain.cpu)
}

func (b *bench) save(what string, tracked bool, plain time.Duration) error {
	var g state.Generation
	used, err := b.measure(func() (err error) {
		from := state.Source{Write: b.stream}
		if b.kind == "image" {
			i, err := open(b.name, tracked)
			if err != nil {
				return err
			}
			defer func() { _ = i.Close() }()
			from = state.Source{Image: i, Since: b.since}
		}
		g, err = b.store.Save(b.ctx, state.Ref{Container: "sqlite-database", Component: "bench"}, "sqlite-database", "bench", from)
		return err
	})
	if err == nil {
		b.since = g.Snapshot
		b.print(what, used, plain, g.Stored, g.Size)
	}
	return err
}

func (b *bench) stream(w io.Writer) error {
	f, err := os.Open(b.name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return err
}

func (b *bench) hash() error {
	h := blake3.New(32, nil)
	return b.stream(h)
}

type usage struct{ cpu, wall time.Duration }

// measure runs f with a collected heap and returns what the process used.
func (b *bench) measure(f func() error) (usage, error) {
	runtime.GC()
	start, from := time.Now(), cpu()
	err := f()
	return usage{cpu() - from, time.Since(start)}, err
}

func rusage() unix.Rusage {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail for this process
	return u
}

func cpu() time.Duration {
	u := rusage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (b *bench) print(what string, u usage, plain time.Duration, stored, size int64) {
	ratio, bytes, share := "", "", ""
	if plain > 0 {
		ratio = fmt.Sprintf("%.2f", u.cpu.Seconds()/plain.Seconds())
	}
	if stored >= 0 && size > 0 {
		bytes, share = fmt.Sprintf("%.2f", float64(stored)/1e6), fmt.Sprintf("%.3f", 100*float64(stored)/float64(size))
	}
	fmt.Fprintf(b.out, "%s\t%.2f\t%.2f\t%s\t%s\t%s\t%d\n", what, u.cpu.Seconds(), u.wall.Seconds(), ratio, bytes, share, rusage().Maxrss>>10)
}

// diskImage is a database file as a state.Image. A tracked one says that what touch writes has
// changed, as a tracker would.
type diskImage struct {
	*os.File
	size    int64
	tracked bool
}

func open(name string, tracked bool) (*diskImage, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &diskImage{f, info.Size(), tracked}, nil
}

func (d *diskImage) Size() int64 { return d.size }

func (d *diskImage) Changed() ([]state.Range, bool) {
	return []state.Range{{Offset: touched, Length: int64(len(touchedBytes))}}, d.tracked
}

// touched is where touch writes; it need not be valid SQLite, for the store does not care.
const touched = 300<<10 + 77

var touchedBytes = []byte("touched")

func touch(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	old := make([]byte, len(touchedBytes))
	if _, err := f.ReadAt(old, touched); err == nil {
		for i := range old {
			old[i] ^= 1
		}
		_, err = f.WriteAt(old, touched)
		if err != nil {
			return err
		}
	}
	return f.Close()
}

// generate makes a database of rows with about 170 bytes: a number, a name, a date and 128 random hex digits.
func generate(ctx context.Context, name string, size int64) error {
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	const rows = 20000
	for _, q := range []string{
		"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF",
		"CREATE TABLE observation (id INTEGER PRIMARY KEY, body TEXT, at TEXT, note TEXT, stars INTEGER)",
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	bodies := strings.Fields("mercury venus earth mars jupiter saturn uranus neptune pluto ceres eris haumea makemake")
	for at := 0; ; at += rows {
		info, err := os.Stat(name)
		if err != nil || info.Size() >= size {
			return err
		}
		q := fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT %d UNION ALL SELECT i+1 FROM n WHERE i < %d)
			INSERT INTO observation SELECT i, CASE i%%4 WHEN 0 THEN '%s' WHEN 1 THEN '%s' WHEN 2 THEN '%s' ELSE '%s' END,
			datetime(1700000000+i*37,'unixepoch'), hex(randomblob(64)), 1000+i%%5 FROM n`, at+1, at+rows,
			bodies[at/rows%13], bodies[(at/rows+3)%13], bodies[(at/rows+5)%13], bodies[(at/rows+7)%13])
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
}

// update changes the note's first digits and the stars of every hundredth row.
func update(ctx context.Context, name string, round int) error {
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	for _, q := range []string{"PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF"} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	_, err = db.ExecContext(ctx, `UPDATE observation SET stars = stars + 1, note = hex(randomblob(8)) || substr(note, 17) WHERE id % 100 = ?`, round)
	return err
}

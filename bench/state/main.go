// Command state measures snapshots, restores and forks by the built orrery against the tools that people use for the
// same work, in one run: whole processes, wall time and CPU seconds with children, peak memory, disk.
//
//	go run ./bench/state [-size MB] [-rounds N] [-dysnomia PREFIX] [-only tiny,dump,restore,fork,files] [-dir FOLDER]
//
// It starts a PostgreSQL server of its own, as the user postgres where it runs as root. restic, borg and zstd take
// part where they are installed, Dysnomia where -dysnomia says it is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// bench is one run.
type bench struct {
	ctx      context.Context //nolint:containedctx // a program's
	orrery   string
	dysnomia string // prefix of an installation; empty: left out
	dir      string
	rounds   int
	files    int
	size     int64 // of the database, in bytes
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := bench{ctx: ctx}
	only := flag.String("only", "tiny,dump,restore,fork,files", "which parts")
	size := flag.Int64("size", 110, "size of the database in MB")
	dir := flag.String("dir", "", "where to work (default: a temporary folder)")
	flag.IntVar(&b.rounds, "rounds", 4, "snapshots after the first, each with 1% of the rows updated")
	flag.IntVar(&b.files, "files", 100_000, "small files in the folder")
	flag.StringVar(&b.orrery, "orrery", "bin/orrery", "the built program")
	flag.StringVar(&b.dysnomia, "dysnomia", "", "prefix of an installation of Dysnomia")
	flag.Parse()
	b.size = *size << 20
	if err := b.run(*dir, strings.Split(*only, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "state:", err)
		stop()
		os.Exit(1)
	}
}

func (b *bench) run(dir string, only []string) (err error) {
	if b.orrery, err = filepath.Abs(b.orrery); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(dir, "bench-state-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	if err := os.Chmod(b.dir, 0o755); err != nil { //nolint:gosec // the server's user passes through
		return err
	}
	if slices.Contains(only, "tiny") {
		if err := b.tiny(); err != nil {
			return fmt.Errorf("tiny: %w", err)
		}
	}
	if slices.Contains(only, "files") {
		if err := b.manyFiles(); err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}
	if !slices.Contains(only, "dump") && !slices.Contains(only, "restore") && !slices.Contains(only, "fork") {
		return nil
	}
	p, err := b.startServer()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if slices.Contains(only, "dump") || slices.Contains(only, "restore") {
		if err := b.dump(p, slices.Contains(only, "restore")); err != nil {
			return fmt.Errorf("dump: %w", err)
		}
	}
	if slices.Contains(only, "fork") {
		if err := b.fork(p); err != nil {
			return fmt.Errorf("fork: %w", err)
		}
	}
	return nil
}

// have says whether a program is installed.
func have(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// Package fuse ends the use of a Pebble database after an error of its disk, with an error for everybody and the process alive.
//
// Pebble meets such errors in three ways: it repeats what it tried, for ever and at once, while writers wait for room that never comes; it calls Fatalf, which must
// not return; or it panics with a lock given up that a deferred call gives up again, which no recover survives. So it is not told of them. The file system that it
// is given (FS) lets the goroutine that met an error wait for ever, and the Fuse tells everybody else. (It also lets logs grow ahead of what is written to them.) A database whose fuse has blown is never used again, nor closed:
// its lock is held until the process ends.
package fuse

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// ErrFailed says that a database gave up after an error, such as a full disk; only opening it anew, in another process, tells what it has.
var ErrFailed = errors.New("database failed")

// Fuse belongs to one database. It is Pebble's logger, too.
type Fuse struct {
	logger *slog.Logger
	name   string
	then   string
	once   sync.Once
	failed atomic.Pointer[error]
	blown  chan struct{} // closed once failed is set
}

// New returns a fuse that has not blown. Messages call the database by its name, and say what helps once its disk is repaired: "restart the node".
func New(logger *slog.Logger, name, then string) *Fuse {
	return &Fuse{logger: logger, name: name, then: then, blown: make(chan struct{})}
}

// Blow remembers why the database failed; the first reason counts.
func (f *Fuse) Blow(err error) {
	f.once.Do(func() {
		err = fmt.Errorf("%w: %w", ErrFailed, err)
		f.failed.Store(&err)
		close(f.blown)
		f.logger.Error("a database failed", "database", f.name, "error", err, "what_helps", "repair the disk, then "+f.then)
	})
}

// Err says why the database failed, or nil.
func (f *Fuse) Err() error {
	if err := f.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Blown says whether it has.
func (f *Fuse) Blown() bool { return f.failed.Load() != nil }

// Guard runs what writes, on a goroutine of its own, which does not come back if the disk fails meanwhile: what it uses is then its own for ever. An error of it is
// one of the database.
func (f *Fuse) Guard(write func() error) error {
	if err := f.Err(); err != nil {
		return err
	}
	if err := f.Run(write); err != nil {
		f.Blow(err)
		return f.Err()
	}
	return nil
}

// Run is Guard without consequences.
func (f *Fuse) Run(do func() error) error {
	finished := make(chan error, 1)
	go func() {
		err := errors.New("it gave up")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%v", p)
			}
			finished <- err
		}()
		err = do()
	}()
	select {
	case err := <-finished:
		return err
	case <-f.blown:
		return f.Err()
	}
}

// Infof drops what Pebble says about its compactions.
func (f *Fuse) Infof(string, ...any) {}

// Errorf logs; Pebble tries again by itself.
func (f *Fuse) Errorf(format string, args ...any) {
	if f.Err() == nil {
		f.logger.Warn("a database has trouble", "database", f.name, "detail", fmt.Sprintf(format, args...))
	}
}

// Fatalf must not return. It ends the goroutine instead of the process.
func (f *Fuse) Fatalf(format string, args ...any) {
	f.Blow(fmt.Errorf(format, args...))
	runtime.Goexit()
}

// Listener hears of what Pebble meets in the background.
func (f *Fuse) Listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: f.Blow,
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			f.Blow(fmt.Errorf("%s: %w", i.Path, i.Details))
		},
	}
}

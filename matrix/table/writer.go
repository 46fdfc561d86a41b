package table

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// maxGroup is how many updates may share a commit.
const maxGroup = 256

// maxAgain is how often a group is carried out if other programs change the same.
const maxAgain = 20

// Writing is a transaction that writes, before its end.
type Writing interface {
	Tx
	// Commit makes durable what was written; after an error nothing of it is there.
	Commit() error
	// Rollback gives up what was written. After Commit it does nothing.
	Rollback()
}

// Writer carries out updates for a DB: one after another, those that wait at the same time in one commit.
type Writer struct {
	begin func(context.Context) (Writing, error)
	jobs  chan *job
	end   chan struct{}
	once  sync.Once
	done  sync.WaitGroup
}

type job struct {
	ctx    context.Context //nolint:containedctx // of whoever waits for this job
	f      func(Tx) error
	result chan error
}

// NewWriter is a writer that gets its transactions from a function, which is never called while one is open. Close ends it.
func NewWriter(begin func(context.Context) (Writing, error)) *Writer {
	w := &Writer{begin: begin, jobs: make(chan *job, maxGroup), end: make(chan struct{})}
	w.done.Go(w.run)
	return w
}

// Update is that of DB.
func (w *Writer) Update(ctx context.Context, f func(Tx) error) error {
	j := &job{ctx, f, make(chan error, 1)}
	select {
	case w.jobs <- j:
	case <-w.end:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.result: // not ctx: whether it is written is known soon, and must be known
		return err
	case <-w.end:
		w.done.Wait()
		select {
		case err := <-j.result:
			return err
		default:
			return ErrClosed
		}
	}
}

// Close waits for the commit under way, and ends the writer.
func (w *Writer) Close() {
	w.once.Do(func() { close(w.end) })
	w.done.Wait()
}

func (w *Writer) run() {
	for {
		select {
		case <-w.end:
			return
		case j := <-w.jobs:
			group := []*job{j}
			for waiting := true; waiting && len(group) < maxGroup; {
				select {
				case j := <-w.jobs:
					group = append(group, j)
				default:
					waiting = false
				}
			}
			w.commit(group)
		}
	}
}

// commit carries out a group; if one of them fails it begins again, each in a commit of its own.
func (w *Writer) commit(group []*job) {
	if err := w.try(group); err == nil || len(group) == 1 {
		for _, j := range group {
			j.result <- err
		}
		return
	}
	for _, j := range group {
		j.result <- w.try([]*job{j})
	}
}

func (w *Writer) try(group []*job) (err error) {
	for range maxAgain {
		if err = w.attempt(group); !errors.Is(err, ErrAgain) {
			break
		}
	}
	return err
}

func (w *Writer) attempt(group []*job) error {
	tx, err := w.begin(context.WithoutCancel(group[0].ctx)) // a commit concerns all: none of them ends it
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, j := range group {
		if err := j.ctx.Err(); err != nil {
			return err
		}
		if err := call(j.f, tx); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// errPanic says that an update's function did not come to its end.
var errPanic = errors.New("panic")

// call runs an update's function. One that panics fails alone, as a request that panics does; the writer goes on for the others.
func call(f func(Tx) error, tx Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot update the database: %w: %v", errPanic, p)
		}
	}()
	return f(tx)
}

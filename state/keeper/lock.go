package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"orrery/state"
)

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 20 * time.Millisecond

// errStopped says that the wait for a lock was ended.
var errStopped = errors.New("waiting for a lock was ended")

// locks are one lock for each component: among goroutines, and by flock among processes.
type locks struct {
	folder string

	mu   sync.Mutex
	held map[state.Ref]*held
}

// held is a lock that somebody holds or waits for.
type held struct {
	slot  chan struct{} // holds one value while the lock is taken
	users int
}

// lock waits for a component's lock and returns what gives it back.
func (l *locks) lock(ctx context.Context, r state.Ref) (unlock func(), err error) {
	unlock, err = l.lockUntil(ctx.Done(), r)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("waiting for another operation on %s: %w", r, ctx.Err())
	}
	return unlock, err
}

// lockUntil waits for a component's lock until stop is closed.
func (l *locks) lockUntil(stop <-chan struct{}, r state.Ref) (unlock func(), err error) {
	if !state.ValidName(r.Container) || !state.ValidName(r.Component) {
		return nil, fmt.Errorf("component %q: %w", r, state.ErrNotFound)
	}
	h := l.enter(r)
	select {
	case h.slot <- struct{}{}:
	case <-stop:
		l.leave(r, h)
		return nil, errStopped
	}
	file, err := l.lockFile(stop, r)
	if err != nil {
		<-h.slot
		l.leave(r, h)
		return nil, err
	}
	return func() {
		_ = file.Close() // gives up the flock; there is nothing to flush
		<-h.slot
		l.leave(r, h)
	}, nil
}

// try takes a component's lock if nobody in this process has it.
func (l *locks) try(ctx context.Context, r state.Ref) (unlock func(), ok bool, err error) {
	l.mu.Lock()
	busy := l.held[r] != nil
	l.mu.Unlock()
	if busy {
		return nil, false, nil
	}
	unlock, err = l.lock(ctx, r)
	return unlock, err == nil, err
}

// lockAll takes several locks in an order that all callers share.
func (l *locks) lockAll(ctx context.Context, refs []state.Ref) (unlock func(), err error) {
	refs = slices.Clone(refs)
	slices.SortFunc(refs, func(a, b state.Ref) int { return strings.Compare(a.String(), b.String()) })
	var taken []func()
	unlock = func() {
		for _, u := range slices.Backward(taken) {
			u()
		}
	}
	for _, r := range slices.Compact(refs) {
		u, err := l.lock(ctx, r)
		if err != nil {
			unlock()
			return nil, err
		}
		taken = append(taken, u)
	}
	return unlock, nil
}

func (l *locks) enter(r state.Ref) *held {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[r]
	if h == nil {
		h = &held{slot: make(chan struct{}, 1)}
		l.held[r] = h
	}
	h.users++
	return h
}

func (l *locks) leave(r state.Ref, h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(l.held, r)
	}
}

// lockFile takes the lock among processes. Lock files are never removed, so that all who wait
// wait for the same file.
func (l *locks) lockFile(stop <-chan struct{}, r state.Ref) (*os.File, error) {
	folder := filepath.Join(l.folder, r.Container)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(folder, r.Component), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", r, err), f.Close())
		}
		timer := time.NewTimer(lockPoll)
		select {
		case <-timer.C:
		case <-stop:
			timer.Stop()
			return nil, errors.Join(errStopped, f.Close())
		}
	}
}

// closed is a channel that is closed.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// tryNow takes a component's lock if nobody has it, in this process or in another one.
func (l *locks) tryNow(r state.Ref) (unlock func(), ok bool) {
	h := l.enter(r)
	select {
	case h.slot <- struct{}{}:
	default:
		l.leave(r, h)
		return nil, false
	}
	file, err := l.lockFile(closed, r)
	if err != nil {
		<-h.slot
		l.leave(r, h)
		return nil, false
	}
	return func() {
		_ = file.Close() // gives up the flock; there is nothing to flush
		<-h.slot
		l.leave(r, h)
	}, true
}

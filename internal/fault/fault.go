// Package fault names places in running code at which tests let something go wrong: an error, a delay, the end of the process.
//
// An unarmed point costs the load of a pointer. Points are armed by tests in their own process (Arm), and from outside by the variable ORRERY_FAULTS (Parse)
// in programs that are built with the tag faults; other programs do not look at it.
package fault

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrInjected is what a point armed with error returns.
var ErrInjected = errors.New("injected by a test")

var (
	mu    sync.Mutex // held by whoever arms
	armed atomic.Pointer[map[string]func() error]
)

// Point is a place that is named. Where its code can fail it goes on with the error; elsewhere only delays and the end of the process make sense.
func Point(name string) error {
	points := armed.Load()
	if points == nil {
		return nil
	}
	if do := (*points)[name]; do != nil {
		return do()
	}
	return nil
}

// Arm lets do run whenever a point is reached, in the goroutine that reaches it, until disarm is called.
func Arm(name string, do func() error) (disarm func()) {
	set(name, do)
	return func() { set(name, nil) }
}

func set(name string, do func() error) {
	mu.Lock()
	defer mu.Unlock()
	next := map[string]func() error{}
	if points := armed.Load(); points != nil {
		maps.Copy(next, *points)
	}
	if next[name] = do; do == nil {
		delete(next, name)
	}
	if len(next) == 0 {
		armed.Store(nil)
		return
	}
	armed.Store(&next)
}

// At lets do run the n-th time only, counted from 1.
func At(n int64, do func() error) func() error {
	var count atomic.Int64
	return func() error {
		if count.Add(1) != n {
			return nil
		}
		return do()
	}
}

// Parse arms points as a text says: NAME=error, NAME=kill or NAME=delay:200ms, each with @N if it is for the N-th time only, separated by commas.
func Parse(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		name, what, ok := strings.Cut(part, "=")
		what, nth, once := strings.Cut(what, "@")
		do, err := action(what)
		if err != nil || !ok || name == "" {
			return fmt.Errorf("fault %q: it is no NAME=error, NAME=kill or NAME=delay:DURATION", part)
		}
		if once {
			n, err := strconv.ParseInt(nth, 10, 64)
			if err != nil || n < 1 {
				return fmt.Errorf("fault %q: %q is no count", part, nth)
			}
			do = At(n, do)
		}
		Arm(name, do)
	}
	return nil
}

func action(what string) (func() error, error) {
	kind, detail, _ := strings.Cut(what, ":")
	switch kind {
	case "error":
		return func() error { return ErrInjected }, nil
	case "kill":
		return func() error {
			return errors.Join(syscall.Kill(syscall.Getpid(), syscall.SIGKILL), ErrInjected)
		}, nil
	case "delay":
		d, err := time.ParseDuration(detail)
		return func() error { <-time.After(d); return nil }, err
	}
	return nil, errors.ErrUnsupported
}

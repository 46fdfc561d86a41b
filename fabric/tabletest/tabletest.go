// Package tabletest is the suite that every fabric.Table passes.
package tabletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
)

// patience is how long a test waits before it gives up; nothing takes that long.
const patience = 30 * time.Second

// suite is a test and its table.
type suite struct {
	*testing.T
	table fabric.Table
}

// Run tests the tables that open returns. Each is empty but for keys under "fabric/"; open cleans up by itself.
// Every test is in a bubble of testing/synctest, so that its table cannot use sockets.
func Run(t *testing.T, open func(t *testing.T) fabric.Table) {
	t.Helper()
	each(t, func(t *testing.T, test func(suite)) {
		t.Helper()
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { test(suite{t, open(t)}) })
	})
}

// RunOutside tests tables that use sockets, one after the other.
func RunOutside(t *testing.T, open func(t *testing.T) fabric.Table) {
	t.Helper()
	each(t, func(t *testing.T, test func(suite)) {
		t.Helper()
		test(suite{t, open(t)})
	})
}

func each(t *testing.T, run func(t *testing.T, test func(suite))) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(suite)
	}{
		{"GetMissing", suite.getMissing},
		{"PutGet", suite.putGet},
		{"EmptyValue", suite.emptyValue},
		{"SlicesBelongToCallers", suite.slicesBelongToCallers},
		{"CompareAndSwap", suite.compareAndSwap},
		{"Delete", suite.deleteKey},
		{"List", suite.list},
		{"Limits", suite.limits},
		{"Counter", suite.counter},
		{"WatchFirst", suite.watchFirst},
		{"WatchChanges", suite.watchChanges},
		{"WatchSlowReader", suite.watchSlowReader},
		{"WatchEnds", suite.watchEnds},
		{"CanceledContext", suite.canceledContext},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c.test) })
	}
}

// Closed tests what a table does after it was closed. It closes table.
func Closed(t *testing.T, table fabric.Table, closeTable func() error) {
	t.Helper()
	ctx := within(t)
	changes, err := table.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	<-changes
	if err := closeTable(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if _, open := <-changes; open {
		t.Error("the watch goes on after the table was closed")
	}
	_, get := table.Get(ctx, "a")
	_, listing := table.List(ctx, "a")
	_, put := table.Put(ctx, "a", nil)
	_, swap := table.CompareAndSwap(ctx, "a", 0, nil)
	_, watching := table.Watch(ctx, "a")
	for i, err := range []error{get, listing, put, swap, table.Delete(ctx, "a", 0), watching} {
		if !errors.Is(err, fabric.ErrClosed) {
			t.Errorf("call %d after close: %v, want ErrClosed", i, err)
		}
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (s suite) put(key, value string) uint64 {
	s.Helper()
	revision, err := s.table.Put(within(s.T), key, []byte(value))
	if err != nil {
		s.Fatalf("Put(%s): %v", key, err)
	}
	return revision
}

func (s suite) want(key, value string, revision uint64) {
	s.Helper()
	e, err := s.table.Get(within(s.T), key)
	if err != nil || e.Key != key || string(e.Value) != value || e.Revision != revision {
		s.Fatalf("Get(%s) = %+v, %v; want %q at revision %d", key, e, err, value, revision)
	}
}

func (s suite) getMissing() {
	if _, err := s.table.Get(within(s.T), "a"); !errors.Is(err, fabric.ErrNotFound) {
		s.Errorf("Get of a missing key: %v, want ErrNotFound", err)
	}
}

func (s suite) putGet() {
	first := s.put("a", "1")
	s.want("a", "1", first)
	second := s.put("b", "2")
	third := s.put("a", "3")
	if first == 0 || second <= first || third <= second {
		s.Errorf("revisions do not grow: %d, %d, %d", first, second, third)
	}
	s.want("a", "3", third)
	s.want("b", "2", second)
}

func (s suite) emptyValue() {
	revision, err := s.table.Put(within(s.T), "a", nil)
	if err != nil {
		s.Fatal(err)
	}
	s.want("a", "", revision)
	changes, err := s.table.Watch(within(s.T), "a")
	if err != nil {
		s.Fatal(err)
	}
	if c := <-changes; len(c.Entries) != 1 || c.Entries[0].Value == nil {
		s.Errorf("an empty value is watched as %+v; nil would mean deleted", c.Entries)
	}
}

func (s suite) slicesBelongToCallers() {
	value := []byte("abc")
	revision, err := s.table.Put(within(s.T), "a", value)
	if err != nil {
		s.Fatal(err)
	}
	copy(value, "xyz")
	e, err := s.table.Get(within(s.T), "a")
	if err != nil {
		s.Fatal(err)
	}
	copy(e.Value, "xyz")
	entries, err := s.table.List(within(s.T), "a")
	if err != nil {
		s.Fatal(err)
	}
	copy(entries[0].Value, "xyz")
	changes, err := s.table.Watch(within(s.T), "a")
	if err != nil {
		s.Fatal(err)
	}
	c := <-changes
	copy(c.Entries[0].Value, "xyz")
	s.want("a", "abc", revision)
}

func (s suite) compareAndSwap() {
	ctx := within(s.T)
	if _, err := s.table.CompareAndSwap(ctx, "a", 7, []byte("x")); !errors.Is(err, fabric.ErrConflict) {
		s.Errorf("swap of a missing key at a revision: %v, want ErrConflict", err)
	}
	first, err := s.table.CompareAndSwap(ctx, "a", 0, []byte("1"))
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.table.CompareAndSwap(ctx, "a", 0, []byte("x")); !errors.Is(err, fabric.ErrConflict) {
		s.Errorf("creation of a key that exists: %v, want ErrConflict", err)
	}
	second, err := s.table.CompareAndSwap(ctx, "a", first, []byte("2"))
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.table.CompareAndSwap(ctx, "a", first, []byte("x")); !errors.Is(err, fabric.ErrConflict) {
		s.Errorf("swap at an old revision: %v, want ErrConflict", err)
	}
	s.want("a", "2", second)
}

func (s suite) deleteKey() {
	ctx := within(s.T)
	if err := s.table.Delete(ctx, "a", 0); err != nil {
		s.Errorf("Delete of nothing: %v", err)
	}
	if err := s.table.Delete(ctx, "a", 3); !errors.Is(err, fabric.ErrConflict) {
		s.Errorf("Delete of nothing at a revision: %v, want ErrConflict", err)
	}
	first := s.put("a", "1")
	second := s.put("a", "2")
	if err := s.table.Delete(ctx, "a", first); !errors.Is(err, fabric.ErrConflict) {
		s.Errorf("Delete at an old revision: %v, want ErrConflict", err)
	}
	s.want("a", "2", second)
	if err := s.table.Delete(ctx, "a", second); err != nil {
		s.Fatal(err)
	}
	s.getMissing()
	again, err := s.table.CompareAndSwap(ctx, "a", 0, []byte("3"))
	if err != nil || again <= second {
		s.Fatalf("creation after deletion: revision %d, %v; want more than %d", again, err, second)
	}
	if err := s.table.Delete(ctx, "a", 0); err != nil {
		s.Fatal(err)
	}
	s.getMissing()
}

func (s suite) list() {
	for _, key := range []string{"b/2", "a", "b/10", "b", "c", "b/1"} {
		s.put(key, "value of "+key)
	}
	for prefix, expect := range map[string][]string{
		"b":    {"b", "b/1", "b/10", "b/2"},
		"b/":   {"b/1", "b/10", "b/2"},
		"b/1":  {"b/1", "b/10"},
		"d":    nil,
		"b/2/": nil,
	} {
		entries, err := s.table.List(within(s.T), prefix)
		if err != nil {
			s.Fatal(err)
		}
		var keys []string
		for _, e := range entries {
			keys = append(keys, e.Key)
			if string(e.Value) != "value of "+e.Key || e.Revision == 0 {
				s.Errorf("List(%s) has %+v", prefix, e)
			}
		}
		if !slices.Equal(keys, expect) {
			s.Errorf("List(%s) = %v, want %v", prefix, keys, expect)
		}
	}
	all, err := s.table.List(within(s.T), "")
	if err != nil || len(all) < 6 {
		s.Errorf("List of everything: %d entries, %v", len(all), err)
	}
}

func (s suite) limits() {
	ctx := within(s.T)
	largest := bytes.Repeat([]byte("x"), 256<<10)
	revision, err := s.table.Put(ctx, "a", largest)
	if err != nil {
		s.Fatalf("Put of 256 KiB: %v", err)
	}
	s.want("a", string(largest), revision)
	if _, err := s.table.Put(ctx, "a", append(largest, 'x')); err == nil {
		s.Error("Put of more than 256 KiB was accepted")
	}
	if _, err := s.table.CompareAndSwap(ctx, "a", revision, append(largest, 'x')); err == nil {
		s.Error("CompareAndSwap of more than 256 KiB was accepted")
	}
	if _, err := s.table.Put(ctx, "", nil); err == nil {
		s.Error("Put of an empty key was accepted")
	}
	s.want("a", string(largest), revision)
}

// counter increments one key from several goroutines by compare-and-swap.
func (s suite) counter() {
	const writers, each = 4, 10
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				if err := increment(within(s.T), s.table, "n"); err != nil {
					s.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	e, err := s.table.Get(within(s.T), "n")
	if err != nil || string(e.Value) != fmt.Sprint(writers*each) {
		s.Errorf("counter is %s, %v; want %d", e.Value, err, writers*each)
	}
}

func increment(ctx context.Context, table fabric.Table, key string) error {
	for {
		e, err := table.Get(ctx, key)
		if err != nil && !errors.Is(err, fabric.ErrNotFound) {
			return err
		}
		n := 0
		if len(e.Value) > 0 {
			if _, err := fmt.Sscan(string(e.Value), &n); err != nil {
				return err
			}
		}
		_, err = table.CompareAndSwap(ctx, key, e.Revision, fmt.Append(nil, n+1))
		if !errors.Is(err, fabric.ErrConflict) {
			return err
		}
	}
}

// mirror follows a watch until done says that it has seen enough.
func mirror(t *testing.T, changes <-chan fabric.Change, state map[string]string, done func() bool) {
	t.Helper()
	timeout := time.After(patience)
	var revision uint64
	for !done() {
		select {
		case c, ok := <-changes:
			if !ok {
				t.Fatal("the watch ended")
			}
			if c.Revision < revision {
				t.Fatalf("the watch went back from revision %d to %d", revision, c.Revision)
			}
			revision = c.Revision
			for _, e := range c.Entries {
				if e.Revision == 0 || e.Revision > c.Revision {
					t.Fatalf("entry %s of revision %d in a change to %d", e.Key, e.Revision, c.Revision)
				}
				if e.Value == nil {
					delete(state, e.Key)
				} else {
					state[e.Key] = string(e.Value)
				}
			}
		case <-timeout:
			t.Fatalf("the watch stopped at %v", state)
		}
	}
}

func (s suite) watchFirst() {
	s.put("w/a", "1")
	s.put("w/b", "2")
	s.put("v", "3")
	s.getMissing() // so that this node knows what was written
	for prefix, expect := range map[string]int{"w/": 2, "w/b": 1, "x": 0} {
		changes, err := s.table.Watch(within(s.T), prefix)
		if err != nil {
			s.Fatal(err)
		}
		c := <-changes
		if len(c.Entries) != expect || c.Revision == 0 {
			s.Errorf("first change of %s: %+v, want %d keys", prefix, c, expect)
		}
		for _, e := range c.Entries {
			if e.Value == nil {
				s.Errorf("first change of %s has the deleted key %s", prefix, e.Key)
			}
		}
	}
}

func (s suite) watchChanges() {
	s.put("w/a", "1")
	changes, err := s.table.Watch(within(s.T), "w/")
	if err != nil {
		s.Fatal(err)
	}
	state := map[string]string{}
	mirror(s.T, changes, state, func() bool { return state["w/a"] == "1" })
	s.put("other", "x")
	s.put("w/b", "2")
	mirror(s.T, changes, state, func() bool { return state["w/b"] == "2" })
	if err := s.table.Delete(within(s.T), "w/a", 0); err != nil {
		s.Fatal(err)
	}
	mirror(s.T, changes, state, func() bool { return len(state) == 1 })
	if state["w/b"] != "2" {
		s.Errorf("the watch saw %v", state)
	}
}

// watchSlowReader writes much more than a watcher reads: writes go on, and the watcher arrives at the newest state.
func (s suite) watchSlowReader() {
	changes, err := s.table.Watch(within(s.T), "s/")
	if err != nil {
		s.Fatal(err)
	}
	const rounds, keys = 20, 5
	for round := range rounds {
		for key := range keys {
			s.put(fmt.Sprint("s/", key), fmt.Sprint(round))
		}
	}
	if err := s.table.Delete(within(s.T), "s/0", 0); err != nil {
		s.Fatal(err)
	}
	last := s.put("s/last", "")
	seen, state := 0, map[string]string{}
	mirror(s.T, changes, state, func() bool {
		seen++
		_, ok := state["s/last"]
		return ok
	})
	if _, ok := state["s/0"]; ok || len(state) != keys || state["s/1"] != fmt.Sprint(rounds-1) {
		s.Errorf("after revision %d the watch has %v", last, state)
	}
	if seen > rounds*keys/2 {
		s.Errorf("a reader that did not read got %d changes for %d writes; they were not merged", seen, rounds*keys)
	}
}

func (s suite) watchEnds() {
	ctx, cancel := context.WithCancel(within(s.T))
	changes, err := s.table.Watch(ctx, "")
	if err != nil {
		s.Fatal(err)
	}
	cancel()
	timeout := time.After(patience)
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return
			}
		case <-timeout:
			s.Fatal("the watch goes on after its context ended")
		}
	}
}

func (s suite) canceledContext() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.table.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		s.Errorf("Get: %v, want context.Canceled", err)
	}
	if _, err := s.table.Put(ctx, "a", nil); !errors.Is(err, context.Canceled) {
		s.Errorf("Put: %v, want context.Canceled", err)
	}
	if _, err := s.table.Watch(ctx, "a"); !errors.Is(err, context.Canceled) {
		s.Errorf("Watch: %v, want context.Canceled", err)
	}
}

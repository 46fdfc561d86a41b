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
	"time"

	"orrery/fabric"
)

// patience is how long a test waits before it gives up; nothing takes that long.
const patience = 30 * time.Second

// Run tests the tables that open returns. Each is empty but for keys under "fabric/"; open cleans up by itself.
func Run(t *testing.T, open func(t *testing.T) fabric.Table) {
	for _, c := range []struct {
		name string
		test func(*testing.T, fabric.Table)
	}{
		{"GetMissing", getMissing},
		{"PutGet", putGet},
		{"EmptyValue", emptyValue},
		{"SlicesBelongToCallers", slicesBelongToCallers},
		{"CompareAndSwap", compareAndSwap},
		{"Delete", deleteKey},
		{"List", list},
		{"Limits", limits},
		{"Counter", counter},
		{"WatchFirst", watchFirst},
		{"WatchChanges", watchChanges},
		{"WatchSlowReader", watchSlowReader},
		{"WatchEnds", watchEnds},
		{"CanceledContext", canceledContext},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

// Closed tests what a table does after it was closed. It closes table.
func Closed(t *testing.T, table fabric.Table, closeTable func() error) {
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

func put(t *testing.T, table fabric.Table, key, value string) uint64 {
	t.Helper()
	revision, err := table.Put(within(t), key, []byte(value))
	if err != nil {
		t.Fatalf("Put(%s): %v", key, err)
	}
	return revision
}

func want(t *testing.T, table fabric.Table, key, value string, revision uint64) {
	t.Helper()
	e, err := table.Get(within(t), key)
	if err != nil || e.Key != key || string(e.Value) != value || e.Revision != revision {
		t.Fatalf("Get(%s) = %+v, %v; want %q at revision %d", key, e, err, value, revision)
	}
}

func getMissing(t *testing.T, table fabric.Table) {
	if _, err := table.Get(within(t), "a"); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("Get of a missing key: %v, want ErrNotFound", err)
	}
}

func putGet(t *testing.T, table fabric.Table) {
	first := put(t, table, "a", "1")
	want(t, table, "a", "1", first)
	second := put(t, table, "b", "2")
	third := put(t, table, "a", "3")
	if first == 0 || second <= first || third <= second {
		t.Errorf("revisions do not grow: %d, %d, %d", first, second, third)
	}
	want(t, table, "a", "3", third)
	want(t, table, "b", "2", second)
}

func emptyValue(t *testing.T, table fabric.Table) {
	revision, err := table.Put(within(t), "a", nil)
	if err != nil {
		t.Fatal(err)
	}
	want(t, table, "a", "", revision)
	changes, err := table.Watch(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	if c := <-changes; len(c.Entries) != 1 || c.Entries[0].Value == nil {
		t.Errorf("an empty value is watched as %+v; nil would mean deleted", c.Entries)
	}
}

func slicesBelongToCallers(t *testing.T, table fabric.Table) {
	value := []byte("abc")
	revision, err := table.Put(within(t), "a", value)
	if err != nil {
		t.Fatal(err)
	}
	copy(value, "xyz")
	e, err := table.Get(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	copy(e.Value, "xyz")
	entries, err := table.List(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	copy(entries[0].Value, "xyz")
	changes, err := table.Watch(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	c := <-changes
	copy(c.Entries[0].Value, "xyz")
	want(t, table, "a", "abc", revision)
}

func compareAndSwap(t *testing.T, table fabric.Table) {
	ctx := within(t)
	if _, err := table.CompareAndSwap(ctx, "a", 7, []byte("x")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("swap of a missing key at a revision: %v, want ErrConflict", err)
	}
	first, err := table.CompareAndSwap(ctx, "a", 0, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.CompareAndSwap(ctx, "a", 0, []byte("x")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("creation of a key that exists: %v, want ErrConflict", err)
	}
	second, err := table.CompareAndSwap(ctx, "a", first, []byte("2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.CompareAndSwap(ctx, "a", first, []byte("x")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("swap at an old revision: %v, want ErrConflict", err)
	}
	want(t, table, "a", "2", second)
}

func deleteKey(t *testing.T, table fabric.Table) {
	ctx := within(t)
	if err := table.Delete(ctx, "a", 0); err != nil {
		t.Errorf("Delete of nothing: %v", err)
	}
	if err := table.Delete(ctx, "a", 3); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("Delete of nothing at a revision: %v, want ErrConflict", err)
	}
	first := put(t, table, "a", "1")
	second := put(t, table, "a", "2")
	if err := table.Delete(ctx, "a", first); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("Delete at an old revision: %v, want ErrConflict", err)
	}
	want(t, table, "a", "2", second)
	if err := table.Delete(ctx, "a", second); err != nil {
		t.Fatal(err)
	}
	getMissing(t, table)
	again, err := table.CompareAndSwap(ctx, "a", 0, []byte("3"))
	if err != nil || again <= second {
		t.Fatalf("creation after deletion: revision %d, %v; want more than %d", again, err, second)
	}
	if err := table.Delete(ctx, "a", 0); err != nil {
		t.Fatal(err)
	}
	getMissing(t, table)
}

func list(t *testing.T, table fabric.Table) {
	for _, key := range []string{"b/2", "a", "b/10", "b", "c", "b/1"} {
		put(t, table, key, "value of "+key)
	}
	for prefix, expect := range map[string][]string{
		"b":    {"b", "b/1", "b/10", "b/2"},
		"b/":   {"b/1", "b/10", "b/2"},
		"b/1":  {"b/1", "b/10"},
		"d":    nil,
		"b/2/": nil,
	} {
		entries, err := table.List(within(t), prefix)
		if err != nil {
			t.Fatal(err)
		}
		var keys []string
		for _, e := range entries {
			keys = append(keys, e.Key)
			if string(e.Value) != "value of "+e.Key || e.Revision == 0 {
				t.Errorf("List(%s) has %+v", prefix, e)
			}
		}
		if !slices.Equal(keys, expect) {
			t.Errorf("List(%s) = %v, want %v", prefix, keys, expect)
		}
	}
	all, err := table.List(within(t), "")
	if err != nil || len(all) < 6 {
		t.Errorf("List of everything: %d entries, %v", len(all), err)
	}
}

func limits(t *testing.T, table fabric.Table) {
	ctx := within(t)
	largest := bytes.Repeat([]byte("x"), 256<<10)
	revision, err := table.Put(ctx, "a", largest)
	if err != nil {
		t.Fatalf("Put of 256 KiB: %v", err)
	}
	want(t, table, "a", string(largest), revision)
	if _, err := table.Put(ctx, "a", append(largest, 'x')); err == nil {
		t.Error("Put of more than 256 KiB was accepted")
	}
	if _, err := table.CompareAndSwap(ctx, "a", revision, append(largest, 'x')); err == nil {
		t.Error("CompareAndSwap of more than 256 KiB was accepted")
	}
	if _, err := table.Put(ctx, "", nil); err == nil {
		t.Error("Put of an empty key was accepted")
	}
	want(t, table, "a", string(largest), revision)
}

// counter increments one key from several goroutines by compare-and-swap.
func counter(t *testing.T, table fabric.Table) {
	const writers, each = 4, 10
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for range each {
				if err := increment(within(t), table, "n"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	e, err := table.Get(within(t), "n")
	if err != nil || string(e.Value) != fmt.Sprint(writers*each) {
		t.Errorf("counter is %s, %v; want %d", e.Value, err, writers*each)
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

func watchFirst(t *testing.T, table fabric.Table) {
	put(t, table, "w/a", "1")
	put(t, table, "w/b", "2")
	put(t, table, "v", "3")
	getMissing(t, table) // so that this node knows what was written
	for prefix, expect := range map[string]int{"w/": 2, "w/b": 1, "x": 0} {
		changes, err := table.Watch(within(t), prefix)
		if err != nil {
			t.Fatal(err)
		}
		c := <-changes
		if len(c.Entries) != expect || c.Revision == 0 {
			t.Errorf("first change of %s: %+v, want %d keys", prefix, c, expect)
		}
		for _, e := range c.Entries {
			if e.Value == nil {
				t.Errorf("first change of %s has the deleted key %s", prefix, e.Key)
			}
		}
	}
}

func watchChanges(t *testing.T, table fabric.Table) {
	put(t, table, "w/a", "1")
	changes, err := table.Watch(within(t), "w/")
	if err != nil {
		t.Fatal(err)
	}
	state := map[string]string{}
	mirror(t, changes, state, func() bool { return state["w/a"] == "1" })
	put(t, table, "other", "x")
	put(t, table, "w/b", "2")
	mirror(t, changes, state, func() bool { return state["w/b"] == "2" })
	if err := table.Delete(within(t), "w/a", 0); err != nil {
		t.Fatal(err)
	}
	mirror(t, changes, state, func() bool { return len(state) == 1 })
	if state["w/b"] != "2" {
		t.Errorf("the watch saw %v", state)
	}
}

// watchSlowReader writes much more than a watcher reads: writes go on, and the watcher arrives at the newest state.
func watchSlowReader(t *testing.T, table fabric.Table) {
	changes, err := table.Watch(within(t), "s/")
	if err != nil {
		t.Fatal(err)
	}
	const rounds, keys = 20, 5
	for round := range rounds {
		for key := range keys {
			put(t, table, fmt.Sprint("s/", key), fmt.Sprint(round))
		}
	}
	if err := table.Delete(within(t), "s/0", 0); err != nil {
		t.Fatal(err)
	}
	last := put(t, table, "s/last", "")
	seen, state := 0, map[string]string{}
	mirror(t, changes, state, func() bool {
		seen++
		_, ok := state["s/last"]
		return ok
	})
	if _, ok := state["s/0"]; ok || len(state) != keys || state["s/1"] != fmt.Sprint(rounds-1) {
		t.Errorf("after revision %d the watch has %v", last, state)
	}
	if seen > rounds*keys/2 {
		t.Errorf("a reader that did not read got %d changes for %d writes; they were not merged", seen, rounds*keys)
	}
}

func watchEnds(t *testing.T, table fabric.Table) {
	ctx, cancel := context.WithCancel(within(t))
	changes, err := table.Watch(ctx, "")
	if err != nil {
		t.Fatal(err)
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
			t.Fatal("the watch goes on after its context ended")
		}
	}
}

func canceledContext(t *testing.T, table fabric.Table) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := table.Get(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want context.Canceled", err)
	}
	if _, err := table.Put(ctx, "a", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v, want context.Canceled", err)
	}
	if _, err := table.Watch(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Watch: %v, want context.Canceled", err)
	}
}

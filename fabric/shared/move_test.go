package shared_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/shared"
	"orrery/fabric/table/kv"
)

// old writes what a cluster has that was made before there were chains.
func (c *cluster) old(keys int) map[string]fabric.Entry {
	c.t.Helper()
	all := map[string]fabric.Entry{}
	for i := range keys {
		key, value := fmt.Sprintf("deploy/%03d", i), fmt.Append(nil, "value ", i)
		if i%5 == 0 {
			value = []byte{}
		}
		revision, err := c.ground.Put(c.t.Context(), key, value)
		if err != nil {
			c.t.Fatal(err)
		}
		all[key] = fabric.Entry{Key: key, Value: value, Revision: revision}
	}
	for i := range 10 {
		if _, err := c.ground.Put(c.t.Context(), fmt.Sprint("fabric/name/", i), []byte("x")); err != nil {
			c.t.Fatal(err)
		}
	}
	return all
}

func quietly(string) {}

// has checks that a table has exactly these keys.
func has(t *testing.T, table *shared.Table, want map[string]fabric.Entry) {
	t.Helper()
	entries, err := table.List(within(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(want) {
		t.Errorf("%d keys, not %d", len(entries), len(want))
	}
	for _, e := range entries {
		if w := want[e.Key]; string(w.Value) != string(e.Value) || w.Revision != e.Revision {
			t.Errorf("%+v, not %+v", e, w)
		}
	}
}

// Keys keep their revisions, so that who read a key before the move can swap it afterwards; watches go on.
func TestMigrate(t *testing.T) {
	c := start(t, 3)
	want := c.old(2500)
	one, two := c.open(1), c.open(2)
	ctx := within(t)
	changes, err := two.Watch(ctx, "deploy/")
	if err != nil {
		t.Fatal(err)
	}
	if first := <-changes; len(first.Entries) != len(want) {
		t.Fatalf("%d keys are watched", len(first.Entries))
	}
	if err := one.Migrate(ctx, quietly); err != nil {
		t.Fatal(err)
	}
	if s := one.Status(); s.Phase != "moved" {
		t.Errorf("status %+v", s)
	}
	has(t, one, want)
	has(t, two, want)
	e := want["deploy/007"]
	if _, err := two.CompareAndSwap(ctx, e.Key, e.Revision-1, []byte("wrong")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("swap of an older revision: %v", err)
	}
	revision, err := two.CompareAndSwap(ctx, e.Key, e.Revision, []byte("new"))
	if err != nil || revision <= e.Revision {
		t.Fatalf("swap of what was read before: %d, %v", revision, err)
	}
	if _, err := one.CompareAndSwap(ctx, e.Key, e.Revision, []byte("wrong")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("swap of what was swapped: %v", err)
	}
	gone := want["deploy/008"]
	if err := one.Delete(ctx, gone.Key, gone.Revision-1); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("deletion of an older revision: %v", err)
	}
	if err := one.Delete(ctx, gone.Key, gone.Revision); err != nil {
		t.Error(err)
	}
	want[e.Key] = fabric.Entry{Key: e.Key, Value: []byte("new"), Revision: revision}
	delete(want, gone.Key)
	has(t, one, want)
	// The watch saw these two changes and nothing else.
	seen := map[string]string{}
	for len(seen) < 2 {
		change := <-changes
		for _, e := range change.Entries {
			seen[e.Key] = string(e.Value)
		}
	}
	if seen[e.Key] != "new" || seen[gone.Key] != "" || len(seen) != 2 {
		t.Errorf("the watch saw %v", seen)
	}
	// A late copy changes nothing, and neither does another migration.
	if err := two.Migrate(ctx, quietly); err != nil {
		t.Error(err)
	}
	has(t, two, want)
	// The old keys are on the ground, and cannot be written there.
	if _, err := c.ground.Put(ctx, "deploy/007", []byte("lost")); !errors.Is(err, kv.ErrSealed) {
		t.Errorf("write on the ground: %v", err)
	}
}

func TestNotAble(t *testing.T) {
	c := start(t, 1)
	want := c.old(3)
	table := c.open(0)
	c.able = errors.New("node moon runs an old version")
	if err := table.Migrate(within(t), quietly); !errors.Is(err, shared.ErrNotAble) || !strings.Contains(err.Error(), "moon") {
		t.Errorf("%v", err)
	}
	has(t, table, want)
	if _, err := table.Put(within(t), "deploy/new", nil); err != nil {
		t.Error(err)
	}
	if ok, err := table.OnGround(within(t)); !ok || err != nil {
		t.Errorf("nothing happened, and old nodes are refused: %v", err)
	}
}

// A node that turns out to be unable after the seal ends the move, and calls that wait go on where they were.
func TestGivenUp(t *testing.T) {
	c := start(t, 1)
	want := c.old(3)
	config := c.config(0)
	var asked atomic.Int32
	waiting := make(chan error, 1)
	var table *shared.Table
	config.Leads = func() bool { return false }
	config.Able = func(ctx context.Context) error {
		if asked.Add(1) == 1 {
			return nil
		}
		go func() {
			_, err := table.Put(context.WithoutCancel(ctx), "deploy/000", []byte("waited"))
			waiting <- err
		}()
		_, err := c.ground.Get(ctx, "deploy/000")
		if !errors.Is(err, kv.ErrSealed) {
			t.Errorf("not sealed: %v", err)
		}
		return errors.New("node moon has just come")
	}
	table, err := shared.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = table.Close() }()
	if err := table.Migrate(within(t), quietly); !errors.Is(err, shared.ErrNotAble) {
		t.Errorf("%v", err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("a write that waited: %v", err)
	}
	e, err := table.Get(within(t), "deploy/000")
	if err != nil || string(e.Value) != "waited" {
		t.Fatalf("%+v, %v", e, err)
	}
	want[e.Key] = e
	has(t, table, want)
}

// A bucket that somebody else has written to is not used.
func TestStrangeBucket(t *testing.T) {
	c := start(t, 1)
	c.old(3)
	if _, err := c.Client("eve", fabric.RoleOperator).Bucket(shared.Bucket).Put(within(t), []byte("mine"), nil); !errors.Is(err, fabric.ErrForbidden) {
		t.Errorf("a person writes to it: %v", err)
	}
	b := c.Client("ann", fabric.RoleNode).Bucket(shared.Bucket)
	if _, err := b.Put(within(t), []byte("mine"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	table := c.open(0)
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := table.Migrate(brief, quietly); err == nil || !strings.Contains(err.Error(), "mine") {
		t.Errorf("%v", err)
	}
	// Once it is gone the move goes on.
	if err := b.Delete(within(t), []byte("mine")); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Get(within(t), "deploy/001"); err != nil {
		t.Error(err)
	}
}

// TestInterrupted moves the keys while every node's process ends and begins anew at whatever step it is, and clients write all the time. Nothing that was
// acknowledged is lost, and nobody sees less than it saw before.
func TestInterrupted(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { interrupted(t, seed) })
	}
}

// mortal is tables whose processes end and begin anew.
type mortal struct {
	t      *testing.T
	ctx    context.Context //nolint:containedctx // of the test
	all    *cluster
	tables [3]atomic.Pointer[shared.Table]
	stop   chan struct{}
}

func (m *mortal) begin(i int) {
	config := m.all.config(i)
	config.Leads = func() bool { return true } // all try at the same time
	table, err := shared.Open(m.ctx, config)
	if err != nil {
		m.t.Error(err)
		return
	}
	m.tables[i].Store(table)
}

// any is one of the tables, which may have been closed.
func (m *mortal) any() *shared.Table { return m.tables[rand.IntN(3)].Load() } //nolint:gosec // load

// count counts in a key, by whatever table, and checks that nothing that was acknowledged is gone.
func (m *mortal) count(key string, wrote *atomic.Bool) {
	n, last := 0, uint64(0) // how often it was counted, as of what revision
	unknown := false        // whether the write after the last one that is known was done, or will be
	for {
		select {
		case <-m.stop:
			return
		case <-time.After(100 * time.Microsecond):
		}
		table := m.any()
		e, err := table.Get(m.ctx, key)
		if err != nil && !errors.Is(err, fabric.ErrNotFound) {
			continue // its process has ended
		}
		if unknown && string(e.Value) == fmt.Sprint(n+1) {
			n++
		}
		if e.Revision < last || string(e.Value) != fmt.Sprint(n) && (n > 0 || e.Revision > 0) {
			m.t.Errorf("key %s is %q at revision %d (%v) after %d writes, the last of revision %d", key, e.Value, e.Revision, err, n, last)
			return
		}
		last = e.Revision
		if _, err = table.CompareAndSwap(m.ctx, key, e.Revision, fmt.Append(nil, n+1)); err != nil {
			unknown = true
			continue
		}
		n, unknown = n+1, false
		wrote.Store(true)
	}
}

func interrupted(t *testing.T, seed uint64) {
	t.Helper()
	c := start(t, 3)
	c.old(1500)
	random := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m := &mortal{t: t, ctx: ctx, all: c, stop: make(chan struct{})}
	for i := range m.tables {
		m.begin(i)
	}
	var work sync.WaitGroup
	var wrote [4]atomic.Bool
	for w := range wrote {
		work.Go(func() { m.count(fmt.Sprint("session/", w), &wrote[w]) })
	}
	work.Go(func() {
		for ctx.Err() == nil && m.any().Migrate(ctx, quietly) != nil { // by the next process, if this one ends before it began
			<-time.After(time.Millisecond)
		}
	})
	for n := 0; ctx.Err() == nil; n++ {
		i := random.IntN(3)
		<-time.After(time.Duration(random.IntN(20*(n+1))) * time.Millisecond) // longer and longer, so that it ends
		if err := m.tables[i].Load().Close(); err != nil {
			t.Error(err)
		}
		m.begin(i)
		if e, err := c.ground.Get(ctx, kv.SealKey); err == nil && strings.Contains(string(e.Value), "moved") && n > 5 {
			break
		}
	}
	for w := range wrote {
		for !wrote[w].Load() && ctx.Err() == nil {
			<-time.After(time.Millisecond)
		}
	}
	close(m.stop)
	work.Wait()
	for i := range m.tables {
		table := m.tables[i].Load()
		if all, err := table.List(ctx, "deploy/"); err != nil || len(all) != 1500 {
			t.Errorf("node %d has %d keys, %v", i, len(all), err)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
	if ctx.Err() != nil {
		t.Error("the keys were not moved, or a writer has written nothing")
	}
}

// A watch that began before the move sees each key grow, loses no end of it, and never hears that a key is gone.
func TestWatchDuringMove(t *testing.T) {
	c := start(t, 3)
	c.old(500)
	tables := []*shared.Table{c.open(0), c.open(1), c.open(2)}
	ctx := within(t)
	changes, err := tables[2].Watch(ctx, "session/")
	if err != nil {
		t.Fatal(err)
	}
	const last = 150
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for n := range last + 1 {
				if _, err := tables[w].Put(ctx, fmt.Sprint("session/", w), fmt.Append(nil, n)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if err := tables[0].Migrate(ctx, quietly); err != nil {
		t.Fatal(err)
	}
	seen, revision := map[string]int{}, uint64(0)
	for seen["session/0"]+seen["session/1"]+seen["session/2"] < 3*last {
		change, ok := <-changes
		if !ok || change.Revision < revision {
			t.Fatalf("revision %d after %d, %v", change.Revision, revision, ctx.Err())
		}
		revision = change.Revision
		for _, e := range change.Entries {
			n, err := strconv.Atoi(string(e.Value))
			if err != nil || n < seen[e.Key] {
				t.Fatalf("key %s is %q after %d", e.Key, e.Value, seen[e.Key])
			}
			seen[e.Key] = n
		}
	}
	writers.Wait()
}

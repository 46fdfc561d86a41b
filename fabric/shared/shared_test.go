package shared_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/chain/node/nodetest"
	"orrery/fabric/client"
	"orrery/fabric/shared"
	"orrery/fabric/table/memory"
	"orrery/fabric/tabletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within gives a test's calls a deadline.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// cluster is nodes with the bucket's chain, and a ground.
type cluster struct {
	*nodetest.Cluster
	t      *testing.T
	ground *memory.Table
	dir    string
	able   error // what nodes say when they are asked

	addresses []string
}

// start starts nodes. On the ground is what first says.
func start(t *testing.T, nodes int, first ...fabric.Entry) *cluster {
	t.Helper()
	c := &cluster{Cluster: nodetest.Start(t, nodes, shared.Bucket), t: t, ground: memory.New(), dir: t.TempDir()}
	for _, n := range c.Nodes {
		c.addresses = append(c.addresses, n.Address)
	}
	for _, e := range first {
		if _, err := c.ground.Put(t.Context(), e.Key, e.Value); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = c.ground.Close() })
	return c
}

// config is what a node's table needs.
func (c *cluster) config(i int) shared.Config {
	return shared.Config{
		Ground: c.ground,
		Open: func(ctx context.Context) (*client.Client, error) {
			return client.Open(ctx, client.Config{Authority: c.Nodes[i].Authority, Nodes: c.addresses})
		},
		Create: func(context.Context) error { return fabric.ErrConflict },
		Able:   func(context.Context) error { return c.able },
		Leads:  func() bool { return i == 0 },
		File:   filepath.Join(c.dir, fmt.Sprint("node-", i)),
	}
}

// open opens a node's table until the test ends.
func (c *cluster) open(i int) *shared.Table {
	c.t.Helper()
	t, err := shared.Open(c.t.Context(), c.config(i))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := t.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return t
}

func TestTable(t *testing.T) {
	tabletest.RunOutside(t, func(t *testing.T) fabric.Table {
		t.Helper()
		return start(t, 3, shared.First()).open(0)
	})
}

func TestGround(t *testing.T) {
	tabletest.RunOutside(t, func(t *testing.T) fabric.Table {
		t.Helper()
		return start(t, 1).open(0)
	})
}

func TestClosed(t *testing.T) {
	table := start(t, 1, shared.First()).open(0)
	if _, err := table.Put(within(t), "a", nil); err != nil {
		t.Fatal(err)
	}
	tabletest.Closed(t, table, table.Close)
}

// What begins with fabric/ is on the ground.
func TestOwn(t *testing.T) {
	c := start(t, 1, shared.First())
	table := c.open(0)
	ctx := within(t)
	revision, err := table.Put(ctx, "fabric/name/moon", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.ground.Get(ctx, "fabric/name/moon"); err != nil || e.Revision != revision {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := table.Put(ctx, "moon", []byte("2")); err != nil {
		t.Fatal(err)
	}
	all, err := table.List(ctx, "")
	if err != nil || len(all) != 1 || all[0].Key != "moon" {
		t.Errorf("%+v, %v", all, err)
	}
	if own, err := table.List(ctx, "fabric/name/"); err != nil || len(own) != 1 {
		t.Errorf("%+v, %v", own, err)
	}
}

// A list that is more than one answer is as of one revision, and complete.
func TestLongList(t *testing.T) {
	c := start(t, 3, shared.First())
	table := c.open(0)
	ctx := within(t)
	value := make([]byte, 200<<10)
	const keys = 24 // more than 4 MiB
	for i := range keys {
		if _, err := table.Put(ctx, fmt.Sprintf("a/%02d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	all, err := table.List(ctx, "a/")
	if err != nil || len(all) != keys {
		t.Fatalf("%d keys of %d, %v", len(all), keys, err)
	}
	for i, e := range all {
		if e.Key != fmt.Sprintf("a/%02d", i) || len(e.Value) != len(value) {
			t.Fatalf("key %d is %s with %d bytes", i, e.Key, len(e.Value))
		}
	}
}

// A node that starts and reaches nobody shows what it knew; it cannot write.
func TestAlone(t *testing.T) {
	c := start(t, 1, shared.First())
	table := c.open(0)
	ctx := within(t)
	for i := range 20 {
		if _, err := table.Put(ctx, fmt.Sprint("a/", i%7), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Delete(ctx, "a/3", 0); err != nil {
		t.Fatal(err)
	}
	before, err := table.List(ctx, "a/")
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	c.Stop(0)
	table = c.open(0)
	changes, err := table.Watch(ctx, "a/")
	if err != nil {
		t.Fatal(err)
	}
	if first := <-changes; fmt.Sprint(first.Entries) != fmt.Sprint(before) {
		t.Errorf("%v is known, and %v was there", first.Entries, before)
	}
	brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := table.Put(brief, "a/1", nil); !errors.Is(err, fabric.ErrNoQuorum) {
		t.Errorf("write without the chain: %v", err)
	}
	// When the chain is back so is the table, and the watch goes on.
	c.Restart(0)
	c.Again(0)
	if _, err := table.Put(ctx, "a/new", []byte("1")); err != nil {
		t.Fatal(err)
	}
	for change := range changes {
		if len(change.Entries) == 1 && change.Entries[0].Key == "a/new" {
			break
		}
	}
}

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/node/nodetest"
	"orrery/fabric/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within gives a test's calls a deadline.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestKeys(t *testing.T) {
	ctx := within(t)
	b := nodetest.Start(t, 3, "things").Client("ann", fabric.RoleOperator).Bucket("things")
	if _, err := b.Get(ctx, []byte("a")); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("no key: %v", err)
	}
	first, err := b.Put(ctx, []byte("a"), []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 30 { // from all replicas
		if v, err := b.Get(ctx, []byte("a")); err != nil || string(v.Value) != "1" || v.Version != first {
			t.Fatalf("%v, %v", v, err)
		}
	}
	if _, err := b.CompareAndSwap(ctx, []byte("a"), first+7, []byte("2")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("swap of another version: %v", err)
	}
	second, err := b.CompareAndSwap(ctx, []byte("a"), first, []byte("2"))
	if err != nil || second <= first {
		t.Errorf("%d, %v", second, err)
	}
	if _, err := b.CompareAndSwap(ctx, []byte("a"), 0, []byte("3")); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("creation of what is there: %v", err)
	}
	if _, err := b.Append(ctx, []byte("a"), []byte("+")); err != nil {
		t.Error(err)
	}
	if v, err := b.Get(ctx, []byte("a")); err != nil || string(v.Value) != "2+" {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := b.Increment(ctx, []byte("a"), 1); !errors.Is(err, chain.ErrBadValue) {
		t.Errorf("increment of text: %v", err)
	}
	for i := range int64(3) {
		if n, err := b.Increment(ctx, []byte("n"), 5); err != nil || n != 5*(i+1) {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := b.Delete(ctx, []byte("a")); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(ctx, []byte("a")); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("a deleted key: %v", err)
	}
	if _, err := b.Put(ctx, bytes.Repeat([]byte("k"), chain.MaxKey+1), nil); !errors.Is(err, chain.ErrTooLarge) {
		t.Errorf("a long key: %v", err)
	}
	if _, err := b.Put(ctx, []byte("l"), make([]byte, chain.MaxValue)); err != nil {
		t.Errorf("a large value: %v", err)
	}
	if v, err := b.Get(ctx, []byte("l")); err != nil || len(v.Value) != chain.MaxValue {
		t.Errorf("%d bytes, %v", len(v.Value), err)
	}
	if v, err := b.Get(ctx, []byte("l"), client.Eventual); err != nil && !errors.Is(err, fabric.ErrNotFound) || err == nil && len(v.Value) != chain.MaxValue {
		t.Errorf("%d bytes, %v", len(v.Value), err)
	}
}

// Increments of many goroutines are all done, each once.
func TestManyWriters(t *testing.T) {
	ctx := within(t)
	c := nodetest.Start(t, 3, "things").Client("ann", fabric.RoleOperator)
	b := c.Bucket("things")
	const writers, each = 16, 25
	var work sync.WaitGroup
	for range writers {
		work.Go(func() {
			for range each {
				if _, err := b.Increment(ctx, []byte("n"), 1); err != nil {
					t.Error(err)
					return
				}
				if _, err := b.Get(ctx, []byte("n")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	if n, err := b.Increment(ctx, []byte("n"), 0); err != nil || n != writers*each {
		t.Errorf("%d increments of %d, %v", n, writers*each, err)
	}
}

func TestRoles(t *testing.T) {
	ctx := within(t)
	cluster := nodetest.Start(t, 1, "things")
	b := cluster.Client("vic", fabric.RoleViewer).Bucket("things")
	if _, err := b.Put(ctx, []byte("a"), nil); !errors.Is(err, fabric.ErrForbidden) {
		t.Errorf("a viewer writes: %v", err)
	}
	if _, err := b.Get(ctx, []byte("a")); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("a viewer reads: %v", err)
	}
	other := nodetest.Start(t, 1, "things")
	_, err := client.Open(ctx, client.Config{Nodes: []string{cluster.Nodes[0].Address}, Authority: other.Nodes[0].Authority})
	if !errors.Is(err, fabric.ErrOtherCluster) {
		t.Errorf("another cluster's node: %v", err)
	}
	if _, err := cluster.Client("ann", fabric.RoleViewer).Bucket("none").Get(ctx, []byte("a")); !errors.Is(err, fabric.ErrNotFound) || !strings.Contains(err.Error(), "none") {
		t.Errorf("no bucket: %v", err)
	}
}

// Several chains look like one key space.
func TestChains(t *testing.T) {
	ctx := within(t)
	b := nodetest.Start(t, 3, "things", "g", "p").Client("ann", fabric.RoleOperator).Bucket("things")
	var keys [][]byte
	var writes []chain.Write
	for c := 'a'; c <= 'z'; c++ {
		for i := range 5 {
			key := fmt.Appendf(nil, "%c%d", c, i)
			keys = append(keys, key)
			writes = append(writes, chain.Write{Op: chain.OpPut, Key: key, Value: key})
		}
	}
	if err := b.Batch(ctx, writes); err != nil {
		t.Fatal(err)
	}
	n := 0
	for item, err := range b.Scan(ctx, chain.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(item.Key, keys[n]) || !bytes.Equal(item.Value.Value, keys[n]) {
			t.Fatalf("key %d is %q", n, item.Key)
		}
		n++
	}
	if n != len(keys) {
		t.Errorf("%d keys of %d", n, len(keys))
	}
	n = 0
	for item, err := range b.Scan(ctx, chain.Range{Start: []byte("f2"), End: []byte("h1")}) {
		if err != nil || n == 0 && string(item.Key) != "f2" || string(item.Key) >= "h1" {
			t.Errorf("%q, %v", item.Key, err)
		}
		n++
	}
	if n != 3+5+1 {
		t.Errorf("%d keys in the range", n)
	}
	items, err := b.MultiGet(ctx, [][]byte{[]byte("z0"), []byte("none"), []byte("a0"), []byte("h3")})
	if err != nil || string(items[0].Value.Value) != "z0" || !items[1].Missing || string(items[2].Value.Value) != "a0" || string(items[3].Value.Value) != "h3" {
		t.Errorf("%v, %v", items, err)
	}
	v, err := b.Get(ctx, []byte("a1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Txn().If([]byte("a1"), v.Version).Put([]byte("a1"), []byte("x")).Delete([]byte("a2")).Commit(ctx); err != nil {
		t.Error(err)
	}
	if r, err := b.Txn().If([]byte("a3"), v.Version).If([]byte("a1"), v.Version).Put([]byte("a3"), nil).Commit(ctx); !errors.Is(err, fabric.ErrConflict) || r.Index != 1 {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := b.Txn().Put([]byte("a1"), nil).Put([]byte("z1"), nil).Commit(ctx); !errors.Is(err, chain.ErrOutOfRange) {
		t.Errorf("a transaction of two chains: %v", err)
	}
}

func TestWatch(t *testing.T) {
	ctx := within(t)
	b := nodetest.Start(t, 3, "things", "m").Client("ann", fabric.RoleOperator).Bucket("things")
	if _, err := b.Put(ctx, []byte("before"), []byte("1")); err != nil {
		t.Fatal(err)
	}
	var position client.Position
	see := func(from client.Position, want ...string) {
		t.Helper()
		left := map[string]bool{}
		for _, w := range want {
			left[w] = true
		}
		for change, err := range b.Watch(ctx, chain.Range{}, from) {
			if err != nil {
				t.Fatal(err, left)
			}
			position = position.Advance(change.Mark)
			for _, item := range change.Items {
				delete(left, fmt.Sprintf("%s=%s %t", item.Key, item.Value.Value, item.Missing))
			}
			if len(left) == 0 {
				break
			}
		}
	}
	see(nil, "before=1 false")
	for _, key := range []string{"a", "z"} {
		if _, err := b.Put(ctx, []byte(key), []byte("2")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(ctx, []byte("before")); err != nil {
		t.Fatal(err)
	}
	kept := append(client.Position{}, position...)
	see(position, "a=2 false", "z=2 false", "before= true")
	see(kept, "a=2 false", "z=2 false", "before= true") // again, from where it was kept
}

func TestLasting(t *testing.T) {
	ctx := within(t)
	b := nodetest.Start(t, 3, "things").Client("ann", fabric.RoleOperator).Bucket("things")
	if _, err := b.Put(ctx, []byte("a"), []byte("1"), client.Lasting(50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(ctx, []byte("b"), []byte("1"), client.Lasting(time.Hour)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := b.Get(ctx, []byte("a")); errors.Is(err, fabric.ErrNotFound) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if v, err := b.Get(ctx, []byte("b")); err != nil || v.Expires == 0 {
		t.Errorf("%v, %v", v, err)
	}
}

func TestLarge(t *testing.T) {
	ctx := within(t)
	b := nodetest.Start(t, 2, "things").Client("ann", fabric.RoleOperator).Bucket("things")
	content := make([]byte, 9<<20+5)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	key := []byte("film")
	for range 2 { // the second replaces the first
		if n, err := b.PutLarge(ctx, key, bytes.NewReader(content)); err != nil || n != int64(len(content)) {
			t.Fatal(n, err)
		}
	}
	r, size, err := b.OpenLarge(ctx, key)
	if err != nil || size != int64(len(content)) {
		t.Fatal(size, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	count := func() (n int) {
		for item, err := range b.Scan(ctx, chain.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			if client.IsPart(item.Key) {
				n++
			}
		}
		return n
	}
	if n := count(); n != 10 {
		t.Errorf("%d parts", n)
	}
	if err := b.DeleteLarge(ctx, key); err != nil {
		t.Error(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d parts stay", n)
	}
}

package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/node/nodetest"
	"orrery/fabric/client"
)

// things opens the bucket "things" of a cluster of three nodes, which runs in this process. A program does so by
//
//	c, err := client.Open(ctx, client.Config{Nodes: []string{"10.0.0.1:7400"}, Authority: holder})
//	...
//	bucket := c.Bucket("things")
func things() (ctx context.Context, bucket *client.Bucket, end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb := &inExample{ctx: ctx}
	cluster := nodetest.Start(tb, 3, "things")
	bucket = cluster.Client("gardener", fabric.RoleOperator).Bucket("things")
	return ctx, bucket, func() {
		for _, clean := range slices.Backward(tb.cleanups) {
			clean()
		}
		cancel()
	}
}

// inExample is what a test would give to the cluster.
type inExample struct {
	testing.TB
	ctx      context.Context //nolint:containedctx // of the example
	cleanups []func()
}

func (e *inExample) Helper()                  {}
func (e *inExample) Context() context.Context { return e.ctx }
func (e *inExample) Cleanup(do func())        { e.cleanups = append(e.cleanups, do) }
func (e *inExample) Error(args ...any)        { panic(fmt.Sprint(args...)) }
func (e *inExample) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }
func (e *inExample) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func (e *inExample) TempDir() string {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A write is durable on all replicas when Put returns, and every read that begins then sees it.
func ExampleBucket_Put() {
	ctx, bucket, end := things()
	defer end()
	if _, err := bucket.Put(ctx, []byte("moon"), []byte("Io")); err != nil {
		fmt.Println(err)
		return
	}
	v, err := bucket.Get(ctx, []byte("moon"))
	fmt.Println(string(v.Value), err)
	_, err = bucket.Get(ctx, []byte("sun"))
	fmt.Println(errors.Is(err, fabric.ErrNotFound))
	// Output:
	// Io <nil>
	// true
}

// Reading, changing and writing a value so that no other writer's change is lost: who was too late begins again.
func ExampleBucket_CompareAndSwap() {
	ctx, bucket, end := things()
	defer end()
	key := []byte("guests")
	add := func(name string) error {
		for {
			v, err := bucket.Get(ctx, key)
			if err != nil && !errors.Is(err, fabric.ErrNotFound) {
				return err
			}
			// Version 0, of a key that is not there, means that there must be none.
			_, err = bucket.CompareAndSwap(ctx, key, v.Version, append(v.Value, " "+name...))
			if !errors.Is(err, fabric.ErrConflict) {
				return err
			}
		}
	}
	done := make(chan error)
	for _, name := range []string{"Ada", "Bob", "Cem", "Dee"} {
		go func() { done <- add(name) }()
	}
	for range 4 {
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}
	v, err := bucket.Get(ctx, key)
	fmt.Println(len(v.Value), "bytes", err)
	// Output: 16 bytes <nil>
}

// Many count at a time, and none is lost or counted twice, also where a node fails meanwhile and requests are sent again.
func ExampleBucket_Increment() {
	ctx, bucket, end := things()
	defer end()
	done := make(chan error)
	for range 10 {
		go func() {
			_, err := bucket.Increment(ctx, []byte("visits"), 2)
			done <- err
		}()
	}
	for range 10 {
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}
	n, err := bucket.Increment(ctx, []byte("visits"), 0)
	fmt.Println(n, err)
	// Output: 20 <nil>
}

// A transaction does all its writes, which nobody sees in part, if all its conditions hold; otherwise nothing.
func ExampleBucket_Txn() {
	ctx, bucket, end := things()
	defer end()
	version, err := bucket.Put(ctx, []byte("task/7"), []byte("open"))
	if err != nil {
		fmt.Println(err)
		return
	}
	take := func(who string) error {
		_, err := bucket.Txn().
			If([]byte("task/7"), version).
			Put([]byte("task/7"), []byte("taken by "+who)).
			Increment([]byte("taken"), 1).
			Commit(ctx)
		return err
	}
	fmt.Println(take("Ada"))
	fmt.Println(errors.Is(take("Bob"), fabric.ErrConflict))
	v, err := bucket.Get(ctx, []byte("task/7"))
	fmt.Println(string(v.Value), err)
	// Output:
	// <nil>
	// true
	// taken by Ada <nil>
}

// A scan yields keys in the order of their bytes.
func ExampleBucket_Scan() {
	ctx, bucket, end := things()
	defer end()
	var writes []chain.Write
	for _, moon := range []string{"jupiter/io", "saturn/titan", "jupiter/europa", "mars/phobos"} {
		writes = append(writes, chain.Write{Op: chain.OpPut, Key: []byte(moon)})
	}
	if err := bucket.Batch(ctx, writes); err != nil {
		fmt.Println(err)
		return
	}
	for item, err := range bucket.Scan(ctx, chain.Range{Start: []byte("jupiter/"), End: []byte("jupiter0")}) {
		fmt.Println(string(item.Key), err)
	}
	// Output:
	// jupiter/europa <nil>
	// jupiter/io <nil>
}

// A watch yields the keys that there are, then each change. Its position, kept, is where another watch goes on.
func ExampleBucket_Watch() {
	ctx, bucket, end := things()
	defer end()
	if _, err := bucket.Put(ctx, []byte("lamp"), []byte("off")); err != nil {
		fmt.Println(err)
		return
	}
	seen := 0
	for change, err := range bucket.Watch(ctx, chain.Range{}, nil) {
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, item := range change.Items {
			fmt.Println(string(item.Key), string(item.Value.Value))
			if seen++; seen == 1 {
				if _, err := bucket.Put(ctx, []byte("lamp"), []byte("on")); err != nil {
					fmt.Println(err)
				}
			}
		}
		if seen == 2 {
			return
		}
	}
	// Output:
	// lamp off
	// lamp on
}

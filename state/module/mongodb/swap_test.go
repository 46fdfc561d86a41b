package mongodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/internal/testenv"
	"orrery/state"
)

// cutter is a way to the server that breaks off after so many commands of those given.
type cutter struct {
	left     atomic.Int64
	total    atomic.Int64
	port     int
	commands [][]byte
	after    func() // called instead of breaking off, if it is set
}

const always = 1 << 40

var (
	changing = [][]byte{[]byte("renameCollection"), []byte("\x02drop\x00"), []byte("\x02create\x00"), []byte("\x02createIndexes"), []byte("\x02insert\x00")}
	reading  = [][]byte{[]byte("\x10listCollections\x00"), []byte("\x02listIndexes\x00"), []byte("\x02find\x00"), []byte("\x12getMore\x00")}
)

func newCutter(t *testing.T, commands [][]byte) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{commands: commands, port: l.Addr().(*net.TCPAddr).Port}
	c.left.Store(always)
	c.run(t, l)
	return c
}

// run serves what comes in until the test ends.
func (c *cutter) run(t *testing.T, l net.Listener) {
	t.Helper()
	backend := fmt.Sprintf("127.0.0.1:%d", testenv.MongoDB(t))
	var all sync.WaitGroup
	all.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { c.serve(from, backend) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
}

func (c *cutter) serve(from net.Conn, backend string) {
	defer from.Close()
	to, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(from, to)
		_ = from.Close()
	}()
	defer func() {
		_ = to.Close()
		<-done
	}()
	for {
		message, err := readMessage(from)
		if err != nil {
			return
		}
		for _, command := range c.commands {
			if bytes.Contains(message[:min(len(message), 64)], command) {
				c.total.Add(1)
				if c.left.Add(-1) < 0 {
					if c.after == nil {
						return
					}
					c.after()
				}
				break
			}
		}
		if _, err := to.Write(message); err != nil {
			return
		}
	}
}

func readMessage(from io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, err
	}
	message := make([]byte, length(head))
	copy(message, head)
	_, err := io.ReadFull(from, message[4:])
	return message, err
}

// changed is a component whose state is not that of the snapshot any more, and the way to it that can be cut.
func changed(t *testing.T, name string) (target, through state.Target, c *cutter, content []byte) {
	t.Helper()
	c = newCutter(t, changing)
	target = filled(t, name)
	content = snapshot(t, target)
	d := connect(t, target)
	insert(t, d, "other", bson.D{{Key: "_id", Value: 1}})
	insert(t, d, "users", bson.D{{Key: "_id", Value: "later"}})
	if err := d.db.Collection("fs.chunks/ü").Drop(t.Context()); err != nil { // so that it comes in where nothing is
		t.Fatal(err)
	}
	through = target
	through.Container.Properties = state.Properties{"port": c.port}
	return target, through, c, content
}

func collections(t *testing.T, target state.Target) string {
	t.Helper()
	names, err := connect(t, target).db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(names)
}

// A restore that breaks off at any command is undone by the next operation, or was done but for the removal of what is
// old; and nothing of it stays.
func TestCrash(t *testing.T) {
	const lanes = 6 // most of the time the driver waits before it connects again
	for lane := range int64(lanes) {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			crash(t, lane, lanes)
		})
	}
}

// crash breaks off at each of so many commands.
func crash(t *testing.T, from, by int64) {
	t.Helper()
	target, through, c, content := changed(t, "crash")
	before := snapshot(t, target)
	if err := New().Restore(t.Context(), through, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	const aside = 3 // old parts, which are removed when all is done
	total := c.total.Load()
	for n := from; n < total; n += by {
		restore(t, target, before)
		c.left.Store(n)
		done, want := n >= total-aside, before
		if done {
			want = content
		}
		err := New().Restore(t.Context(), through, bytes.NewReader(content))
		if done != (err == nil) || !bytes.Equal(snapshot(t, target), want) {
			t.Fatalf("after %d of %d commands: %v, and the state is not what that says", n, total, err)
		}
		if left := collections(t, target); strings.Contains(left, sidePrefix) {
			t.Errorf("left %v", left)
		}
	}
}

// A way back that is cut at any command is gone on with.
func TestCrashOnTheWayBack(t *testing.T) {
	target, through, c, content := changed(t, "back")
	before := snapshot(t, target)
	begin := func() *database {
		d := connect(t, target)
		l := &loader{d: d, ctx: t.Context()}
		if err := read(bytes.NewReader(content), l); err != nil {
			t.Fatal(err)
		}
		if err := d.complete(t.Context(), &l.move, ""); err != nil {
			t.Fatal(err)
		}
		insert(t, d, journal, l.move)
		for _, s := range l.move.Steps { // as forward, up to its end
			if s.Old != "" {
				if err := d.moveAside(t.Context(), s.Name, s.Old); err != nil {
					t.Fatal(err)
				}
			}
			if s.New != "" {
				if err := d.moveIn(t.Context(), s.New, s.Name); err != nil {
					t.Fatal(err)
				}
			}
		}
		return d
	}
	insert(t, begin(), "users", bson.D{{Key: "_id", Value: "of a client that wrote meanwhile"}})
	for n := int64(0); ; n++ {
		c.left.Store(n)
		err := New().Activate(t.Context(), through)
		if is := snapshot(t, target); !bytes.Equal(is, before) {
			t.Fatalf("cut at command %d, the state is not what it was", n)
		}
		if err == nil {
			if n < 8 {
				t.Errorf("it went back with %d commands", n)
			}
			return
		}
		begin()
	}
}

// What is cancelled is undone at once, or done: the context ends at each command.
func TestCancelled(t *testing.T) {
	target, through, c, content := changed(t, "cancel")
	before := snapshot(t, target)
	for n := int64(0); ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		c.after = cancel
		c.left.Store(n)
		err := New().Restore(ctx, through, bytes.NewReader(content))
		ended := ctx.Err() != nil
		cancel()
		if is := snapshot(t, target); err == nil {
			if !bytes.Equal(is, content) {
				t.Errorf("cancelled at command %d, it is neither undone nor done", n)
			}
		} else if !errors.Is(err, context.Canceled) || !bytes.Equal(is, before) {
			t.Fatalf("cancelled at command %d, it is not undone: %v", n, err)
		}
		if !ended {
			if n < 10 {
				t.Errorf("restored with %d commands", n)
			}
			return
		}
		c.after = nil
		c.left.Store(always)
		restore(t, target, before)
	}
}

// Clients stay connected, and what they do meanwhile ends no restore.
func TestClients(t *testing.T) {
	target := filled(t, "clients")
	content := snapshot(t, target)
	client := connect(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		for ctx.Err() == nil {
			_ = client.db.Collection("users").FindOne(ctx, bson.D{{Key: "_id", Value: "a"}}).Err() // may find none in between
		}
	})
	for range 5 {
		restore(t, target, content)
	}
	cancel()
	all.Wait()
	if err := client.db.Collection("users").FindOne(t.Context(), bson.D{{Key: "_id", Value: "a"}}).Err(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("another state was restored")
	}
}

// Package table is the running part of fabric.Table: one Raft log (go.etcd.io/raft) whose entries are
// the table's writes, kept in a small Pebble database on every node.
//
// Create makes the first node of a table; every other node opens an empty directory and waits until Add, called on any
// node of the table, takes it in. Who belongs to the table is data in it (MemberPrefix); the leader makes
// Raft's configuration follow, step by step, so that a change interrupted by a crash is finished by
// whoever leads next. Messages between nodes go through the Transport that the assembly brings.
//
// A Table owns one goroutine for Raft and the disk, one for each watch, and the database in
// Config.Directory. Close waits for all of them.
package table

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"orrery/fabric"
	"orrery/fabric/table/disk"
	"orrery/fabric/table/kv"
	"orrery/fabric/table/watch"
)

// MemberPrefix is where the table keeps its own members: MemberPrefix + NodeID, with the address as the value.
// Add and Remove write there; everyone may read and watch it.
const MemberPrefix = "fabric/table/member/"

// DefaultTick is a sane tick for machines on one network: a heartbeat, with elections after ten to twenty of them.
const DefaultTick = 100 * time.Millisecond

const (
	electionTicks = 10
	retryTicks    = electionTicks // until a follower proposes a write again; the double each time after that
	maxRetryTicks = 8 * retryTicks
	readTicks     = 3 // until a read asks the leader again
	awayTicks     = 30 * electionTicks
)

// Transport carries messages to other nodes.
type Transport interface {
	// Send takes a message for the Receive of another node's table. It must not block: it queues the
	// message (it may keep the slice) or drops it. Raft repairs what is lost, late, doubled or out of order.
	// Most messages are small; one that carries a snapshot is as large as the table (kv.MaxSize at worst).
	Send(to fabric.NodeID, message []byte)
}

// Config is what a table needs.
type Config struct {
	Self      fabric.NodeID
	Directory string // belongs to the table alone
	Transport Transport
	Tick      time.Duration // 0: DefaultTick
	Logger    *slog.Logger  // nil: discard
}

func (c Config) withDefaults() Config {
	if c.Tick == 0 {
		c.Tick = DefaultTick
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Table is this node's part of the replicated table.
type Table struct {
	config Config
	self   uint64
	hub    watch.Hub

	inbox  chan *raftpb.Message
	writes chan *write
	reads  chan *read

	stop     func()        // tells the loop to end; may be called again
	stopping chan struct{} // closed by stop
	finished chan struct{} // closed when the loop has ended

	mu      sync.RWMutex
	machine *kv.Machine
	status  Status
	changed chan struct{} // closed and replaced when the members in status change
	err     error         // why the loop ended
}

var _ fabric.Table = (*Table)(nil)

// Create makes a new table in an empty directory, with c.Self as its only member, which others
// reach at address, and with some keys. It starts nothing: Open does. If the directory holds a table already the error
// matches fs.ErrExist.
func Create(c Config, address string, first ...fabric.Entry) error {
	return createOn(c.withDefaults(), address, disk.Config{Directory: c.Directory}, first...)
}

func createOn(c Config, address string, d disk.Config, first ...fabric.Entry) error {
	self, err := raftID(c.Self)
	if err != nil {
		return err
	}
	d.Self, d.Logger = self, c.Logger
	machine := kv.New()
	first = append([]fabric.Entry{{Key: MemberPrefix + string(c.Self), Value: []byte(address)}}, first...)
	for i, e := range first {
		sequence := uint64(i) + 1
		machine.Apply(kv.Command{Client: self, Sequence: sequence, Floor: sequence, Op: kv.OpPut, Key: e.Key, Value: e.Value})
	}
	return disk.Create(d, machine)
}

// Open starts the table that the directory holds. In an empty directory it starts a node that waits to be added to one.
func Open(c Config) (*Table, error) {
	return open(c.withDefaults(), disk.Config{Directory: c.Directory})
}

func open(c Config, d disk.Config) (*Table, error) {
	self, err := raftID(c.Self)
	if err != nil {
		return nil, err
	}
	d.Self, d.Logger = self, c.Logger
	// The clock makes a node whose directory was lost begin above its earlier incarnations.
	store, err := disk.Open(d, uint64(max(0, time.Now().UnixNano())))
	if err != nil {
		return nil, err
	}
	t := &Table{
		config:   c,
		self:     self,
		inbox:    make(chan *raftpb.Message, 256),
		writes:   make(chan *write),
		reads:    make(chan *read),
		stopping: make(chan struct{}),
		finished: make(chan struct{}),
		machine:  store.Machine(),
		changed:  make(chan struct{}),
	}
	l, err := newLoop(t, store)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	t.stop = sync.OnceFunc(func() { close(t.stopping) })
	go l.run()
	return t, nil
}

// Close stops this node's part of the table and waits for it. The others go on if a majority is left.
func (t *Table) Close() error {
	t.stop()
	<-t.finished
	t.mu.RLock()
	defer t.mu.RUnlock()
	if errors.Is(t.err, fabric.ErrClosed) {
		return nil
	}
	return t.err
}

// Done is closed when the table has stopped: by Close, or because its database failed. Err says why.
func (t *Table) Done() <-chan struct{} { return t.finished }

// Err is nil while the table runs, matches fabric.ErrClosed after Close, and is the cause otherwise.
func (t *Table) Err() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.err
}

// Receive takes a message that another node's Transport sent. from is who the connection proved the sender to be.
// It does not block; under overload messages are dropped. It keeps nothing of message.
func (t *Table) Receive(from fabric.NodeID, message []byte) error {
	m, err := decodeMessage(from, t.self, message)
	if err != nil {
		return err
	}
	select {
	case t.inbox <- m:
	default:
	}
	return nil
}

// Get returns a key's entry.
func (t *Table) Get(ctx context.Context, key string) (fabric.Entry, error) {
	if err := t.readable(ctx); err != nil {
		return fabric.Entry{}, fmt.Errorf("cannot read %s in the table: %w", key, err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.machine.Sealed(key); err != nil {
		return fabric.Entry{}, err
	}
	e, ok := t.machine.Get(key)
	if !ok {
		return fabric.Entry{}, fmt.Errorf("key %s of the table: %w", key, fabric.ErrNotFound)
	}
	e.Value = bytes.Clone(e.Value)
	return e, nil
}

// List returns the entries under a prefix.
func (t *Table) List(ctx context.Context, prefix string) ([]fabric.Entry, error) {
	if err := t.readable(ctx); err != nil {
		return nil, fmt.Errorf("cannot list %s in the table: %w", prefix, err)
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.machine.Sealed(prefix); err != nil {
		return nil, err
	}
	entries := t.machine.List(prefix)
	for i := range entries {
		entries[i].Value = bytes.Clone(entries[i].Value)
	}
	return entries, nil
}

// Put writes a value.
func (t *Table) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return t.write(ctx, kv.Command{Op: kv.OpPut, Key: key, Value: value})
}

// CompareAndSwap writes a value if the key has not changed.
func (t *Table) CompareAndSwap(ctx context.Context, key string, revision uint64, value []byte) (uint64, error) {
	return t.write(ctx, kv.Command{Op: kv.OpSwap, Key: key, Expect: revision, Value: value})
}

// Delete removes a key.
func (t *Table) Delete(ctx context.Context, key string, revision uint64) error {
	_, err := t.write(ctx, kv.Command{Op: kv.OpDelete, Key: key, Expect: revision})
	return err
}

// Watch delivers the prefix as this node knows it, and then its changes.
func (t *Table) Watch(ctx context.Context, prefix string) (<-chan fabric.Change, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := cmp.Or(t.err, ctx.Err()); err != nil {
		return nil, fmt.Errorf("cannot watch %s in the table: %w", prefix, err)
	}
	return t.hub.Watch(ctx, prefix, fabric.Change{Entries: t.machine.List(prefix), Revision: t.machine.Revision()})
}

// write proposes a command and waits until it is applied here.
func (t *Table) write(ctx context.Context, c kv.Command) (uint64, error) {
	if err := kv.Check(c.Key, c.Value); err != nil {
		return 0, err
	}
	w := &write{command: c, done: make(chan kv.Result, 1)}
	result, err := ask(ctx, t, t.writes, w, w.done)
	if err != nil {
		w.abandoned.Store(true)
	} else {
		err = result.Err()
	}
	if err != nil {
		return 0, fmt.Errorf("cannot write %s in the table: %w", c.Key, err)
	}
	return result.Revision, nil
}

// readable returns once this node knows everything that was committed before the call.
func (t *Table) readable(ctx context.Context) error {
	r := &read{done: make(chan struct{})}
	_, err := ask(ctx, t, t.reads, r, r.done)
	if err != nil {
		r.abandoned.Store(true)
	}
	return err
}

// ask hands a request to the loop and waits for its answer.
func ask[Q, A any](ctx context.Context, t *Table, to chan<- Q, request Q, answer <-chan A) (A, error) {
	var none A
	if err := ctx.Err(); err != nil {
		return none, t.gaveUp(err)
	}
	select {
	case to <- request:
	case <-ctx.Done():
		return none, t.gaveUp(ctx.Err())
	case <-t.finished:
		return none, t.Err()
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return none, t.gaveUp(ctx.Err())
	case <-t.finished:
		return none, t.Err()
	}
}

// gaveUp says what was missing when a context ended: an answer in time can only come from a majority.
func (t *Table) gaveUp(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no majority of its %d voters answered in time: %w", fabric.ErrNoQuorum, len(t.Status().Voters), err)
	}
	return err
}

// raftID is a node's number in Raft: its id read as hexadecimal.
func raftID(id fabric.NodeID) (uint64, error) {
	n, err := strconv.ParseUint(string(id), 16, 64)
	if err != nil || len(id) != 16 || nodeID(n) != id || n == raft.None || raft.IsLocalMsgTarget(n) {
		return 0, fmt.Errorf("node id %q cannot be in a table: it is not 16 lower-case hexadecimal digits, or one of the reserved ones", id)
	}
	return n, nil
}

func nodeID(n uint64) fabric.NodeID { return fabric.NodeID(fmt.Sprintf("%016x", n)) }

// Package shared is the fabric.Table that a cluster's parts share: their keys are in one bucket of the replicated store (Bucket), kept by one chain that is
// never split, so that all keys are as of one sequence. Keys that begin with kv.Own stay on the ground, the Raft table, because they are needed before there
// are chains, or say where chains are.
//
// A key of the ground, the record (kv.SealKey), says where the shared keys are: without it on the ground, as before there were chains; once it says Moved in the
// bucket, for good. Migrate leads from the one to the other, see move.go. A call that comes in between waits.
//
// Every node follows the bucket and keeps what it saw in memory, for watches and for long lists, and in a file, so that a node that starts and reaches
// nobody still knows what it knew last. Reads and writes do not rely on that: they ask the chain.
//
// A Table owns three goroutines, the client of the bucket, one goroutine for each watch and the file. Close ends them.
package shared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/fabric/client"
	"orrery/fabric/table/kv"
	"orrery/fabric/table/watch"
)

// Bucket is the name of the bucket.
const Bucket = placement.SharedBucket

// Factor is on how many nodes the shared keys are, if there are so many.
const Factor = 3

// Config is what a Table needs.
type Config struct {
	// Ground is the Raft table.
	Ground fabric.Table
	// Open opens a client of the replicated store, which the Table closes.
	Open func(ctx context.Context) (*client.Client, error)
	// Create makes the bucket; fabric.ErrConflict if it is there.
	Create func(ctx context.Context) error
	// Able says which nodes of the cluster cannot be told to use the bucket, or that it is nil: all of them can.
	Able func(ctx context.Context) error
	// Leads says whether this node should finish a migration that somebody began, before others do.
	Leads func() bool
	// File is where this node keeps what it knows; empty: nowhere.
	File   string
	Logger *slog.Logger // nil: discard
}

// Table is the shared table as one node has it.
type Table struct {
	config Config
	hub    watch.Hub
	cache  *cache
	stop   context.CancelFunc
	ended  <-chan struct{} // closed by stop
	work   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	record   record
	client   *client.Client
	bucket   *bucket // nil: not to be used yet
	news     chan struct{}
	entries  map[string]fabric.Entry // what this node knows
	size     int                     // bytes of it
	revision uint64                  // of entries
	synced   bool                    // entries are what the bucket had at revision
	further  chan struct{}           // closed when revision has grown
}

var _ fabric.Table = (*Table)(nil)

// Open opens the table. What this node knows can be watched at once.
func Open(ctx context.Context, c Config) (*Table, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Table{config: c, entries: map[string]fabric.Entry{}, news: make(chan struct{}), further: make(chan struct{})}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop, t.ended = stop, life.Done()
	changes, err := c.Ground.Watch(life, "")
	if err != nil {
		stop()
		return nil, fmt.Errorf("cannot open the shared table: %w", err)
	}
	moved := make(chan struct{})
	// Whatever the ground has is told at once.
	if err := t.observe(<-changes); err != nil {
		stop()
		return nil, fmt.Errorf("cannot open the shared table: %w", err)
	}
	t.recall(ctx)
	t.work.Go(func() { t.watchGround(life, changes, moved) })
	t.work.Go(func() { t.watchBucket(life, moved) })
	t.work.Go(func() { t.finish(life) })
	return t, nil
}

// Close ends all watches and calls.
func (t *Table) Close() error {
	t.mu.Lock()
	t.closed = true
	c := t.client
	t.mu.Unlock()
	t.stop()
	var err error
	if c != nil {
		err = c.Close()
	}
	t.work.Wait()
	t.hub.Close()
	return errors.Join(err, t.cache.close())
}

// watchGround follows the ground: the record, and the shared keys as long as they are there.
func (t *Table) watchGround(ctx context.Context, changes <-chan fabric.Change, moved chan<- struct{}) {
	told := false
	for {
		if !told && t.known().Phase == phaseMoved {
			told = true
			close(moved)
		}
		c, ok := <-changes
		if !ok {
			return
		}
		if err := t.observe(c); err != nil {
			t.config.Logger.ErrorContext(ctx, "shared keys cannot be used", "error", err)
		}
	}
}

// observe takes over what changed on the ground.
func (t *Table) observe(c fabric.Change) error {
	var err error
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []fabric.Entry
	for _, e := range c.Entries {
		switch {
		case e.Key == kv.SealKey:
			var next record
			if next, err = decodeRecord(e.Value); err == nil && t.record.Phase != phaseMoved {
				t.record = next
			}
			close(t.news)
			t.news = make(chan struct{})
		case !strings.HasPrefix(e.Key, kv.Own):
			keys = append(keys, e)
		}
	}
	if t.record.Phase == phaseMoved {
		keys, c.Revision = nil, t.revision // what the ground has of them is old
	}
	t.publish(keys, c.Revision)
	return err
}

// publish takes changes over and tells those who watch; the lock is held.
func (t *Table) publish(entries []fabric.Entry, revision uint64) {
	for _, e := range entries {
		if old, ok := t.entries[e.Key]; ok {
			t.size -= len(e.Key) + len(old.Value)
		}
		if e.Value == nil {
			delete(t.entries, e.Key)
			continue
		}
		t.entries[e.Key] = e
		t.size += len(e.Key) + len(e.Value)
	}
	t.revision = revision
	t.hub.Publish(fabric.Change{Entries: entries, Revision: revision})
	close(t.further)
	t.further = make(chan struct{})
}

// known is the record as this node knows it.
func (t *Table) known() record {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record
}

// list are the entries with a prefix that this node knows, sorted; the lock is held.
func (t *Table) list(prefix string) []fabric.Entry {
	var found []fabric.Entry
	for _, key := range slices.Sorted(maps.Keys(t.entries)) {
		if strings.HasPrefix(key, prefix) {
			found = append(found, t.entries[key])
		}
	}
	return found
}

// recall takes over what the file has, if the keys are in the bucket.
func (t *Table) recall(ctx context.Context) {
	if t.config.File == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c, kept, err := openCache(t.config.File)
	if err != nil {
		t.config.Logger.WarnContext(ctx, "what this node knows of the shared keys is not kept for its next start", "error", err)
		return
	}
	t.cache = c
	if t.record.Phase == phaseMoved && kept.Revision >= t.record.Offset {
		t.entries, t.size, t.revision = map[string]fabric.Entry{}, 0, 0
		t.publish(kept.Entries, kept.Revision)
		t.synced = true
	}
}

// keep writes a change to the file.
func (t *Table) keep(ctx context.Context, change fabric.Change) {
	if err := t.cache.append(change, t.everything); err != nil {
		t.config.Logger.WarnContext(ctx, "what this node knows of the shared keys is not kept for its next start", "error", err)
	}
}

// everything is all that this node knows.
func (t *Table) everything() fabric.Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fabric.Change{Entries: t.list(""), Revision: t.revision}
}

// await waits until something is so of what this node knows. met is called with the lock held.
func (t *Table) await(ctx context.Context, met func() bool) error {
	for {
		t.mu.Lock()
		there, further := met(), t.further
		t.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-further:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.ended:
			return fabric.ErrClosed
		}
	}
}

// catchUp is how long a call waits, once it has its answer, for this node's watches to show what it saw or did. They do, unless
// the connection that they come by was just lost.
const catchUp = 500 * time.Millisecond

// shown gives watches a moment to show what there is at a revision.
func (t *Table) shown(ctx context.Context, revision uint64) {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	_ = t.await(ctx, func() bool { return t.synced && t.revision >= revision })
}

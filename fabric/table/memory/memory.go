// Package memory is a fabric.Table within one process: the same state machine as the
// replicated table, without a log. It is for tests of those who use a table,
// and forgets everything when it is gone.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"orrery/fabric"
	"orrery/fabric/table/kv"
	"orrery/fabric/table/watch"
)

// Table is a fabric.Table in memory.
type Table struct {
	hub watch.Hub

	mu       sync.Mutex
	machine  *kv.Machine
	sequence uint64
	closed   bool
}

var _ fabric.Table = (*Table)(nil)

// New returns an empty table.
func New() *Table { return &Table{machine: kv.New()} }

// Close ends all watches; every later call returns fabric.ErrClosed.
func (t *Table) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.hub.Close()
	return nil
}

// Get returns a key's entry.
func (t *Table) Get(ctx context.Context, key string) (fabric.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return fabric.Entry{}, err
	}
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
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
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

func (t *Table) write(ctx context.Context, c kv.Command) (uint64, error) {
	if err := kv.Check(c.Key, c.Value); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return 0, err
	}
	t.sequence++
	c.Sequence, c.Floor, c.Value = t.sequence, t.sequence, bytes.Clone(c.Value)
	result, changed := t.machine.Apply(c)
	if err := result.Err(); err != nil {
		return 0, fmt.Errorf("key %s of the table: %w", c.Key, err)
	}
	if changed != nil {
		t.hub.Publish(fabric.Change{Entries: []fabric.Entry{*changed}, Revision: result.Revision})
	}
	return result.Revision, nil
}

// Watch delivers the prefix and then its changes.
func (t *Table) Watch(ctx context.Context, prefix string) (<-chan fabric.Change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return nil, err
	}
	return t.hub.Watch(ctx, prefix, fabric.Change{Entries: t.machine.List(prefix), Revision: t.machine.Revision()})
}

func (t *Table) usable(ctx context.Context) error {
	if t.closed {
		return fmt.Errorf("table: %w", fabric.ErrClosed)
	}
	return ctx.Err()
}

// Package authoritytest makes clusters for tests: a table in memory, and authorities that joined by real tokens.
package authoritytest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"orrery/fabric"
	"orrery/fabric/authority"
)

// Table is a fabric.Table in memory, for one process. The zero value is empty.
type Table struct {
	mu       sync.Mutex
	revision uint64
	entries  map[string]fabric.Entry
	watchers map[chan struct{}]bool
	// Fail, if set, is asked before every operation.
	Fail func(operation, key string) error
}

var _ fabric.Table = (*Table)(nil)

func (t *Table) begin(operation, key string) error {
	if t.Fail == nil {
		return nil
	}
	return t.Fail(operation, key)
}

// Get returns a key.
func (t *Table) Get(_ context.Context, key string) (fabric.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.begin("get", key); err != nil {
		return fabric.Entry{}, err
	}
	e, ok := t.entries[key]
	if !ok {
		return fabric.Entry{}, fabric.ErrNotFound
	}
	return e, nil
}

// List returns the keys under prefix.
func (t *Table) List(_ context.Context, prefix string) ([]fabric.Entry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.begin("list", prefix); err != nil {
		return nil, err
	}
	return t.list(prefix), nil
}

func (t *Table) list(prefix string) []fabric.Entry {
	var found []fabric.Entry
	for _, key := range slices.Sorted(maps.Keys(t.entries)) {
		if strings.HasPrefix(key, prefix) {
			found = append(found, t.entries[key])
		}
	}
	return found
}

// Put writes a key.
func (t *Table) Put(_ context.Context, key string, value []byte) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.begin("put", key); err != nil {
		return 0, err
	}
	return t.write(key, value), nil
}

func (t *Table) write(key string, value []byte) uint64 {
	if t.entries == nil {
		t.entries = map[string]fabric.Entry{}
	}
	t.revision++
	t.entries[key] = fabric.Entry{Key: key, Value: slices.Clone(value), Revision: t.revision}
	t.notify()
	return t.revision
}

func (t *Table) notify() {
	for w := range t.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// CompareAndSwap writes a key that is still at a revision.
func (t *Table) CompareAndSwap(_ context.Context, key string, revision uint64, value []byte) (uint64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.begin("cas", key); err != nil {
		return 0, err
	}
	if t.entries[key].Revision != revision {
		return 0, fabric.ErrConflict
	}
	return t.write(key, value), nil
}

// Delete removes a key.
func (t *Table) Delete(_ context.Context, key string, revision uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.begin("delete", key); err != nil {
		return err
	}
	if revision != 0 && t.entries[key].Revision != revision {
		return fabric.ErrConflict
	}
	delete(t.entries, key)
	t.revision++
	t.notify()
	return nil
}

// Watch delivers the whole prefix at every change, and deleted keys with a nil value.
func (t *Table) Watch(ctx context.Context, prefix string) (<-chan fabric.Change, error) {
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	t.mu.Lock()
	if t.watchers == nil {
		t.watchers = map[chan struct{}]bool{}
	}
	t.watchers[wake] = true
	t.mu.Unlock()
	out := make(chan fabric.Change)
	go func() {
		defer close(out)
		defer func() { t.mu.Lock(); delete(t.watchers, wake); t.mu.Unlock() }()
		t.follow(ctx, prefix, wake, out)
	}()
	return out, nil
}

func (t *Table) follow(ctx context.Context, prefix string, wake <-chan struct{}, out chan<- fabric.Change) {
	before := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		t.mu.Lock()
		change := fabric.Change{Entries: t.list(prefix), Revision: t.revision}
		t.mu.Unlock()
		now := map[string]bool{}
		for _, e := range change.Entries {
			now[e.Key] = true
		}
		for key := range before {
			if !now[key] {
				change.Entries = append(change.Entries, fabric.Entry{Key: key, Revision: change.Revision})
			}
		}
		before = now
		select {
		case out <- change:
		case <-ctx.Done():
			return
		}
	}
}

// Cluster is a cluster of authorities without machines.
type Cluster struct {
	First     *authority.Authority
	Table     *Table
	Registrar *authority.Registrar
}

// NewCluster creates a cluster whose first node has the name.
func NewCluster(tb testing.TB, name string) *Cluster {
	tb.Helper()
	a, err := authority.Create(tb.TempDir(), name)
	if err != nil {
		tb.Fatal(err)
	}
	table := &Table{}
	r, err := authority.NewRegistrar(a, table)
	if err != nil {
		tb.Fatal(err)
	}
	return &Cluster{a, table, r}
}

// Admit makes one more holder, by a token.
func (c *Cluster) Admit(tb testing.TB, name string, role fabric.Role) *authority.Authority {
	tb.Helper()
	token, err := c.Registrar.Issue(tb.Context(), role, 0)
	if err != nil {
		tb.Fatal(err)
	}
	candidate, err := authority.NewCandidate(tb.TempDir(), name, token)
	if err != nil {
		tb.Fatal(err)
	}
	q, err := candidate.Request()
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := c.Registrar.Admit(tb.Context(), q)
	if err != nil {
		tb.Fatal(err)
	}
	a, err := candidate.Accept(answer)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

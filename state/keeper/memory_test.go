package keeper

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"orrery/state"
)

// memory is a state.Store without a disk.
type memory struct {
	mu          sync.Mutex
	snapshots   map[state.SnapshotID]memorySnapshot
	generations []state.Generation
	numbers     map[state.Ref]uint64
	sources     []state.Source // of all saves
}

type memorySnapshot struct {
	state.Snapshot
	content []byte
}

var _ state.Store = (*memory)(nil)

func newMemory() *memory {
	return &memory{snapshots: map[state.SnapshotID]memorySnapshot{}, numbers: map[state.Ref]uint64{}}
}

func (m *memory) Save(_ context.Context, r state.Ref, module, reason string, from state.Source) (state.Generation, error) {
	var b bytes.Buffer
	if from.Image != nil {
		if _, err := io.Copy(&b, io.NewSectionReader(from.Image, 0, from.Image.Size())); err != nil {
			return state.Generation{}, err
		}
	} else if err := from.Write(&b); err != nil {
		return state.Generation{}, err
	}
	sum := blake3.Sum256(b.Bytes())
	id := state.SnapshotID(hex.EncodeToString(sum[:]))
	m.mu.Lock()
	m.sources = append(m.sources, from)
	m.snapshots[id] = memorySnapshot{state.Snapshot{ID: id, Module: module, Size: int64(b.Len())}, b.Bytes()}
	m.mu.Unlock()
	return m.Adopt(context.TODO(), r, reason, id)
}

func (m *memory) Adopt(_ context.Context, r state.Ref, reason string, id state.SnapshotID) (state.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.snapshots[id]
	if !ok {
		return state.Generation{}, state.ErrCorrupt
	}
	for _, g := range slices.Backward(m.generations) {
		if g.Container == r.Container && g.Component == r.Component {
			if g.Snapshot == id {
				return g, nil
			}
			break
		}
	}
	m.numbers[r]++
	g := state.Generation{Number: m.numbers[r], Container: r.Container, Component: r.Component, Snapshot: id, Time: time.Now(), Reason: reason, Size: s.Size}
	m.generations = append(m.generations, g)
	return g, nil
}

type memoryReader struct {
	*bytes.Reader
	store   *memory
	content []byte
}

func (memoryReader) Close() error { return nil }

func (r memoryReader) Differs(_ context.Context, from state.SnapshotID) ([]state.Range, error) {
	r.store.mu.Lock()
	old := r.store.snapshots[from].content
	r.store.mu.Unlock()
	var ranges []state.Range
	const block = 4096
	for at := 0; at < len(r.content); at += block {
		end := min(at+block, len(r.content))
		if end > len(old) || !bytes.Equal(old[at:end], r.content[at:end]) {
			ranges = append(ranges, state.Range{Offset: int64(at), Length: int64(end - at)})
		}
	}
	return ranges, nil
}

func (m *memory) Open(_ context.Context, id state.SnapshotID) (state.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.snapshots[id]
	if !ok {
		return nil, fmt.Errorf("snapshot %s: %w", id, state.ErrNotFound)
	}
	return memoryReader{bytes.NewReader(s.content), m, s.content}, nil
}

func (m *memory) Get(_ context.Context, id state.SnapshotID) (state.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.snapshots[id]
	if !ok {
		return state.Snapshot{}, fmt.Errorf("snapshot %s: %w", id, state.ErrNotFound)
	}
	return s.Snapshot, nil
}

func (m *memory) Generations(_ context.Context, r state.Ref) ([]state.Generation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []state.Generation
	for _, g := range m.generations {
		if r == (state.Ref{}) || g.Container == r.Container && g.Component == r.Component {
			found = append(found, g)
		}
	}
	return found, nil
}

func (m *memory) Verify(ctx context.Context, id state.SnapshotID) error {
	if _, err := m.Get(ctx, id); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := blake3.Sum256(m.snapshots[id].content)
	if hex.EncodeToString(sum[:]) != string(id) {
		return state.ErrCorrupt
	}
	return nil
}

func (m *memory) Prune(context.Context, state.Ref, int, bool) (state.Pruned, error) {
	return state.Pruned{}, nil
}

func (m *memory) Usage(context.Context) (state.Usage, error) { return state.Usage{}, nil }

func (m *memory) Objects(_ context.Context, id state.SnapshotID) ([]string, error) {
	return []string{string(id)}, nil
}

func (m *memory) Missing(context.Context, []string) ([]string, error) { return nil, nil }

func (m *memory) Export(context.Context, []string, io.Writer) error { return nil }

func (m *memory) Import(context.Context, io.Reader) error { return nil }

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/internal/progress"
	"orrery/state"
)

// saver is one Save under way.
type saver struct {
	*catalog
	ctx     context.Context //nolint:containedctx // lives as long as the call that has it
	parent  *manifest       // what deltas are made against, nil if nothing
	m       *manifest
	content int64 // bytes of stored segments
	task    *progress.Task
}

// Save takes a snapshot, stores what is new in it and adds a generation. Saves of one component wait for each other.
func (s *Store) Save(ctx context.Context, r state.Ref, module, reason string, from state.Source) (state.Generation, error) {
	g, err := s.save(ctx, r, module, reason, from)
	if err != nil {
		return state.Generation{}, fmt.Errorf("cannot save a snapshot of %s: %w", r, err)
	}
	return g, nil
}

func (s *Store) save(ctx context.Context, r state.Ref, module, reason string, from state.Source) (g state.Generation, err error) {
	if err := checkRef(r); err != nil {
		return g, err
	}
	if (from.Write == nil) == (from.Image == nil) {
		return g, errors.New("a source is either a stream or an image")
	}
	tags, err := sortedTags(from.Tags)
	if err != nil {
		return g, err
	}
	held, err := s.lockHistory(ctx, r)
	if err != nil {
		return g, err
	}
	defer held.release()
	began := s.now()
	c, err := s.catalog(ctx)
	if err != nil {
		return g, err
	}
	defer c.close()
	h, err := s.history(r)
	if err != nil {
		return g, err
	}
	w := &saver{catalog: c, ctx: ctx, m: &manifest{Module: module}}
	c.fresh = s.newPack(savePrefix)
	defer func() { err = errors.Join(err, c.fresh.abort()) }()
	w.task = progress.Start(ctx, "snapshot "+r.String(), 0)
	defer w.task.End()
	if err := w.take(from, h.newest()); err != nil {
		return g, err
	}
	if w.m.ID.id() == h.newest() && from.Group == "" && !h.last().Unfinished || from.Group != "" && h.has(from.Group, w.m.ID.id()) {
		return w.again(h, tags)
	}
	g = state.Generation{
		Container: r.Container, Component: r.Component, Snapshot: w.m.ID.id(), Reason: reason, Size: w.m.Size,
		Server: from.Server, Took: s.now().Sub(began), Group: from.Group, Label: state.Label{Tags: tags},
		GroupSize: from.GroupSize, Unfinished: from.Group != "" && from.GroupSize > 0,
	}
	if g.Stored, err = w.commit(); err != nil {
		return g, err
	}
	return s.appendAt(h, g, from.Time)
}

// again returns the newest generation, which has the state that was saved, with the tags added. The save before may
// have failed when it made its files' names durable, so that is made sure of.
func (w *saver) again(h history, tags []string) (state.Generation, error) {
	g := h.last()
	if _, err := w.commit(); err != nil {
		return *g, err
	}
	if changed, err := relabel(&g.Label, state.Relabel{AddTags: tags}); err != nil {
		return *g, err
	} else if changed {
		return *g, w.store.writeHistory(state.Ref{Container: g.Container, Component: g.Component}, h)
	}
	return *g, w.store.settle(*g)
}

// take reads the source and stores its segments.
func (w *saver) take(from state.Source, newest state.SnapshotID) error {
	if from.Image == nil {
		w.adoptParent(newest)
		return w.stream(from.Write)
	}
	changed, ok := from.Image.Changed()
	if ok && from.Since != "" {
		w.adoptParent(from.Since)
	}
	ok = ok && w.parent != nil
	if w.parent == nil {
		w.adoptParent(newest)
	}
	return w.image(from.Image, changed, ok)
}

// adoptParent sets what deltas are made against. A parent that cannot be read is none: the snapshot is stored whole.
func (w *saver) adoptParent(id state.SnapshotID) {
	if id == "" {
		return
	}
	m, err := w.manifest(id)
	if err == nil {
		err = w.store.intact(w.catalog, m)
	}
	if err != nil {
		w.store.log.Warn("snapshot is stored without its parent", "parent", id, "error", err)
		return
	}
	w.parent, w.m.Parent = m, id
}

// commit stores the manifest unless it is there already, and makes everything durable.
func (w *saver) commit() (stored int64, err error) {
	name := manifestName(w.m.ID)
	if w.find(name) != nil {
		return w.mend(name)
	}
	w.m.Created = w.store.now().UTC()
	w.m.Stored = w.content
	b, err := w.m.encode()
	if err != nil {
		return 0, err
	}
	w.m.Stored += int64(len(b))
	if b, err = w.m.encode(); err != nil {
		return 0, err
	}
	if err := w.fresh.add(entry{name: name, kind: kindManifest, position: free, size: int64(len(b))}, b); err != nil {
		return 0, err
	}
	return w.fresh.commit()
}

// mend makes sure of a snapshot that is there already. Objects of it that were lost are stored anew.
func (w *saver) mend(name digest) (stored int64, err error) {
	m, err := w.manifestNamed(name)
	if err != nil {
		return 0, err
	}
	err = w.store.intact(w.catalog, m)
	if err == nil {
		return 0, w.store.files.SyncDir(w.store.packs())
	}
	if !slices.Equal(m.Segments, w.m.Segments) {
		return 0, fmt.Errorf("the same state was saved before, cut otherwise, and is damaged (prune its generations first): %w", err)
	}
	w.store.log.Warn("objects of a snapshot had been lost and are stored anew", "snapshot", string(m.ID.id()), "error", err)
	return w.fresh.commit()
}

// put stores a segment unless it is there and all that it is made from. The bases are segments of
// the parent that it probably resembles.
func (w *saver) put(data []byte, name digest, position int64, bases []digest) error {
	w.task.Add(int64(len(data)))
	if w.fresh.find(name) != nil || w.find(name) != nil && w.store.readable(w.catalog, name) {
		w.task.Saved(int64(len(data)))
		return nil
	}
	e := entry{name: name, position: position, size: int64(len(data))}
	content := w.shrink(&e, data, bases)
	w.content += int64(len(content))
	w.task.Saved(e.size - int64(len(content)))
	return w.fresh.add(e, content)
}

// shrink finds the encoding of a segment: a delta if that is much smaller than the whole.
func (w *saver) shrink(e *entry, data []byte, bases []digest) []byte {
	c := w.codec
	patch := w.patch(e, data, bases)
	if patch != nil && len(patch) <= len(data)/16 {
		return patch
	}
	c.tight2 = c.enc.EncodeAll(data, c.tight2[:0])
	switch {
	case patch != nil && len(patch) <= min(len(c.tight2), len(data))/2:
		return patch
	case len(c.tight2) < len(data):
		e.kind, e.depth, e.effort, e.bases = kindZstd, 0, 0, nil
		return c.tight2
	}
	e.kind, e.depth, e.effort, e.bases = kindRaw, 0, 0, nil
	return data
}

// patch encodes a segment as a delta; nil if that is not possible or of no use.
func (w *saver) patch(e *entry, data []byte, bases []digest) []byte {
	depth, effort, limit := 0, 0, maxDepth
	for _, name := range bases {
		base := w.has(name)
		if base == nil {
			return nil
		}
		depth = max(depth, int(base.depth))
		effort += int(base.effort) + 1
		// Chains end at different lengths, so that not all segments are written whole in the same snapshot.
		limit = min(limit, maxDepth-7+int(base.name[0]%8))
	}
	if len(bases) == 0 || depth+1 > limit || effort > maxEffort {
		return nil
	}
	base, err := w.bases(bases, 0)
	if err != nil {
		w.store.log.Warn("segment is stored whole", "base", bases[0].String(), "error", err)
		return nil
	}
	c := w.codec
	if c.coded = c.delta.Encode(c.coded[:0], base, data); len(c.coded) > len(data)/2 {
		return nil
	}
	c.tight = c.enc.EncodeAll(c.coded, c.tight[:0])
	e.kind, e.depth, e.effort, e.bases = kindDelta, uint8(depth+1), uint8(effort), bases
	return c.tight
}

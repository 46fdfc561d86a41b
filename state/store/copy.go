package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orrery/state"
)

// copyPack is how much a copy adds to a pack unless it is told otherwise. What is interrupted begins again with that one.
const copyPack = 32 << 20

// Moved says what a copy has done.
type Moved struct {
	Generations []state.Generation `json:"generations"` // as they are in the store copied to
	Objects     int                `json:"objects"`
	Bytes       int64              `json:"bytes"` // of objects, as they are stored
	Left        int64              `json:"-"`     // bytes of the generation under way that are still to come
}

// copying is a Copy under way.
type copying struct {
	from, to *Store
	moved    Moved
	progress func(Moved)
}

// Copy brings generations of another store into this one, with their times, reasons and labels, and moves only the
// objects that are not here. Each is decoded and compared with its name before it is kept. What was moved
// stays where it is interrupted, and is not moved again. Both stores are held against prunes meanwhile.
func (s *Store) Copy(ctx context.Context, from *Store, all []state.Generation, progress func(Moved)) (Moved, error) {
	c := &copying{from: from, to: s, progress: progress}
	if progress == nil {
		c.progress = func(Moved) {}
	}
	err := c.run(ctx, all)
	if err != nil {
		err = fmt.Errorf("cannot copy from snapshot store %s to %s: %w", from.name, s.name, err)
	}
	return c.moved, err
}

func (c *copying) run(ctx context.Context, all []state.Generation) error {
	if c.from.name == c.to.name {
		return fmt.Errorf("%w: both are the same store", state.ErrBadProperty)
	}
	for _, s := range []*Store{c.from, c.to} {
		l, err := s.lock(ctx, false)
		if err != nil {
			return err
		}
		defer l.release()
	}
	for _, g := range all {
		if err := c.generation(ctx, g); err != nil {
			return fmt.Errorf("%s/%s, generation %d: %w", g.Container, g.Component, g.Number, err)
		}
	}
	return nil
}

// generation moves one generation. Objects come first, so that the entry is right whenever it is there.
func (c *copying) generation(ctx context.Context, g state.Generation) error {
	h, err := c.to.history(state.Ref{Container: g.Container, Component: g.Component})
	if err != nil {
		return err
	}
	if h.same(g) != nil {
		return nil
	}
	source, err := c.from.catalog(ctx)
	if err != nil {
		return err
	}
	defer source.close()
	before := c.moved.Bytes
	for {
		more, err := c.pack(ctx, source, g.Snapshot)
		if err != nil {
			return err
		}
		c.progress(c.moved)
		if !more {
			break
		}
	}
	g.Stored = c.moved.Bytes - before
	if g, err = c.to.adoptAs(ctx, g); err != nil {
		return err
	}
	c.moved.Generations = append(c.moved.Generations, g)
	c.progress(c.moved)
	return nil
}

// pack moves what fits into one pack, and says whether there is more.
func (c *copying) pack(ctx context.Context, source *catalog, id state.SnapshotID) (more bool, err error) {
	into, err := c.to.catalog(ctx)
	if err != nil {
		return false, err
	}
	defer into.close()
	into.fresh = c.to.newPack(importPrefix)
	i := &importer{catalog: into}
	if c.to.distant() {
		i.source = source
	}
	left, err := lacking(source, into, id)
	if err != nil {
		return false, err
	}
	objects, n, err := c.fill(ctx, i, source, left)
	if err != nil && i.writing {
		return false, errors.Join(err, into.fresh.abort())
	}
	_, failed := into.fresh.commit()
	if err = errors.Join(err, failed); err == nil {
		c.moved.Objects += objects
		c.moved.Bytes += n
	}
	return objects < len(left), err
}

// fill writes objects until the pack has its size.
func (c *copying) fill(ctx context.Context, i *importer, source *catalog, left []*entry) (objects int, n int64, err error) {
	c.moved.Left = 0
	for _, e := range left {
		c.moved.Left += e.stored
	}
	for ; objects < len(left) && n < c.to.copyPack; objects++ {
		e := left[objects]
		if err := ctx.Err(); err != nil {
			return objects, n, err
		}
		if err := i.take(ctx, source, e.name); err != nil {
			return objects, n, err
		}
		n += e.stored
		c.moved.Left -= e.stored
	}
	return objects, n, nil
}

// take keeps an object of another store after verifying it.
func (i *importer) take(ctx context.Context, source *catalog, name digest) error {
	e, content, err := source.load(name)
	if err != nil {
		return err
	}
	i.payload = *bytes.NewBuffer(append(i.payload.Bytes()[:0], content...))
	if e.kind == kindManifest {
		return i.manifest(ctx, *e)
	}
	return i.segment(*e)
}

// lacking are the objects that a store must get for a snapshot, bases first and the manifest last. What a delta
// is made from is among them only where the delta is.
func lacking(source, into *catalog, id state.SnapshotID) ([]*entry, error) {
	m, err := source.manifest(id)
	if err != nil {
		return nil, err
	}
	var all []*entry
	seen := map[digest]bool{}
	var need func(name digest) error
	need = func(name digest) error {
		if seen[name] || into.find(name) != nil && into.store.readable(into, name) {
			return nil
		}
		seen[name] = true
		e := source.find(name)
		if e == nil {
			return source.absent(name)
		}
		for _, base := range e.bases {
			if err := need(base); err != nil {
				return err
			}
		}
		all = append(all, e)
		return nil
	}
	for _, name := range m.Segments {
		if err := need(name); err != nil {
			return nil, fmt.Errorf("snapshot %s: %w", id, err)
		}
	}
	name := manifestName(m.ID)
	if into.find(name) == nil {
		all = append(all, source.find(name))
	}
	return all, nil
}

// distant says whether reading the store takes requests.
func (s *Store) distant() bool {
	_, ok := s.raw.(*bucketFiles)
	return ok
}

// same is the entry of a history that a generation of another store is; nil if none.
func (h history) same(g state.Generation) *state.Generation {
	for i := range h.Generations {
		if o := &h.Generations[i]; o.Snapshot == g.Snapshot && o.Time.Equal(g.Time) {
			return o
		}
	}
	return nil
}

// place puts a generation of another store where its number belongs. If that is taken, it becomes the newest.
func (h *history) place(g state.Generation) state.Generation {
	at, taken := slices.BinarySearchFunc(h.Generations, g.Number, func(o state.Generation, n uint64) int {
		switch {
		case o.Number < n:
			return -1
		case o.Number > n:
			return 1
		}
		return 0
	})
	if taken || g.Number == 0 {
		g.Number, at = h.Next, len(h.Generations)
	}
	h.Next = max(h.Next, g.Number+1)
	h.Generations = slices.Insert(slices.Clone(h.Generations), at, g)
	return g
}

// adoptAs adds a generation of another store, whose objects are here.
func (s *Store) adoptAs(ctx context.Context, g state.Generation) (state.Generation, error) {
	r := state.Ref{Container: g.Container, Component: g.Component}
	if err := checkRef(r); err != nil {
		return g, err
	}
	held, err := s.lockHistory(ctx, r)
	if err != nil {
		return g, err
	}
	defer held.release()
	c, err := s.catalog(ctx)
	if err != nil {
		return g, err
	}
	defer c.close()
	m, err := c.manifest(g.Snapshot)
	if err != nil {
		return g, err
	}
	if err := c.whole(m); err != nil {
		return g, err
	}
	if err := s.files.SyncDir(s.packs()); err != nil { // an earlier copy may have failed at it
		return g, err
	}
	h, err := s.history(r)
	if err != nil {
		return g, err
	}
	if o := h.same(g); o != nil {
		return *o, s.settle(*o)
	}
	g = h.place(g)
	return g, s.writeHistory(r, h)
}

// Needed leaves out of the names that a receiver misses those that it can do without: what segments that it has were
// once made from. Without the manifest of a snapshot among them, all are needed.
func (s *Store) Needed(ctx context.Context, missing []string) ([]string, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	asked, needed := map[digest]bool{}, map[digest]bool{}
	var manifests []digest
	for _, name := range missing {
		d, err := parseObject(name)
		if err != nil {
			return nil, err
		}
		if asked[d] = true; strings.HasPrefix(name, "m-") {
			manifests = append(manifests, d)
		}
	}
	if len(manifests) == 0 {
		return missing, nil
	}
	for _, name := range manifests {
		m, err := c.manifestNamed(name)
		if err != nil {
			return nil, err
		}
		for stack := append([]digest{name}, m.Segments...); len(stack) > 0; {
			name, stack = stack[len(stack)-1], stack[:len(stack)-1]
			if e := c.find(name); e != nil && asked[name] && !needed[name] {
				needed[name] = true
				stack = append(stack, e.bases...)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(missing), func(name string) bool {
		d, err := parseObject(name)
		return err == nil && !needed[d]
	}), nil
}

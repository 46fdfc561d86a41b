package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
)

const (
	smallPack  = 1 << 20 // packs below this are merged
	smallPacks = 32      // once there are more of them
)

// Prune drops all but the newest keep generations of a component (of each component for the zero Ref) and then
// every object that no generation, open reader or recent import needs. It waits, as long as ctx allows, for saves
// and imports to end. Packs that are mostly dead are rewritten.
func (s *Store) Prune(ctx context.Context, r state.Ref, keep int, dryRun bool) (state.Pruned, error) {
	p, err := s.prune(ctx, r, keep, dryRun)
	if err != nil {
		return p, fmt.Errorf("cannot prune the snapshot store: %w", err)
	}
	return p, nil
}

func (s *Store) prune(ctx context.Context, r state.Ref, keep int, dryRun bool) (done state.Pruned, err error) {
	if keep < 0 {
		return done, errors.New("the number of generations to keep is negative")
	}
	refs, err := s.refs(r)
	if err != nil {
		return done, err
	}
	for _, r := range refs {
		dropped, err := s.drop(ctx, r, keep, dryRun)
		if err != nil {
			return done, err
		}
		done.Generations = append(done.Generations, dropped...)
	}
	l, err := s.lock(ctx, !dryRun)
	if err != nil {
		return done, err
	}
	c, err := s.locked(l)
	if err != nil {
		return done, err
	}
	defer c.close()
	w := &sweep{catalog: c, live: map[digest]*pack{}, dryRun: dryRun}
	if err := w.mark(ctx, done.Generations); err != nil {
		return done, err
	}
	err = w.run(ctx, &done)
	return done, err
}

// drop removes the oldest generations of a component.
func (s *Store) drop(ctx context.Context, r state.Ref, keep int, dryRun bool) ([]state.Generation, error) {
	l, err := s.lockHistory(ctx, r)
	if err != nil {
		return nil, err
	}
	defer l.release()
	writing, err := s.lock(ctx, false) // another prune would take the new file for a left-over
	if err != nil {
		return nil, err
	}
	defer writing.release()
	h, err := s.history(r)
	if err != nil || len(h.Generations) <= keep {
		return nil, err
	}
	n := len(h.Generations) - keep
	dropped := h.Generations[:n]
	if h.Generations = h.Generations[n:]; dryRun {
		return dropped, nil
	}
	return dropped, s.writeHistory(r, h)
}

// sweep is a prune under way, alone in the store unless it only looks.
type sweep struct {
	*catalog
	live   map[digest]*pack // where the copy of each needed object is
	dryRun bool
}

// advice is what to do about a pack whose index is damaged. Nothing does it by itself: the file may be whole
// again when the disk or a copy is.
const advice = "nothing was removed; bring the file back from a copy of the store, or else move it out of the folder packs: " +
	"the snapshots that need it are lost then (verify says which), and the next save of each component stores its state anew"

// mark finds what is needed, as if the dropped generations were not there.
func (w *sweep) mark(ctx context.Context, dropped []state.Generation) error {
	for _, p := range w.packs {
		if p.broken != nil {
			return fmt.Errorf("what is needed cannot be told: %w; %s", p.broken, advice)
		}
	}
	type key struct {
		state.Ref
		number uint64
	}
	gone := map[key]bool{}
	for _, g := range dropped {
		gone[key{state.Ref{Container: g.Container, Component: g.Component}, g.Number}] = true
	}
	kept, err := w.store.Generations(ctx, state.Ref{})
	if err != nil {
		return err
	}
	for _, g := range kept {
		if gone[key{state.Ref{Container: g.Container, Component: g.Component}, g.Number}] {
			continue
		}
		if err := w.snapshot(g.Snapshot); err != nil {
			return err
		}
	}
	if err := w.leased(ctx); err != nil {
		return err
	}
	return w.recent()
}

// snapshot marks what a snapshot needs. One that is not there needs nothing.
func (w *sweep) snapshot(id state.SnapshotID) error {
	m, err := w.manifest(id)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	w.object(manifestName(m.ID))
	for _, name := range m.Segments {
		w.object(name)
	}
	return nil
}

// object marks an object and those that it refers to.
func (w *sweep) object(name digest) {
	for stack := []digest{name}; len(stack) > 0; {
		name, stack = stack[len(stack)-1], stack[:len(stack)-1]
		if w.live[name] != nil {
			continue
		}
		if e, p := w.locate(name); e != nil {
			w.live[name] = p
			stack = append(stack, e.bases...)
		}
	}
}

// leased marks the snapshots that are being read, and removes leases that nobody holds.
func (w *sweep) leased(ctx context.Context) error {
	dir := w.store.leases()
	files, err := w.store.files.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		l, err := w.store.files.TryLock(ctx, name, true)
		if errors.Is(err, state.ErrInUse) {
			if err := w.snapshot(state.SnapshotID(f.Name())); err != nil {
				return err
			}
			continue
		}
		if err == nil && !w.dryRun {
			err = w.store.files.Remove(name)
		}
		l.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// recent marks what was imported lately.
func (w *sweep) recent() error {
	for _, p := range w.packs {
		if !strings.HasPrefix(p.name, importPrefix) {
			continue
		}
		info, err := w.store.files.Stat(filepath.Join(w.store.packs(), p.name))
		if err != nil {
			return err
		}
		if w.store.now().Sub(info.ModTime()) >= w.store.grace {
			continue
		}
		for i := range p.entries {
			if !p.dies(i) {
				w.object(p.entries[i].name)
			}
		}
	}
	return nil
}

// run removes what is not marked.
func (w *sweep) run(ctx context.Context, done *state.Pruned) error {
	fresh := w.store.newPack(savePrefix)
	defer func() { _ = fresh.abort() }()
	dead, manifests := w.dead()
	done.Snapshots = manifests
	for _, p := range dead {
		done.Bytes += p.size
		if err := w.rescue(ctx, p, fresh, done); err != nil {
			return err
		}
	}
	if w.dryRun {
		return nil
	}
	added, err := fresh.commit()
	done.Bytes -= added
	if err != nil {
		return err
	}
	if err := w.bury(dead); err != nil {
		return err
	}
	for _, p := range dead {
		if err := w.store.files.Remove(filepath.Join(w.store.packs(), p.name)); err != nil {
			return err
		}
	}
	return w.clean()
}

// dead returns the packs to do away with and how many snapshots end.
func (w *sweep) dead() (packs []*pack, manifests int) {
	gone := map[digest]bool{}
	var small []*pack
	for _, p := range w.packs {
		var live int64
		for i := range p.entries {
			e := &p.entries[i]
			if w.live[e.name] == p {
				live += e.stored
			} else if e.kind == kindManifest && !p.dies(i) && w.live[e.name] == nil && !gone[e.name] {
				gone[e.name] = true
				manifests++
			}
		}
		if live <= p.size/2 {
			packs = append(packs, p)
		} else if p.size < smallPack {
			small = append(small, p)
		}
	}
	if len(small) > smallPacks {
		packs = append(packs, small...)
	}
	return packs, manifests
}

// bury makes what is not needed invisible, all at once.
func (w *sweep) bury(packs []*pack) error {
	dead, changed := map[string][]byte{}, false
	for _, p := range w.packs {
		bits, some := make([]byte, (len(p.entries)+7)/8), slices.Contains(packs, p)
		for i := range p.entries {
			if some || w.live[p.entries[i].name] != p {
				bits[i/8] |= 1 << (i % 8)
			}
		}
		if some = some || slices.ContainsFunc(bits, func(b byte) bool { return b != 0 }); some {
			dead[p.name] = bits
		}
		changed = changed || some && !bytes.Equal(bits, p.dead)
	}
	if !changed {
		return nil
	}
	return w.store.writeDead(dead)
}

// rescue copies the living objects of a pack into a new one.
func (w *sweep) rescue(ctx context.Context, p *pack, into *packWriter, done *state.Pruned) error {
	for i := range p.entries {
		e := &p.entries[i]
		if w.live[e.name] != p {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.dryRun {
			done.Bytes -= e.stored
			continue
		}
		_, content, err := w.load(e.name)
		if err != nil {
			return err
		}
		if err := into.add(*e, content); err != nil {
			return err
		}
	}
	return nil
}

// clean removes what killed processes left. Nobody else is writing.
func (w *sweep) clean() error {
	left, err := w.store.files.ReadDir(w.store.temps())
	if err != nil {
		return err
	}
	for _, f := range left {
		if err := w.store.files.Remove(filepath.Join(w.store.temps(), f.Name())); err != nil {
			return err
		}
	}
	return w.store.files.SyncDir(w.store.packs())
}

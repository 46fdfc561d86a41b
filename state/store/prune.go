package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"orrery/internal/progress"
	"orrery/state"
	"orrery/state/retention"
)

const (
	smallPack  = 1 << 20 // packs below this are merged
	smallPacks = 32      // once there are more of them
)

// Prune drops the generations of a component (of each component for the zero Ref) that keep does not keep, and then
// every object that no generation, open reader or recent import needs. It waits, as long as ctx allows, for saves
// and imports to end. Packs that are mostly dead are rewritten. Where the disk is too full for that, nothing is dropped.
func (s *Store) Prune(ctx context.Context, r state.Ref, keep state.Retention, dryRun bool) (state.Pruned, error) {
	err := retention.Check(keep)
	var p state.Pruned
	if err == nil {
		p, err = s.prune(ctx, r, dryRun, func(all []state.Generation) (kept, dropped []state.Generation, err error) {
			kept, dropped = retention.Choose(all, keep)
			return kept, dropped, nil
		})
	}
	if err != nil {
		return p, fmt.Errorf("cannot prune the snapshot store: %w", err)
	}
	return p, nil
}

// choice divides a component's generations into those that stay and those that go.
type choice func(all []state.Generation) (kept, dropped []state.Generation, err error)

func (s *Store) prune(ctx context.Context, r state.Ref, dryRun bool, choose choice) (done state.Pruned, err error) {
	if _, err := s.refs(r); err != nil {
		return done, err
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
	w := &sweep{catalog: c, live: map[digest]*pack{}, dryRun: dryRun, histories: map[state.Ref]history{}}
	if err := w.choose(r, choose, &done); err != nil {
		return done, err
	}
	if err := w.mark(ctx, done.Generations); err != nil {
		return state.Pruned{}, err
	}
	if err := w.run(ctx, &done); err != nil {
		return state.Pruned{}, err
	}
	return done, nil
}

// choose finds the generations to drop. Whoever changes a history holds the store shared, so it needs no other lock.
func (w *sweep) choose(r state.Ref, choose choice, done *state.Pruned) error {
	refs, err := w.store.refs(r)
	if err != nil {
		return err
	}
	for _, r := range refs {
		h, err := w.store.history(r)
		if err != nil {
			return err
		}
		kept, dropped, err := choose(h.finished())
		if err != nil {
			return err
		}
		if len(dropped) == 0 {
			continue
		}
		h.Generations = inOrder(kept, h.unfinished())
		w.histories[r] = h
		done.Generations = append(done.Generations, dropped...)
	}
	return nil
}

// sweep is a prune under way, alone in the store unless it only looks.
type sweep struct {
	*catalog
	live      map[digest]*pack      // where the copy of each needed object is
	made      map[digest]*pack      // see founded
	histories map[state.Ref]history // as they are to be
	dryRun    bool
	task      *progress.Task
}

// advice is what to do about a pack whose index is damaged. Nothing does it by itself: the file may be whole
// again when the disk or a copy is.
const advice = "nothing was removed; bring the file back from a copy of the store, or else have orrery snapshot repair move it aside: " +
	"the snapshots that need it are lost then (verify says which), and the next save of each component stores its state anew"

// mark finds what is needed, as if the dropped generations were not there.
func (w *sweep) mark(ctx context.Context, dropped []state.Generation) error {
	for _, p := range w.packs {
		if p.broken != nil {
			return fmt.Errorf("what is needed cannot be told: %w; %s", p.broken, advice)
		}
	}
	w.made = founded(w.packs)
	type key struct {
		state.Ref
		number uint64
	}
	gone := map[key]bool{}
	for _, g := range dropped {
		gone[key{state.Ref{Container: g.Container, Component: g.Component}, g.Number}] = true
	}
	kept, err := w.store.everything(ctx)
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
		if e, p := w.place(name); e != nil {
			w.live[name] = p
			stack = append(stack, e.bases...)
		}
	}
}

// place finds the copy of an object that stays. What cannot be made from what is here stays as it is: the rest of it
// may be brought back.
func (w *sweep) place(name digest) (*entry, *pack) {
	if p := w.made[name]; p != nil {
		return p.find(name), p
	}
	return w.locate(name)
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

// run removes what is not marked. Whatever takes space is written first and the generations are dropped after it; up to
// there an error leaves everything as it was.
func (w *sweep) run(ctx context.Context, done *state.Pruned) error {
	fresh := w.store.newPack(savePrefix)
	defer func() { _ = fresh.abort() }()
	dead, manifests := w.dead()
	done.Snapshots = manifests
	w.task = progress.Start(ctx, "prune", total(dead))
	defer w.task.End()
	for _, p := range dead {
		done.Bytes += p.size
		if err := w.rescue(ctx, p, fresh, done); err != nil {
			return err
		}
	}
	if w.dryRun {
		return nil
	}
	files, err := w.stage(dead)
	if err != nil {
		return err
	}
	added, err := fresh.commit()
	done.Bytes -= added
	if err != nil {
		return errors.Join(err, discard(files))
	}
	for i, f := range files {
		if err := f.publish(); err != nil {
			return errors.Join(err, discard(files[i+1:]))
		}
	}
	for _, p := range dead {
		if err := w.store.files.Remove(filepath.Join(w.store.packs(), p.name)); err != nil {
			return err
		}
	}
	return w.clean()
}

// stage writes the histories as they are to be, and what is dead, which is published last: the prune happens then.
func (w *sweep) stage(dead []*pack) (files []*pending, err error) {
	for r, h := range w.histories {
		p, err := w.store.stageHistory(r, h)
		if err != nil {
			return nil, errors.Join(err, discard(files))
		}
		files = append(files, p)
	}
	p, err := w.bury(dead)
	if err != nil {
		return nil, errors.Join(err, discard(files))
	}
	if p != nil {
		files = append(files, p)
	}
	return files, nil
}

func discard(files []*pending) error {
	var failed []error
	for _, f := range files {
		failed = append(failed, f.discard())
	}
	return errors.Join(failed...)
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

// bury writes what makes the rest invisible, all at once; nil if nothing changes.
func (w *sweep) bury(packs []*pack) (*pending, error) {
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
		return nil, nil
	}
	return w.store.stageDead(dead)
}

// rescue copies the living objects of a pack into a new one.
func (w *sweep) rescue(ctx context.Context, p *pack, into *packWriter, done *state.Pruned) error {
	for i := range p.entries {
		e := &p.entries[i]
		w.task.Add(e.stored)
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
		content, err := w.loadFrom(p, e)
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

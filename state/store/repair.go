package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"orrery/internal/progress"
	"orrery/state"
)

// Repair mends what can be mended, alone in the store. Whole objects of damaged packs are copied into a new pack before
// the damaged ones are moved aside, so that it may be interrupted anywhere and repeated.
func (s *Store) Repair(ctx context.Context, dropLost, dryRun bool) (state.Repair, error) {
	r := &repair{store: s, dryRun: dryRun, dropLost: dropLost, rest: map[string][]byte{}}
	r.done = state.Repair{Mended: []state.Damage{}, Aside: []string{}, Lost: []state.Loss{}, Dropped: []state.Generation{}, Left: []state.Damage{}}
	if err := r.run(ctx); err != nil {
		return r.done, fmt.Errorf("cannot repair the snapshot store: %w", err)
	}
	return r.done, nil
}

// repair is a Repair under way.
type repair struct {
	store            *Store
	dryRun, dropLost bool
	done             state.Repair
	rest             map[string][]byte // by damaged pack, a bit for each entry that is not whole
}

func (r *repair) damagedDir() string { return filepath.Join(r.store.dir, "damaged") }

func (r *repair) run(ctx context.Context) error {
	l, err := r.store.lock(ctx, !r.dryRun)
	if err != nil {
		return err
	}
	r.store.anew()
	c, err := r.store.locked(l)
	if err != nil {
		return err
	}
	defer func() { c.close() }()
	if err := r.version(); err != nil {
		return err
	}
	if err := r.histories(); err != nil {
		return err
	}
	if err := r.packs(ctx, c); err != nil {
		return err
	}
	if err := r.generations(c); err != nil || r.dryRun || !r.dropLost || len(r.done.Lost) == 0 {
		return err
	}
	return r.buryLost(c)
}

func (r *repair) version() error {
	s := r.store
	if s.versionProblem(s.raw.ReadFile(s.versionFile())) == nil {
		return nil
	}
	version := formatVersion
	if s.key != nil {
		version = formatEncrypted
	}
	r.mended(s.versionFile(), "written anew")
	if r.dryRun {
		return nil
	}
	return s.writeVersion(version)
}

// buryLost makes the manifests of lost snapshots invisible, so that the same state can be stored again, and what can be
// made from nothing any more.
func (r *repair) buryLost(c *catalog) error {
	gone := map[digest]bool{}
	for _, l := range r.done.Lost {
		if id, err := parseID(l.Snapshot); err == nil {
			gone[manifestName(id)] = true
		}
	}
	dead, lost := map[string][]byte{}, orphans(c.packs)
	for _, p := range c.packs {
		bits := either(either(p.dead, lost[p.name]), make([]byte, (len(p.entries)+7)/8))
		for i := range p.entries {
			if gone[p.entries[i].name] {
				bits[i/8] |= 1 << (i % 8)
			}
		}
		if slices.ContainsFunc(bits, func(b byte) bool { return b != 0 }) {
			dead[p.name] = bits
		}
	}
	f, err := r.store.stageDead(dead)
	if err != nil {
		return err
	}
	return f.publish()
}

func (r *repair) mended(name, how string) {
	r.done.Mended = append(r.done.Mended, state.Damage{File: r.store.rel(name), Problem: how})
}

// leave notes a damaged file that stays.
func (r *repair) leave(name string, problem error) {
	if !errors.Is(problem, fs.ErrNotExist) {
		r.done.Left = append(r.done.Left, state.Damage{File: r.store.rel(name), Problem: problem.Error()})
	}
}

// aside moves a file out of the way, into the folder damaged.
func (r *repair) aside(name, as string) error {
	r.done.Aside = append(r.done.Aside, r.store.rel(name))
	if r.dryRun {
		return nil
	}
	if err := r.store.files.MkdirAll(r.damagedDir()); err != nil {
		return err
	}
	if err := r.store.files.Rename(name, filepath.Join(r.damagedDir(), as)); err != nil {
		return err
	}
	return errors.Join(r.store.files.SyncDir(r.damagedDir()), r.store.files.SyncDir(filepath.Dir(name)))
}

// histories brings back damaged histories from their copies, and the copies from them.
func (r *repair) histories() error {
	refs, err := r.store.refs(state.Ref{})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if err := r.history(ref); err != nil {
			return err
		}
	}
	return nil
}

func (r *repair) history(ref state.Ref) error {
	s := r.store
	h, err := s.readHistory(s.historyFile(ref), ref)
	copied, failed := s.readHistory(s.historyCopy(ref), ref)
	for _, err := range []error{err, failed} {
		if err != nil && !noHistory(err) {
			return err // a newer version, or the disk
		}
	}
	switch {
	case err == nil && failed == nil && copied.Next == h.Next && len(copied.Generations) == len(h.Generations):
		return nil
	case err == nil:
		if errors.Is(failed, state.ErrCorrupt) {
			r.mended(s.historyCopy(ref), "written anew from "+s.rel(s.historyFile(ref)))
		}
	case failed == nil:
		h = copied
		h.Next++ // the copy may be older by one
		r.mended(s.historyFile(ref), "written anew from "+s.rel(s.historyCopy(ref)))
	case !r.dropLost:
		r.leave(s.historyFile(ref), err)
		r.leave(s.historyCopy(ref), failed)
		return nil
	default:
		return r.lostHistory(ref, err, failed)
	}
	if r.dryRun {
		return nil
	}
	return s.writeHistory(ref, h)
}

// lostHistory moves a history aside of which both files are damaged. What is left of them is for a person to read.
func (r *repair) lostHistory(ref state.Ref, err, failed error) error {
	for name, err := range map[string]error{r.store.historyFile(ref): err, r.store.historyCopy(ref): failed} {
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		as := ref.Container + "." + filepath.Base(name)
		if hidden, ok := r.store.files.(*sealed); ok { // the folder damaged has no secret names
			if as, err = hidden.path(name); err != nil {
				return err
			}
			as = filepath.Base(as)
		}
		if err := r.aside(name, as+"."+random()); err != nil {
			return err
		}
	}
	return nil
}

// packs copies what is whole in damaged packs into a new one and moves them aside, and writes the list of dead objects
// if that is damaged.
func (r *repair) packs(ctx context.Context, c *catalog) error {
	fresh := r.store.newPack(savePrefix)
	defer func() { _ = fresh.abort() }()
	task := progress.Start(ctx, "repair", total(c.packs))
	defer task.End()
	var bad []*pack
	for _, p := range c.packs {
		whole, lost, err := r.sift(ctx, c, p, task)
		if err != nil {
			return err
		}
		if p.broken == nil && p.damaged == nil && lost == 0 && c.begins(p) {
			continue
		}
		bad = append(bad, p)
		r.rest[p.name] = others(p, whole)
		r.mended(filepath.Join(r.store.packs(), p.name), fmt.Sprintf("%d objects are whole and were copied, %d are lost", len(whole), lost))
		if p.broken != nil {
			r.done.Mended[len(r.done.Mended)-1].Problem = "its index is lost, and with it all objects"
		}
		if !r.dryRun {
			if err := copyObjects(ctx, c, p, whole, fresh); err != nil {
				return err
			}
		}
	}
	_, err := r.store.readDead()
	if err != nil && !errors.Is(err, state.ErrCorrupt) {
		return err
	}
	if err != nil {
		r.mended(r.store.deadFile(), "made anew from the packs")
	}
	if len(bad) == 0 && err == nil {
		return nil
	}
	return r.exchange(c, bad, fresh)
}

func total(packs []*pack) (n int64) {
	for _, p := range packs {
		n += p.size
	}
	return n
}

// begins says whether the file of a pack begins as one.
func (c *catalog) begins(p *pack) bool {
	f, err := c.handle(p)
	if err != nil {
		return false
	}
	var magic [len(packMagic)]byte
	_, err = f.ReadAt(magic[:], 0)
	return err == nil && string(magic[:]) == packMagic
}

// sift finds which objects of a pack are whole.
func (r *repair) sift(ctx context.Context, c *catalog, p *pack, task *progress.Task) (whole []int, lost int, err error) {
	for i := range p.entries {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		if p.dies(i) {
			continue
		}
		e := &p.entries[i]
		task.Add(e.stored)
		stored, err := c.loadFrom(p, e)
		if err == nil {
			err = c.codec.frame(e, stored)
		}
		switch {
		case err == nil:
			whole = append(whole, i)
		case damage(err):
			lost++
		default:
			return nil, 0, err
		}
	}
	return whole, lost, nil
}

// others has a bit for each entry but the given ones.
func others(p *pack, which []int) []byte {
	bits := make([]byte, (len(p.entries)+7)/8)
	for i := range p.entries {
		bits[i/8] |= 1 << (i % 8)
	}
	for _, i := range which {
		bits[i/8] &^= 1 << (i % 8)
	}
	return bits
}

// frame checks the bytes of an object as far as that is possible without what it is made from.
func (c *codec) frame(e *entry, stored []byte) (err error) {
	switch e.kind {
	case kindRaw:
		if sum(stored, e.position) != e.name {
			err = errors.New("content differs from its hash")
		}
	case kindZstd, kindDelta:
		c.plain = grow(c.plain, maxStored)[:0]
		c.plain, err = c.dec.DecodeAll(stored, c.plain)
	case kindManifest:
		_, err = decodeManifest(stored)
	}
	if err != nil {
		return fmt.Errorf("object %s: %w: %w", e, state.ErrCorrupt, err)
	}
	return nil
}

// copyObjects copies objects of a pack as they are.
func copyObjects(ctx context.Context, c *catalog, p *pack, which []int, into *packWriter) error {
	for _, i := range which {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := &p.entries[i]
		if into.find(e.name) != nil {
			continue
		}
		stored, err := c.loadFrom(p, e)
		if err != nil {
			return err
		}
		if err := into.add(*e, stored); err != nil {
			return err
		}
	}
	return nil
}

// exchange puts the new pack in place of the damaged ones. What is made from lost objects is dead then.
func (r *repair) exchange(c *catalog, bad []*pack, fresh *packWriter) error {
	s := r.store
	if !r.dryRun {
		if _, err := fresh.commit(); err != nil {
			return err
		}
	}
	for _, p := range bad {
		if err := r.aside(filepath.Join(s.packs(), p.name), p.name); err != nil {
			return err
		}
	}
	if r.dryRun {
		c.packs = r.without(c.packs, bad)
		return nil
	}
	var err error
	if c.packs, err = s.indexes(); err != nil {
		return err
	}
	dead := orphans(c.packs)
	for _, p := range c.packs {
		if dead[p.name] = either(dead[p.name], p.dead); len(dead[p.name]) == 0 {
			delete(dead, p.name)
		}
	}
	f, err := s.stageDead(dead)
	if err != nil {
		return err
	}
	if err := f.publish(); err != nil {
		return err
	}
	c.undecoded = map[digest]error{}
	c.packs, err = s.indexes()
	return err
}

// either is the union of two bitmaps.
func either(a, b []byte) []byte {
	if len(a) < len(b) {
		a, b = b, a
	}
	a = bytes.Clone(a)
	for i := range b {
		a[i] |= b[i]
	}
	return a
}

// without is what a repair that only looks would leave: the packs, and of damaged ones the objects that are whole.
func (r *repair) without(packs, bad []*pack) []*pack {
	var left []*pack
	for _, p := range packs {
		switch {
		case !slices.Contains(bad, p):
			left = append(left, p)
		case p.broken == nil:
			left = append(left, p.with(r.rest[p.name]))
		}
	}
	return left
}

// generations finds what is lost, and drops that if it is to be.
func (r *repair) generations(c *catalog) error {
	r.store.anew()
	refs, err := r.store.refs(state.Ref{})
	if err != nil {
		return err
	}
	lost := map[state.SnapshotID]bool{}
	for _, ref := range refs {
		h, err := r.store.history(ref)
		if errors.Is(err, state.ErrCorrupt) {
			continue
		}
		if err != nil {
			return err
		}
		kept := slices.DeleteFunc(slices.Clone(h.Generations), func(g state.Generation) bool { return r.isLost(c, g, lost) })
		if len(kept) == len(h.Generations) || !r.dropLost {
			continue
		}
		for _, g := range h.Generations {
			if lost[g.Snapshot] {
				r.done.Dropped = append(r.done.Dropped, g)
			}
		}
		if h.Generations = kept; r.dryRun {
			continue
		}
		if err := r.store.writeHistory(ref, h); err != nil {
			return err
		}
	}
	return nil
}

// isLost says whether a generation's snapshot cannot be had any more, and takes that down.
func (r *repair) isLost(c *catalog, g state.Generation, lost map[state.SnapshotID]bool) bool {
	if _, known := lost[g.Snapshot]; !known {
		m, err := c.manifest(g.Snapshot)
		if err == nil {
			err = c.whole(m)
		}
		if err == nil {
			err = r.store.intact(c, m)
		}
		if lost[g.Snapshot] = err != nil; err != nil {
			r.done.Lost = append(r.done.Lost, state.Loss{Snapshot: g.Snapshot, Problem: err.Error()})
		}
	}
	if !lost[g.Snapshot] {
		return false
	}
	i := slices.IndexFunc(r.done.Lost, func(l state.Loss) bool { return l.Snapshot == g.Snapshot })
	r.done.Lost[i].Generations = append(r.done.Lost[i].Generations, g)
	return true
}

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"orrery/state"
)

var _ state.Curator = (*Store)(nil)

// sortedTags checks tags and returns them sorted, without doubles.
func sortedTags(tags []string) ([]string, error) {
	for _, tag := range tags {
		if !state.ValidTag(tag) {
			return nil, fmt.Errorf("tag %.80q: %w: a tag has letters, digits and \"_.:-\", at most 64", tag, state.ErrBadProperty)
		}
	}
	sorted := slices.Clone(tags)
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}

// relabel changes a label and says whether that made a difference.
func relabel(l *state.Label, change state.Relabel) (changed bool, err error) {
	add, err := sortedTags(change.AddTags)
	if err != nil {
		return false, err
	}
	tags := slices.DeleteFunc(slices.Concat(l.Tags, add), func(tag string) bool {
		return slices.Contains(change.RemoveTags, tag)
	})
	slices.Sort(tags)
	if tags = slices.Compact(tags); !slices.Equal(tags, l.Tags) {
		l.Tags, changed = tags, true
	}
	changed = set(&l.Note, change.Note) || changed
	changed = set(&l.Pinned, change.Pinned) || changed
	changed = setTime(&l.Verified, change.Verified) || changed
	changed = setTime(&l.Tested, change.Tested) || changed
	return changed, nil
}

func set[T comparable](to, from *T) bool {
	if from == nil || *from == *to {
		return false
	}
	*to = *from
	return true
}

func setTime(to, from *time.Time) bool {
	if from == nil || from.Equal(*to) {
		return false
	}
	*to = from.UTC()
	return true
}

// Relabel changes the label of a generation.
func (s *Store) Relabel(ctx context.Context, r state.Ref, number uint64, change state.Relabel) (state.Generation, error) {
	var g state.Generation
	err := s.edit(ctx, r, func(h *history) (bool, error) {
		i := slices.IndexFunc(h.Generations, func(g state.Generation) bool { return g.Number == number })
		if i < 0 {
			return false, fmt.Errorf("generation %d: %w (see orrery snapshot list %s)", number, state.ErrNotFound, r)
		}
		changed, err := relabel(&h.Generations[i].Label, change)
		g = h.Generations[i]
		return changed, err
	})
	if err != nil {
		return state.Generation{}, fmt.Errorf("cannot label a generation of %s: %w", r, err)
	}
	return g, nil
}

// edit changes the history of a component, which nobody else does meanwhile.
func (s *Store) edit(ctx context.Context, r state.Ref, do func(*history) (changed bool, err error)) error {
	if err := checkRef(r); err != nil {
		return err
	}
	held, err := s.lockHistory(ctx, r)
	if err != nil {
		return err
	}
	defer held.release()
	writing, err := s.lock(ctx, false) // a prune writes histories too
	if err != nil {
		return err
	}
	defer writing.release()
	h, err := s.history(r)
	if err != nil {
		return err
	}
	h.Generations = slices.Clone(h.Generations)
	changed, err := do(&h)
	if err != nil || !changed {
		return err
	}
	return s.writeHistory(r, h)
}

// verified notes when a snapshot was read whole, in all generations that point at it.
func (s *Store) verified(ctx context.Context, ids map[state.SnapshotID]time.Time) error {
	refs, err := s.refs(state.Ref{})
	if err != nil {
		return err
	}
	for _, r := range refs {
		h, err := s.readHistory(s.historyFile(r), r)
		_, copied := s.readHistory(s.historyCopy(r), r)
		if err != nil || copied != nil && !errors.Is(copied, fs.ErrNotExist) {
			continue // the audit says so, and writing would hide it
		}
		if !slices.ContainsFunc(h.Generations, func(g state.Generation) bool { return !ids[g.Snapshot].IsZero() }) {
			continue
		}
		err = s.edit(ctx, r, func(h *history) (changed bool, err error) {
			for i := range h.Generations {
				if at, ok := ids[h.Generations[i].Snapshot]; ok {
					changed = setTime(&h.Generations[i].Verified, &at) || changed
				}
			}
			return changed, nil
		})
		if err != nil {
			return fmt.Errorf("cannot note what was verified of %s: %w", r, err)
		}
	}
	return nil
}

// Forget drops generations by number, pinned ones too, and then every object that nothing needs.
func (s *Store) Forget(ctx context.Context, r state.Ref, numbers []uint64, dryRun bool) (state.Pruned, error) {
	p, err := s.prune(ctx, r, dryRun, func(all []state.Generation) (kept, dropped []state.Generation, err error) {
		for _, n := range numbers {
			if !slices.ContainsFunc(all, func(g state.Generation) bool { return g.Number == n }) {
				return nil, nil, fmt.Errorf("generation %d: %w", n, state.ErrNotFound)
			}
		}
		for _, g := range all {
			if slices.Contains(numbers, g.Number) {
				dropped = append(dropped, g)
			} else {
				kept = append(kept, g)
			}
		}
		if len(kept) > 0 && len(dropped) > 0 && dropped[len(dropped)-1].Number > kept[len(kept)-1].Number {
			return nil, nil, fmt.Errorf("generation %d is the newest: it is dropped only together with all others: %w", all[len(all)-1].Number, state.ErrInUse)
		}
		return kept, dropped, nil
	})
	if err != nil {
		return p, fmt.Errorf("cannot forget generations of %s: %w", r, err)
	}
	return p, nil
}

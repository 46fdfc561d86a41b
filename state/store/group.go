package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/state"
)

// A group's generations are saved unfinished, and only the store sees them. Once all are there the marks are taken away
// one after the other. So a group of which any member has no mark is whole, whenever its writer was killed.

func unfinished(g state.Generation) bool { return g.Unfinished }

// finished are the generations that others see.
func (h history) finished() []state.Generation {
	if !slices.ContainsFunc(h.Generations, unfinished) {
		return h.Generations
	}
	return slices.DeleteFunc(slices.Clone(h.Generations), unfinished)
}

// unfinished are the others. No retention drops them.
func (h history) unfinished() []state.Generation {
	return slices.DeleteFunc(slices.Clone(h.Generations), func(g state.Generation) bool { return !g.Unfinished })
}

func inOrder(a, b []state.Generation) []state.Generation {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y state.Generation) int { return cmp.Compare(x.Number, y.Number) })
	return all
}

// has says whether the newest generation is the group's, of this state.
func (h history) has(group string, id state.SnapshotID) bool {
	return h.newest() == id && h.last().Group == group
}

// everything lists all generations, those that are unfinished too.
func (s *Store) everything(ctx context.Context) ([]state.Generation, error) {
	refs, err := s.refs(state.Ref{})
	if err != nil {
		return nil, err
	}
	var all []state.Generation
	for _, r := range refs {
		h, err := s.history(r)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		all = append(all, h.Generations...)
	}
	return all, nil
}

// Conclude makes the generations of a group visible; see state.Grouping.
func (s *Store) Conclude(ctx context.Context, group string, refs []state.Ref) ([]state.Generation, error) {
	for _, r := range refs {
		if _, err := s.inGroup(r, group); err != nil {
			return nil, fmt.Errorf("cannot conclude group %s: %w", group, err)
		}
	}
	var all []state.Generation
	for _, r := range refs {
		g, err := s.finish(ctx, r, group)
		if err != nil {
			return nil, fmt.Errorf("cannot conclude group %s: %s: %w", group, r, err)
		}
		all = append(all, g)
	}
	return all, nil
}

// inGroup returns the generation of a component in a group; state.ErrNotFound if there is none.
func (s *Store) inGroup(r state.Ref, group string) (state.Generation, error) {
	if err := checkRef(r); err != nil {
		return state.Generation{}, err
	}
	h, err := s.history(r)
	if err != nil {
		return state.Generation{}, err
	}
	i := slices.IndexFunc(h.Generations, func(g state.Generation) bool { return g.Group == group })
	if i < 0 {
		return state.Generation{}, fmt.Errorf("%s has no generation in it: %w", r, state.ErrNotFound)
	}
	return h.Generations[i], nil
}

func (s *Store) finish(ctx context.Context, r state.Ref, group string) (done state.Generation, err error) {
	err = s.edit(ctx, r, func(h *history) (changed bool, err error) {
		for i := range h.Generations {
			if g := &h.Generations[i]; g.Group == group {
				changed, g.Unfinished = changed || g.Unfinished, false
				done = *g
			}
		}
		return changed, nil
	})
	return done, err
}

// Settle ends what was interrupted; see state.Grouping.
func (s *Store) Settle(ctx context.Context, group string, refs []state.Ref) ([]state.Generation, error) {
	var there []state.Ref // one that was visible may have been dropped since
	whole := false
	for _, r := range refs {
		g, err := s.inGroup(r, group)
		if errors.Is(err, state.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot settle group %s: %w", group, err)
		}
		there, whole = append(there, r), whole || !g.Unfinished
	}
	if whole {
		return s.Conclude(ctx, group, there)
	}
	for _, r := range refs {
		err := s.edit(ctx, r, func(h *history) (bool, error) {
			before := len(h.Generations)
			h.Generations = slices.DeleteFunc(h.Generations, func(g state.Generation) bool { return g.Group == group })
			return len(h.Generations) < before, nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot drop what was saved of group %s: %s: %w", group, r, err)
		}
	}
	return nil, nil
}

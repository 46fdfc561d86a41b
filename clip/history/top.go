package history

import (
	"cmp"
	"container/heap"
	"slices"
)

// candidate is a match while others are looked for.
type candidate struct {
	place uint32
	score int
	order int // when it was used; greater: later
}

func (c candidate) better(d candidate) int {
	return cmp.Or(cmp.Compare(d.score, c.score), cmp.Compare(d.order, c.order))
}

// top is the best so far, a heap with the worst of them in front.
type top []candidate

// Len is heap's.
func (t top) Len() int { return len(t) }

// Less is heap's.
func (t top) Less(i, j int) bool { return t[i].better(t[j]) > 0 }

// Swap is heap's.
func (t top) Swap(i, j int) { t[i], t[j] = t[j], t[i] }

// Push is heap's.
func (t *top) Push(x any) { *t = append(*t, x.(candidate)) } //nolint:forcetypeassert // only add pushes

// Pop is heap's.
func (t *top) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

func (t *top) add(c candidate, limit int) {
	switch {
	case limit <= 0 || len(*t) < limit:
		heap.Push(t, c)
	case c.better((*t)[0]) < 0:
		(*t)[0] = c
		heap.Fix(t, 0)
	}
}

func (t top) sorted() []candidate {
	slices.SortFunc(t, candidate.better)
	return t
}

package sync

import (
	"cmp"
	"math"
	"slices"
	"sync"
)

// maxJournal is how many changes are remembered in their order.
const maxJournal = 1024

// journal is what changed last, in the order of positions.
type journal[T any] struct {
	mu   sync.Mutex
	from int64 // all that changed after this position is here
	lost int64 // what changed up to this position was forgotten
	all  []entry[T]
}

type entry[T any] struct {
	position int64
	what     T
}

// add notes a change. It must be called before its position counts as seen.
func (j *journal[T]) add(position int64, what T) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := j.find(position + 1)
	j.all = slices.Insert(j.all, i, entry[T]{position, what})
	if n := len(j.all); n > 2*maxJournal {
		j.lost = j.all[n-maxJournal-1].position
		j.from = max(j.from, j.lost)
		j.all = slices.Clone(j.all[j.find(j.lost+1):])
	}
}

// restart says that it is known from a position on what changed, and not what did before.
func (j *journal[T]) restart(from int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.from = max(from, j.lost)
}

// unknown says that it is not known what changed, until restart.
func (j *journal[T]) unknown() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.from = math.MaxInt64
}

func (j *journal[T]) find(position int64) int {
	i, _ := slices.BinarySearchFunc(j.all, position, func(e entry[T], at int64) int { return cmp.Compare(e.position, at) })
	return i
}

// between is what changed after a position, up to another, and whether all of that is known.
func (j *journal[T]) between(since, upTo int64) (found []T, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if since < j.from {
		return nil, false
	}
	if n := len(j.all); n == 0 || j.all[n-1].position <= since {
		return nil, true
	}
	for _, e := range j.all[j.find(since+1):j.find(upTo+1)] {
		found = append(found, e.what)
	}
	return found, true
}

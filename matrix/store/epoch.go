package store

import (
	"cmp"
	"crypto/rand"
	"slices"

	"orrery/matrix/table"
)

// epoch is a part of the database's history: the positions that one start of a program gave out. A database that is restored to an earlier state, or copied, and
// written by another start of a program gives the same positions to other things; its epochs say so. They are recorded with their first position, in the same
// update, so that none gives out positions that are not its own.
type epoch struct {
	Begin int64  `col:"begin,key"` // the last position of before
	ID    string `col:"id"`        // no other epoch has it, in any database
}

var (
	epochs = table.Define[epoch]("epochs")

	epochSchemas = []*table.Schema{epochs.Schema()}
)

// maxEpochs is how many are kept at most. When there are more the older half is made one, with an id of its own: who has a position of these begins anew.
const maxEpochs = 256

func newEpoch() string { return rand.Text()[:10] }

// record sees to it that an epoch is recorded whose first position is given out, and is all of them.
func record(tx table.Tx, id string, first int64) ([]epoch, error) {
	all, err := epochs.All(tx, table.Range{})
	if err != nil || recorded(all, id) { // by an update of which it was not known that it was committed
		return all, err
	}
	if len(all) >= maxEpochs {
		older := all[:len(all)-maxEpochs/2]
		one := epoch{older[0].Begin, newEpoch()}
		if err := epochs.DeleteAll(tx, table.Range{Before: all[len(older)].Begin}); err != nil {
			return nil, err
		}
		if err := epochs.Put(tx, one); err != nil {
			return nil, err
		}
		all = append([]epoch{one}, all[len(older):]...)
	}
	own := epoch{first - 1, id}
	return append(all, own), epochs.Put(tx, own)
}

func recorded(all []epoch, id string) bool {
	return slices.ContainsFunc(all, func(e epoch) bool { return e.ID == id })
}

// epochOf is the id of that to which a position belongs, "" for one of before epochs were recorded.
func epochOf(all []epoch, position int64) string {
	i := len(all)
	if i > 0 && all[i-1].Begin >= position {
		i, _ = slices.BinarySearchFunc(all, position, func(e epoch, at int64) int { return cmp.Compare(e.Begin, at) })
	}
	if i == 0 {
		return ""
	}
	return all[i-1].ID
}

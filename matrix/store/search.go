package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"orrery/matrix/table"
)

// posting is some events of a room that have a word.
type posting struct {
	Room   int64  `col:"room,key"`
	Word   string `col:"word,key"`
	First  int64  `col:"first,key"` // the order of the first of them
	Orders []byte `col:"orders"`    // of the others, each as the difference to the one before
}

var (
	postings = table.Define[posting]("search_words")

	searchSchemas = []*table.Schema{postings.Schema()}
)

// maxPosting is how many bytes of orders are in one row.
const maxPosting = 512

const metaIndexed = "indexed"

// Indexed is the position up to which events can be searched.
func Indexed(tx table.Tx) (int64, error) {
	m, _, err := metas.Get(tx, metaIndexed)
	return m.Value, err
}

// SetIndexed sets the position up to which events can be searched.
func SetIndexed(tx table.Tx, position int64) error { return metas.Put(tx, meta{metaIndexed, position}) }

// AddWord notes that events of a room have a word. Orders ascend; those that the word has already are left out.
func AddWord(tx table.Tx, room int64, word string, orders []int64) error {
	row, found, err := postings.First(tx, table.Range{Prefix: []any{room, word}, Descending: true})
	if err != nil {
		return err
	}
	last := int64(0)
	if found {
		all, err := row.all()
		if err != nil {
			return err
		}
		last = all[len(all)-1]
	}
	changed := false
	for _, order := range orders {
		if found && order <= last {
			continue
		}
		if found && len(row.Orders) < maxPosting {
			row.Orders = binary.AppendUvarint(row.Orders, uint64(order-last))
		} else {
			if changed {
				if err := postings.Put(tx, row); err != nil {
					return err
				}
			}
			row, found = posting{Room: room, Word: word, First: order}, true
		}
		last, changed = order, true
	}
	if !changed {
		return nil
	}
	return postings.Put(tx, row)
}

// RemoveWord takes an event out of those that have a word.
func RemoveWord(tx table.Tx, room int64, word string, order int64) error {
	row, found, err := postings.First(tx, table.Range{Prefix: []any{room, word}, Before: order + 1, Descending: true})
	if err != nil || !found {
		return err
	}
	all, err := row.all()
	if err != nil {
		return err
	}
	i, has := slices.BinarySearch(all, order)
	if !has {
		return nil
	}
	all = slices.Delete(all, i, i+1)
	if err := postings.Delete(tx, room, word, row.First); err != nil || len(all) == 0 {
		return err
	}
	row.First, row.Orders = all[0], nil
	for i, order := range all[1:] {
		row.Orders = binary.AppendUvarint(row.Orders, uint64(order-all[i]))
	}
	return postings.Put(tx, row)
}

func (p posting) all() ([]int64, error) {
	orders := []int64{p.First}
	for b := p.Orders; len(b) > 0; {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: events with %q", errDamagedState, p.Word)
		}
		orders, b = append(orders, orders[len(orders)-1]+int64(d)), b[n:]
	}
	return orders, nil
}

// FindWord are the orders of events of a room that have a word that begins like this, at most some of the words.
func FindWord(tx table.Tx, room int64, begins string, words int) (map[int64]bool, error) {
	found := map[int64]bool{}
	seen, last := 0, ""
	for p, err := range postings.Scan(tx, table.Range{Prefix: []any{room}, From: begins}) {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(p.Word, begins) {
			break
		}
		if p.Word != last {
			if seen++; seen > words {
				break
			}
			last = p.Word
		}
		all, err := p.all()
		if err != nil {
			return nil, err
		}
		for _, order := range all {
			found[order] = true
		}
	}
	return found, nil
}

package store

import (
	"encoding/binary"
	"fmt"
	"maps"
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

// maxPosting is how many bytes of orders are in one row.
const maxPosting = 512

// findAll are the orders of events of a room that have words with all beginnings.
func findAll(tx table.Tx, room int64, begins []string) (map[int64]bool, error) {
	var found map[int64]bool
	for _, b := range begins {
		has, err := findWord(tx, room, b, maxBeginnings)
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = has
			continue
		}
		maps.DeleteFunc(found, func(order int64, _ bool) bool { return !has[order] })
		if len(found) == 0 {
			break
		}
	}
	return found, nil
}

// maxBeginnings is how many words of a room are looked up that begin like one that is looked for.
const maxBeginnings = 200

// addWord notes that events of a room have a word. Orders ascend; those that the word has already are left out.
func addWord(tx table.Tx, room int64, word string, orders []int64) error {
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
		if orders[0] <= last { // one that came from before
			if err := insertWord(tx, room, word, orders[0]); err != nil || len(orders) == 1 {
				return err
			}
			return addWord(tx, room, word, orders[1:])
		}
	}
	for _, order := range orders {
		if found && len(row.Orders) < maxPosting {
			row.Orders = binary.AppendUvarint(row.Orders, uint64(order-last))
		} else {
			if found {
				if err := postings.Put(tx, row); err != nil {
					return err
				}
			}
			row, found = posting{Room: room, Word: word, First: order}, true
		}
		last = order
	}
	return postings.Put(tx, row)
}

// insertWord notes that an event has a word that later ones have.
func insertWord(tx table.Tx, room int64, word string, order int64) error {
	row, found, err := postings.First(tx, table.Range{Prefix: []any{room, word}, Before: order + 1, Descending: true})
	if err != nil {
		return err
	}
	if !found {
		return postings.Put(tx, posting{Room: room, Word: word, First: order})
	}
	all, err := row.all()
	if err != nil {
		return err
	}
	i, has := slices.BinarySearch(all, order)
	switch {
	case has:
		return nil
	case len(row.Orders) < maxPosting:
		row.set(slices.Insert(all, i, order))
	default: // it and those after it get a row of their own
		row.set(all[:i])
		later := posting{Room: room, Word: word}
		later.set(append([]int64{order}, all[i:]...))
		if err := postings.Put(tx, later); err != nil {
			return err
		}
	}
	return postings.Put(tx, row)
}

// removeWord takes an event out of those that have a word.
func removeWord(tx table.Tx, room int64, word string, order int64) error {
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
	row.set(all)
	return postings.Put(tx, row)
}

func (p *posting) set(all []int64) {
	p.First, p.Orders = all[0], nil
	for i, order := range all[1:] {
		p.Orders = binary.AppendUvarint(p.Orders, uint64(order-all[i]))
	}
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

// findWord are the orders of events of a room that have a word that begins like this, at most some of the words; 0: all of them.
func findWord(tx table.Tx, room int64, begins string, words int) (map[int64]bool, error) {
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
			if seen++; words > 0 && seen > words {
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

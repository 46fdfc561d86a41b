package store

import (
	"context"
	"slices"

	"orrery/matrix/table"
)

// What can be searched is made of events, and can be made again: it is not copied from one database into another. Where the database has an index of texts
// (table.TextIndex), that is used, otherwise the table of words.
var (
	postings   = table.Define[posting]("search_words")
	indexState = table.Define[IndexState]("search_state")

	searchSchemas = []*table.Schema{postings.Schema(), indexState.Schema()}
)

// texts is the name of the index of texts.
const texts = "search_texts"

// IndexState is how much can be searched: all events after UpTo whose order is at most Live and, of those up to UpTo, all of rooms before one, and those
// of that one up to an order.
type IndexState struct {
	ID    int64 `col:"id,key"` // 0
	Live  int64 `col:"live"`
	UpTo  int64 `col:"up_to"`
	Room  int64 `col:"room"`
	Order int64 `col:"order"`
	Built bool  `col:"built"` // all up to UpTo can be searched
}

// GetIndexState is how much can be searched, and whether anything is known of that.
func GetIndexState(tx table.Tx) (IndexState, bool, error) { return indexState.Get(tx, int64(0)) }

// PutIndexState notes how much can be searched.
func PutIndexState(tx table.Tx, s IndexState) error { return indexState.Put(tx, s) }

// Words are those of an event.
type Words struct {
	Room  int64
	Order int64
	Words []string
}

// id is what an index of texts knows an event by. Orders that are positions belong to one room each; those before 0, which several rooms may have, come after
// the room.
func (w *Words) id() int64 {
	if w.Order >= 0 {
		return w.Order
	}
	return -(w.Room<<32 | -w.Order)
}

func fromID(d table.Document) Words {
	if d.ID < 0 {
		return Words{Room: d.Group, Order: -(-d.ID & (1<<32 - 1))}
	}
	return Words{Room: d.Group, Order: d.ID}
}

// prepareSearch makes the index of texts.
func prepareSearch(ctx context.Context, db table.DB) error {
	return db.Update(ctx, func(tx table.Tx) error {
		if x, ok := tx.(table.TextIndex); ok {
			return x.PrepareText(texts)
		}
		return nil
	})
}

// AddWords makes events be found by their words; it may have been done before.
func AddWords(tx table.Tx, all []Words) error {
	if x, ok := tx.(table.TextIndex); ok {
		for _, w := range all {
			if err := x.PutText(texts, table.Document{ID: w.id(), Group: w.Room, Words: w.Words}); err != nil {
				return err
			}
		}
		return nil
	}
	type place struct {
		room int64
		word string
	}
	orders := map[place][]int64{}
	for _, w := range all {
		for _, word := range w.Words {
			orders[place{w.Room, word}] = append(orders[place{w.Room, word}], w.Order)
		}
	}
	for p, o := range orders {
		slices.Sort(o)
		if err := addWord(tx, p.room, p.word, o); err != nil {
			return err
		}
	}
	return nil
}

// RemoveWords makes an event be found no more.
func RemoveWords(tx table.Tx, w Words) error {
	if x, ok := tx.(table.TextIndex); ok {
		return x.DeleteText(texts, w.id())
	}
	for _, word := range w.Words {
		if err := removeWord(tx, w.Room, word, w.Order); err != nil {
			return err
		}
	}
	return nil
}

// removeRoom removes some of what can be searched of a room, and says whether that was all.
func removeRoom(tx table.Tx, room int64) (bool, error) {
	x, ok := tx.(table.TextIndex)
	if !ok {
		of := table.Range{Prefix: []any{room}, Limit: purgePiece}
		some, err := postings.All(tx, of)
		if err != nil {
			return false, err
		}
		return len(some) < purgePiece, postings.DeleteAll(tx, of)
	}
	var ids []int64
	for d, err := range x.FindText(texts, table.TextQuery{Groups: []int64{room}, Limit: textPiece}) {
		if err != nil {
			return false, err
		}
		ids = append(ids, d.ID)
	}
	return len(ids) < textPiece, x.DeleteText(texts, ids...)
}

// textPiece is how many texts are removed in one update: each takes milliseconds, as its words are looked for and removed.
const textPiece = 50

// WordQuery says what is looked for.
type WordQuery struct {
	Rooms  []int64
	Begins []string // events have, for each of these, a word that begins like it
	Before int64    // their orders are less; 0: no bound
	Ranked bool     // some that fit well, where the database knows; otherwise the newest
	Limit  int
}

// FindWords are the events that fit, without their words.
func FindWords(tx table.Tx, q WordQuery) ([]Words, error) {
	if x, ok := tx.(table.TextIndex); ok {
		var found []Words
		for d, err := range x.FindText(texts, table.TextQuery{Groups: q.Rooms, Begins: q.Begins, Before: q.Before, Ranked: q.Ranked, Limit: q.Limit}) {
			if err != nil {
				return nil, err
			}
			found = append(found, fromID(d))
		}
		return found, nil
	}
	var found []Words
	for _, room := range q.Rooms {
		orders, err := findAll(tx, room, q.Begins)
		if err != nil {
			return nil, err
		}
		for order := range orders {
			if q.Before == 0 || order < q.Before {
				found = append(found, Words{Room: room, Order: order})
			}
		}
	}
	slices.SortFunc(found, func(a, b Words) int { return int(max(-1, min(1, b.id()-a.id()))) })
	return found[:min(len(found), q.Limit)], nil
}

// Searchable are the orders of all events of a room that can be searched.
func Searchable(tx table.Tx, room int64) (map[int64]bool, error) {
	x, ok := tx.(table.TextIndex)
	if !ok {
		return findWord(tx, room, "", 0)
	}
	found := map[int64]bool{}
	for d, err := range x.FindText(texts, table.TextQuery{Groups: []int64{room}}) {
		if err != nil {
			return nil, err
		}
		w := fromID(d)
		found[w.Order] = true
	}
	return found, nil
}

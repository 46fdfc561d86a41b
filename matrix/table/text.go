package table

import "iter"

// Document is what an index of texts has of one: its words, and what it belongs to.
type Document struct {
	ID    int64 // by which it is known, the greater the newer
	Group int64
	Words []string // not in capitals; no spaces, and nothing that ASCII has besides letters and digits
}

// TextQuery says which texts are looked for.
type TextQuery struct {
	Groups []int64  // they are of one of these
	Begins []string // they have, for each of these, a word that begins like it; in the form that they have in a Document
	Before int64    // their ID is less; 0: no bound
	Ranked bool     // the best first, by how rare and how many their words are; otherwise the newest
	Limit  int      // how many at most; 0: all
}

// TextIndex is an optional ability of a database: its transactions find texts by their words. It is found by assertion on a Tx. One that has no such ability
// keeps a table of words, which costs more.
type TextIndex interface {
	// PrepareText makes an index, if it is not there. It is done in a transaction of its own.
	PrepareText(name string) error
	// PutText writes a text, in place of the one with the same ID if there is one.
	PutText(name string, d Document) error
	// DeleteText removes texts, those that there are. What is left of their words in the index is removed, too, as far as the database can.
	DeleteText(name string, ids ...int64) error
	// FindText yields texts, without their words. While it is being read the transaction does nothing else.
	FindText(name string, q TextQuery) iter.Seq2[Document, error]
}

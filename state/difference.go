package state

import (
	"context"
	"io"
)

// Which names a state of a component: a stored snapshot, or what the component is now.
type Which struct {
	ID SnapshotID `json:"id,omitempty"`
	// Live is the component as it is now. With it, ID is empty.
	Live Ref `json:"live,omitzero"`
}

// DiffRequest asks what differs between two states of components of one module.
type DiffRequest struct {
	Old Which `json:"old"`
	New Which `json:"new"`
	// Records is how many records are named in each group, at most MaxRecords; zero: they are only counted.
	Records int `json:"records,omitempty"`
}

// ForkDiffRequest asks what differs between a fork and what it was made of.
type ForkDiffRequest struct {
	Fork Ref `json:"fork"`
	// Beginning compares with the snapshot that the fork began as, instead of its origin as it is now.
	Beginning bool `json:"beginning,omitempty"`
	// Records as in DiffRequest.
	Records int `json:"records,omitempty"`
}

// MaxRecords is how many records a Difference names at most, of all groups together.
const MaxRecords = 10_000

// Difference is what differs between two states.
type Difference struct {
	Module string `json:"module"`
	Old    Aspect `json:"old"`
	New    Aspect `json:"new"`
	Same   bool   `json:"same"`             // the snapshots are the same, byte for byte
	Unable string `json:"unable,omitempty"` // why nobody can say what differs, where Groups is nil for that reason
	// Partial says that only what a fork keeps apart was read: of the sides no ids, sizes and numbers are known, of a
	// group only those of what was read.
	Partial bool    `json:"partial,omitempty"`
	Groups  []Group `json:"groups"` // those in which something differs, by name
}

// Aspect is what is known of one of two states.
type Aspect struct {
	ID   SnapshotID `json:"id"`
	Live *Ref       `json:"live,omitempty"` // the component whose state it was when it was read; nil for a stored snapshot
	Size int64      `json:"size"`
	// Records is how many there are, where the snapshot was read.
	Records int64 `json:"records"`
}

// Group is how the records of one table, folder or kind differ.
type Group struct {
	Name string `json:"name"`
	Old  int64  `json:"old"` // records before
	New  int64  `json:"new"` // records after
	// Added, Removed and Changed are numbers of records. Those without a name of their own, as rows of a table without a
	// primary key, are never changed: one is removed, another added.
	Added   int64 `json:"added"`
	Removed int64 `json:"removed"`
	Changed int64 `json:"changed"`
	// Whole is "added" or "removed" where the group itself exists on one side only.
	Whole   string   `json:"whole,omitempty"`
	Records []Record `json:"records,omitempty"` // the first ones by name, as many as were asked for
}

// Record is one record that differs.
type Record struct {
	Change string `json:"change"` // added, removed or changed
	Name   string `json:"name"`   // or, of a record without one, the beginning of its content
}

// The ways in which records and groups differ.
const (
	Added   = "added"
	Removed = "removed"
	Changed = "changed"
)

// Comparer says what differs between states.
type Comparer interface {
	// Diff compares two states. What is compared is read whole, and nothing is stored. Of a module that is no Itemizer
	// only the sizes and ids are known.
	Diff(ctx context.Context, q DiffRequest) (Difference, error)
}

// KeyFinder is an Itemizer whose snapshots say what names the rows of a table when they are past, so that Items gives them
// without keys.
type KeyFinder interface {
	Itemizer
	// Keys reads a snapshot for the columns that name the rows of each Item.Part. Parts whose rows have no names are left out.
	Keys(ctx context.Context, snapshot io.Reader) (map[string][]string, error)
	// LiveKeys asks a component for the same.
	LiveKeys(ctx context.Context, t Target) (map[string][]string, error)
	// ItemsBy is Items, with the rows of those parts called by those columns.
	ItemsBy(ctx context.Context, keys map[string][]string, snapshot io.Reader, visit func(Item) error) error
}

// ForkComparer is a module that can say what some of its forks changed without reading all of them, because they keep that apart.
type ForkComparer interface {
	Itemizer
	// CompareFork calls visit with items of the origin as it is now and of the fork: at least all that differ. It returns false,
	// without a call, for a fork that is not of that kind.
	CompareFork(ctx context.Context, origin, fork Target, visit func(ofFork bool, i Item) error) (bool, error)
}

// Presenter is an Itemizer that knows better than Item itself what people want to see of it.
type Presenter interface {
	Itemizer
	// Group is what an item is counted with: a table, a folder, a kind of key. Otherwise it is Item.Part.
	Group(i Item) string
	// Name is what people know an item by. Otherwise it is Item.Key, or the content of what has none.
	Name(i Item) string
}

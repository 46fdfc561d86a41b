package mongodb

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/state"
)

// reserved are options of commands that are none of a collection.
var reserved = []string{"create", "timeseries", "writeConcern", "readConcern", "comment", "lsid", "txnNumber", "autocommit", "maxTimeMS", "apiVersion", "apiStrict", "apiDeprecationErrors"}

// newPart makes a part with its canonical definition. Of an index the version and what older servers add is left
// out, and so is the index that every collection has.
func newPart(name string, view bool, about bson.Raw, indexes []bson.Raw) (part, error) {
	optionsSorted, err := sortFields(about, "uuid")
	if err != nil {
		return part{}, err
	}
	list := bson.A{}
	byName := map[string]bson.D{}
	for _, index := range indexes {
		fields, err := sortFields(index, "v", "ns", "background")
		if err != nil {
			return part{}, err
		}
		label, ok := index.Lookup("name").StringValueOK()
		if _, clustered := index.Lookup("clustered").BooleanOK(); ok && label != "_id_" && !clustered {
			byName[label] = fields
		}
	}
	for _, label := range sortedKeys(byName) {
		list = append(list, byName[label])
	}
	definition := bson.D{{Key: "name", Value: name}, {Key: "options", Value: optionsSorted}}
	if !view {
		definition = append(definition, bson.E{Key: "indexes", Value: list})
	}
	raw, err := bson.Marshal(definition)
	if err != nil {
		return part{}, err
	}
	return parsePart(raw, view)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// sortFields returns the fields of a document by name, without some; their values are as they were.
func sortFields(doc bson.Raw, without ...string) (bson.D, error) {
	sorted := bson.D{}
	if len(doc) == 0 {
		return sorted, nil
	}
	elements, err := doc.Elements()
	if err != nil {
		return nil, err
	}
	for _, e := range elements {
		if !slices.Contains(without, e.Key()) {
			sorted = append(sorted, bson.E{Key: e.Key(), Value: e.Value()})
		}
	}
	slices.SortStableFunc(sorted, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
	return sorted, nil
}

// parsePart reads a definition that has passed check.
func parsePart(definition bson.Raw, view bool) (part, error) {
	bad := func(format string, args ...any) (part, error) {
		return part{}, fmt.Errorf("%w: "+format, append([]any{state.ErrCorrupt}, args...)...)
	}
	name, ok := definition.Lookup("name").StringValueOK()
	if !ok || !validCollection(name) {
		return bad("%.80q is not a collection's name", name)
	}
	about, ok := definition.Lookup("options").DocumentOK()
	if !ok {
		return bad("collection %q has no options", name)
	}
	elements, err := about.Elements()
	if err != nil {
		return part{}, err
	}
	p := part{name: name, view: view, definition: definition}
	for _, e := range elements {
		if strings.HasPrefix(e.Key(), "$") || slices.Contains(reserved, e.Key()) {
			return bad("collection %q has the option %q, which it cannot have", name, e.Key())
		}
		p.collation = p.collation || e.Key() == "collation"
	}
	p.capped, _ = about.Lookup("capped").BooleanOK()
	if view {
		if _, ok := about.Lookup("viewOn").StringValueOK(); !ok {
			return bad("view %q is on nothing", name)
		}
		return p, nil
	}
	if about.Lookup("viewOn").Type != 0 {
		return bad("collection %q is a view", name)
	}
	_, err = p.indexes()
	return p, err
}

func validCollection(name string) bool {
	return name != "" && len(name) < 256 && utf8.ValidString(name) && !strings.ContainsAny(name, "$\x00") &&
		!strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "system.") && !strings.HasPrefix(name, sidePrefix)
}

func (p part) options() bson.Raw {
	about, _ := p.definition.Lookup("options").DocumentOK()
	return about
}

// indexes are the definitions of its indexes.
func (p part) indexes() ([]bson.Raw, error) {
	list, ok := p.definition.Lookup("indexes").ArrayOK()
	if !ok {
		return nil, fmt.Errorf("%w: collection %q has no list of indexes", state.ErrCorrupt, p.name)
	}
	values, err := list.Values()
	if err != nil {
		return nil, err
	}
	all := make([]bson.Raw, len(values))
	for i, v := range values {
		if all[i], ok = v.DocumentOK(); !ok {
			return nil, fmt.Errorf("%w: collection %q has an index that is none", state.ErrCorrupt, p.name)
		}
		_, named := all[i].Lookup("name").StringValueOK()
		if _, keyed := all[i].Lookup("key").DocumentOK(); !named || !keyed {
			return nil, fmt.Errorf("%w: collection %q has an index without name or key", state.ErrCorrupt, p.name)
		}
	}
	return all, nil
}

// same says whether a server keeps two parts alike: the same indexes, and options of the same names. Values may be
// of another type or rounded, as the size of a capped collection is.
func (p part) same(other part) bool {
	a, errA := p.indexes()
	b, errB := other.indexes()
	if cmp.Or(errA, errB) != nil || len(a) != len(b) || !sameFields(p.options(), other.options()) {
		return false
	}
	for i := range a {
		if a[i].Lookup("name").String() != b[i].Lookup("name").String() || !sameFields(a[i], b[i]) {
			return false
		}
	}
	return true
}

func sameFields(a, b bson.Raw) bool {
	x, errA := a.Elements()
	y, errB := b.Elements()
	return errA == nil && errB == nil && slices.EqualFunc(x, y, func(a, b bson.RawElement) bool { return a.Key() == b.Key() })
}

// equal says whether two inventories are the same.
func equal(a, b []part) bool {
	return slices.EqualFunc(a, b, func(a, b part) bool { return a.view == b.view && bytes.Equal(a.definition, b.definition) })
}

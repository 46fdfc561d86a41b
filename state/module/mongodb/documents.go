package mongodb

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"

	"orrery/state"
)

// maxLine is the longest line of a file of documents: extended JSON takes more room than BSON.
const maxLine = 64 << 20

// line is a line of a file of documents.
type line struct {
	Collection string   `bson:"collection"`
	Document   bson.Raw `bson:"document"`
	Options    bson.Raw `bson:"options"`
	Index      bson.Raw `bson:"index"`
}

// loadFile loads a file of documents. Lines of one collection stand together, its options first.
func (l *loader) loadFile(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	number := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	in := &opened{l: l, seen: map[string]bool{}}
	for lines.Scan() {
		number++
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := in.line(lines.Bytes()); err != nil {
			return fmt.Errorf("line %d of the documents: %w", number, err)
		}
	}
	return errors.Join(lines.Err(), in.close())
}

// opened is the collection that lines are being loaded into.
type opened struct {
	l       *loader
	name    string
	options bson.Raw
	indexes []bson.Raw
	begun   bool
	seen    map[string]bool
}

func (o *opened) line(text []byte) error {
	var one line
	if err := bson.UnmarshalExtJSON(text, false, &one); err != nil {
		return fmt.Errorf("%w: it is not extended JSON: %w", state.ErrBadProperty, err)
	}
	if one.Collection != o.name {
		if err := o.close(); err != nil {
			return err
		}
		if !validCollection(one.Collection) || o.seen[one.Collection] {
			return fmt.Errorf("%w: %q is not a collection's name, or its lines do not stand together", state.ErrBadProperty, one.Collection)
		}
		o.name, o.options, o.indexes, o.begun = one.Collection, nil, nil, false
		o.seen[o.name] = true
	}
	switch {
	case one.Document != nil && one.Options == nil && one.Index == nil:
		return o.document(one.Document)
	case one.Index != nil && one.Document == nil && one.Options == nil && !o.begun:
		o.indexes = append(o.indexes, named(one.Index))
		return nil
	case one.Options != nil && one.Document == nil && one.Index == nil && !o.begun && o.options == nil:
		o.options = one.Options
		return nil
	}
	return fmt.Errorf("%w: it has not one of document, options and index, or one of the latter after a document", state.ErrBadProperty)
}

// begin makes the collection.
func (o *opened) begin() error {
	if o.begun || o.name == "" {
		return nil
	}
	o.begun = true
	p, err := newPart(o.name, false, o.options, o.indexes)
	if err != nil {
		return err
	}
	return o.l.part(p)
}

func (o *opened) document(doc bson.Raw) error {
	if err := o.begin(); err != nil {
		return err
	}
	if _, err := doc.LookupErr("_id"); err != nil {
		fields := bson.D{{Key: "_id", Value: bson.NewObjectID()}}
		elements, err := doc.Elements()
		if err != nil {
			return err
		}
		for _, e := range elements {
			fields = append(fields, bson.E{Key: e.Key(), Value: e.Value()})
		}
		if doc, err = bson.Marshal(fields); err != nil {
			return err
		}
	}
	return o.l.document(doc)
}

func (o *opened) close() error {
	if o.name == "" {
		return nil
	}
	if err := o.begin(); err != nil {
		return err
	}
	return o.l.closeCollection()
}

// named adds the name that MongoDB's clients give to an index without one: its fields and their directions.
func named(index bson.Raw) bson.Raw {
	key, ok := index.Lookup("key").DocumentOK()
	elements, err := key.Elements()
	if _, has := index.Lookup("name").StringValueOK(); has || !ok || err != nil {
		return index
	}
	name := ""
	for _, e := range elements {
		direction := e.Value().String()
		if n, ok := e.Value().AsInt64OK(); ok {
			direction = fmt.Sprint(n)
		} else if s, ok := e.Value().StringValueOK(); ok {
			direction = s
		}
		if name != "" {
			name += "_"
		}
		name += e.Key() + "_" + direction
	}
	fields, err := sortFields(index)
	if err != nil {
		return index
	}
	raw, err := bson.Marshal(append(fields, bson.E{Key: "name", Value: name}))
	if err != nil {
		return index
	}
	return raw
}

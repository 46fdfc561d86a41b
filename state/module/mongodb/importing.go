package mongodb

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"orrery/internal/extsort"
	"orrery/state"
)

// parts are the collections and views in order, and the files of each by its name.
func (in *importer) parts() ([]part, map[string]string, error) {
	parts, bases := make([]part, 0, len(in.abouts)), map[string]string{}
	for base, a := range in.abouts {
		_, hasData := in.data[base]
		isView := a.Type == "view" || a.Type == "" && !hasData && a.Options != nil && a.Options.Lookup("viewOn").Type != 0
		if _, double := bases[a.Collection]; double || isView && hasData {
			return nil, nil, fmt.Errorf("%w: there are two of the name %q", state.ErrCorrupt, a.Collection)
		}
		bases[a.Collection] = base
		p, err := newPart(a.Collection, isView, a.Options, a.Indexes)
		if err != nil {
			return nil, nil, err
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, part.compare)
	return parts, bases, nil
}

// collection writes the documents of one collection; those of a capped one as they are.
func (in *importer) collection(out *writer, p part, where run) error {
	each := func(visit func(doc []byte) error) error { return in.each(where, visit) }
	if p.capped {
		if err := each(out.document); err != nil {
			return err
		}
		return out.closeCollection()
	}
	var last bsoncore.Value
	begun := false
	once := func(doc []byte) error {
		id, err := identity(doc)
		if err != nil {
			return err
		}
		if begun && compare(last, id) == 0 {
			return fmt.Errorf("%w: two documents have the _id %.80s", state.ErrCorrupt, id)
		}
		begun, last = true, bsoncore.Value{Type: id.Type, Data: slices.Clone(id.Data)}
		return out.document(doc)
	}
	if err := sorted(in.ctx, "", extsort.Memory, each, once); err != nil {
		return err
	}
	return out.closeCollection()
}

// each visits the documents of a file of them.
func (in *importer) each(where run, visit func(doc []byte) error) error {
	from := bufio.NewReaderSize(io.NewSectionReader(in.f, where.from, where.to-where.from), 64<<10)
	var doc bson.Raw
	for left := where.to - where.from; left > 0; left -= int64(len(doc)) {
		if err := in.ctx.Err(); err != nil {
			return err
		}
		size, err := from.Peek(4)
		if err != nil {
			return fmt.Errorf("%w: the file ends in the middle of a document", state.ErrCorrupt)
		}
		n := int64(binary.LittleEndian.Uint32(size))
		if n > left || n > maxDocument || n < 5 {
			return fmt.Errorf("%w: a document has %d bytes", state.ErrCorrupt, n)
		}
		doc = slices.Grow(doc[:0], int(n))[:n]
		if _, err := io.ReadFull(from, doc); err != nil {
			return err
		}
		if err := check(doc); err != nil {
			return err
		}
		if _, err := identity(doc); err != nil {
			return err
		}
		if err := visit(doc); err != nil {
			return err
		}
	}
	return nil
}

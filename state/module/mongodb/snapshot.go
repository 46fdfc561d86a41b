package mongodb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"orrery/state"
)

// A snapshot is a line that names its format, and records: a byte that says what comes, and a BSON document, which
// says its own length. Collections come first, by name: the definition (name, options, indexes), the documents by
// _id in MongoDB's order, and how many there are. Views follow, by name, and then the end with all counts.
const (
	magic       = "Orrery MongoDB snapshot 1\n"
	maxDocument = 16<<20 + 16<<10 // MongoDB's limit, and what it adds for itself
)

const (
	recordCollection = 'C'
	recordDocument   = 'D'
	recordClose      = 'E'
	recordView       = 'V'
	recordEnd        = 'Z'
)

// counts is the content of a record that closes a collection, or ends the snapshot.
type counts struct {
	Collections int64 `bson:"collections"`
	Views       int64 `bson:"views"`
	Documents   int64 `bson:"documents"`
}

// writer writes a snapshot.
type writer struct {
	out   *bufio.Writer
	total counts
	here  int64 // documents of the collection
}

func newWriter(w io.Writer) (*writer, error) {
	out := &writer{out: bufio.NewWriterSize(w, 64<<10)}
	_, err := out.out.WriteString(magic)
	return out, err
}

func (w *writer) record(kind byte, doc []byte) error {
	if err := w.out.WriteByte(kind); err != nil {
		return err
	}
	_, err := w.out.Write(doc)
	return err
}

func (w *writer) part(p part) error {
	if p.view {
		w.total.Views++
		return w.record(recordView, p.definition)
	}
	w.total.Collections++
	w.here = 0
	return w.record(recordCollection, p.definition)
}

func (w *writer) document(doc []byte) error {
	w.here++
	w.total.Documents++
	return w.record(recordDocument, doc)
}

func (w *writer) closeCollection() error {
	doc, err := bson.Marshal(bson.D{{Key: "documents", Value: w.here}})
	if err != nil {
		return err
	}
	return w.record(recordClose, doc)
}

func (w *writer) end() error {
	doc, err := bson.Marshal(w.total)
	if err == nil {
		err = w.record(recordEnd, doc)
	}
	if err != nil {
		return err
	}
	return w.out.Flush()
}

// visitor gets what a snapshot consists of, in its order. The bytes of a document are valid during the call.
type visitor interface {
	part(p part) error
	document(doc []byte) error
	closeCollection() error
}

// reader reads a snapshot and refuses what is not exactly one.
type reader struct {
	in    *bufio.Reader
	buf   bytes.Buffer
	total counts
	here  int64
	open  *part // the collection that is being read
	last  *part
	id    bsoncore.Value // of the last document, nil before
	ids   []byte
}

// read visits a snapshot, and returns nil only when it was whole.
func read(from io.Reader, v visitor) error {
	r := &reader{in: bufio.NewReaderSize(from, 64<<10)}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r.in, head); err != nil {
		return cut(err)
	}
	if string(head) != magic {
		return fmt.Errorf("%w: it is not a snapshot of a MongoDB database of version 1", state.ErrCorrupt)
	}
	for {
		kind, doc, err := r.record()
		if err != nil {
			return err
		}
		if kind == recordEnd {
			return r.end(doc)
		}
		if err := r.visit(kind, doc, v); err != nil {
			return err
		}
	}
}

// record reads a kind and a document, which has been checked. Memory grows with what is there, whatever the length says.
func (r *reader) record() (byte, bson.Raw, error) {
	kind, err := r.in.ReadByte()
	if err != nil {
		return 0, nil, cut(err)
	}
	size, err := r.in.Peek(4)
	if err != nil {
		return 0, nil, cut(err)
	}
	n := binary.LittleEndian.Uint32(size)
	if n > maxDocument {
		return 0, nil, fmt.Errorf("%w: a document in the snapshot has %d bytes", state.ErrCorrupt, n)
	}
	r.buf.Reset()
	if _, err := io.CopyN(&r.buf, r.in, int64(n)); err != nil {
		return 0, nil, cut(err)
	}
	return kind, r.buf.Bytes(), check(r.buf.Bytes())
}

func (r *reader) visit(kind byte, doc bson.Raw, v visitor) error {
	switch {
	case kind == recordDocument && r.open != nil:
		if err := r.next(doc); err != nil {
			return err
		}
		return v.document(doc)
	case kind == recordClose && r.open != nil:
		var said counts
		if err := bson.Unmarshal(doc, &said); err != nil || said != (counts{Documents: r.here}) {
			return fmt.Errorf("%w: collection %q has %d documents in the snapshot, and another number is said", state.ErrCorrupt, r.open.name, r.here)
		}
		r.open = nil
		return v.closeCollection()
	case (kind == recordCollection || kind == recordView) && r.open == nil:
		p, err := parsePart(bytes.Clone(doc), kind == recordView)
		if err != nil {
			return err
		}
		if r.last != nil && r.last.compare(p) >= 0 {
			return fmt.Errorf("%w: collection %q is in the wrong place of the snapshot", state.ErrCorrupt, p.name)
		}
		r.begin(p)
		return v.part(p)
	}
	return fmt.Errorf("%w: there is a record %q in a place of the snapshot where it cannot be", state.ErrCorrupt, kind)
}

func (r *reader) begin(p part) {
	r.last = &p
	if p.view {
		r.total.Views++
		return
	}
	r.total.Collections++
	r.open, r.here, r.id = &p, 0, bsoncore.Value{}
}

// next counts a document and sees that it comes after the one before.
func (r *reader) next(doc bson.Raw) error {
	id, err := identity(doc)
	if err != nil {
		return err
	}
	if r.here > 0 && !r.open.capped && compare(r.id, id) >= 0 {
		return fmt.Errorf("%w: document %.80s of %q is in the wrong place of the snapshot", state.ErrCorrupt, id, r.open.name)
	}
	r.ids = append(r.ids[:0], id.Data...)
	r.id = bsoncore.Value{Type: id.Type, Data: r.ids}
	r.here++
	r.total.Documents++
	return nil
}

func (r *reader) end(doc bson.Raw) error {
	var said counts
	if err := bson.Unmarshal(doc, &said); err != nil || said != r.total || r.open != nil {
		return fmt.Errorf("%w: the snapshot's end does not fit what is before it", state.ErrCorrupt)
	}
	switch _, err := r.in.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something comes after the snapshot's end", state.ErrCorrupt)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("cannot read the snapshot: %w", err)
	}
	return nil
}

// cut says what an end in the middle means.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the snapshot ends in the middle", state.ErrCorrupt)
	}
	return fmt.Errorf("cannot read the snapshot: %w", err)
}

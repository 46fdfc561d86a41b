package redis

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"orrery/state"
	"orrery/state/module/redis/rdb"
)

// A snapshot is text around bytes:
//
//	Orrery redis snapshot 1
//	TYPE EXPIRY LENGTH[ LAST-ID MAX-DELETED-ID ADDED]   for each key, by name; the last three for streams only
//	KEY
//	LENGTH LENGTH                                       for each of its elements
//	NAME VALUE
//	end KEYS ELEMENTS
//
// Lengths are in bytes, EXPIRY is in milliseconds since 1970 and 0 for none. Between NAME and VALUE is nothing, and after KEY and
// VALUE a line's end. A string has one element, its value; a list's have no names; of a set members are names without values, of a sorted
// set scores are the values, of a stream ids are the names. All but lists are in the order of their names.
const (
	magic     = "Orrery redis snapshot 1\n"
	maxLength = 1 << 30 // of a key or of an element; servers allow half of it
)

var typeNames = map[rdb.Type]string{rdb.String: "string", rdb.List: "list", rdb.Set: "set", rdb.Hash: "hash", rdb.ZSet: "zset", rdb.Stream: "stream"}

// entry is a key of a snapshot, without its elements.
type entry struct {
	key    []byte
	kind   rdb.Type
	expiry int64
	stream rdb.StreamInfo
}

// element is one of a key's elements: see the format.
type element struct{ name, value []byte }

// writer writes a snapshot of keys that come in order.
type writer struct {
	out            *bufio.Writer
	keys, elements uint64
	line           []byte
}

func newWriter(w io.Writer) (*writer, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	_, err := out.WriteString(magic)
	return &writer{out: out}, err
}

func (w *writer) key(e entry) error {
	w.keys++
	b := append(w.line[:0], typeNames[e.kind]...)
	b = strconv.AppendInt(append(b, ' '), e.expiry, 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(e.key)), 10)
	if e.kind == rdb.Stream {
		b = fmt.Appendf(b, " %s %s %d", spellID(e.stream.Last), spellID(e.stream.MaxDeleted), e.stream.Added)
	}
	w.line = append(b, '\n')
	return w.write(w.line, e.key, []byte{'\n'})
}

func (w *writer) element(e element) error {
	w.elements++
	b := strconv.AppendInt(w.line[:0], int64(len(e.name)), 10)
	b = strconv.AppendInt(append(b, ' '), int64(len(e.value)), 10)
	w.line = append(b, '\n')
	return w.write(w.line, e.name, e.value, []byte{'\n'})
}

func (w *writer) write(parts ...[]byte) error {
	for _, p := range parts {
		if _, err := w.out.Write(p); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) end() error {
	if _, err := fmt.Fprintf(w.out, "end %d %d\n", w.keys, w.elements); err != nil {
		return err
	}
	return w.out.Flush()
}

func spellID(id rdb.ID) string { return fmt.Sprintf("%d-%d", id.Milliseconds, id.Sequence) }

func parseID(s string) (rdb.ID, bool) {
	a, b, _ := strings.Cut(s, "-")
	ms, ok1 := number([]byte(a))
	seq, ok2 := number([]byte(b))
	return rdb.ID{Milliseconds: ms, Sequence: seq}, ok1 && ok2
}

// assemble makes a snapshot of sorted pieces.
func assemble(ctx context.Context, s *sorter, to io.Writer) error {
	w, err := newWriter(to)
	if err != nil {
		return err
	}
	a := assembler{w: w}
	if err := s.each(ctx, a.take); err != nil {
		return err
	}
	if err := a.finish(); err != nil {
		return err
	}
	return w.end()
}

type assembler struct {
	w        *writer
	e        entry
	place    []byte // of the piece before
	elements uint64
	begun    bool // whether there is a key
	written  bool // whether its line is written
}

// twice says that commands contradict each other; a server's RDB never does.
func twice(key []byte) error {
	return fmt.Errorf("%w: key %.80q, or an element of it, is given twice, or with two types", state.ErrCorrupt, key)
}

// contradicts says that entries of a stream do not fit what is said of it as a whole; a server's RDB never does.
func contradicts(key []byte) error {
	return fmt.Errorf("%w: the ids and counts of stream %.80q contradict each other", state.ErrCorrupt, key)
}

func (a *assembler) take(r record) error {
	if !a.begun || !bytes.Equal(a.e.key, r.key) {
		if err := a.finish(); err != nil {
			return err
		}
		*a = assembler{w: a.w, e: entry{key: append([]byte(nil), r.key...)}, begun: true}
	} else if bytes.Equal(a.place, r.place) {
		return twice(r.key)
	}
	a.place = append(a.place[:0], r.place...)
	switch r.place[0] {
	case placeType:
		a.e.kind = rdb.Type(r.value[0])
	case placeExpiry:
		a.e.expiry = int64(binary.BigEndian.Uint64(r.value)) //nolint:gosec // as it was
	case placeEntry:
		a.e.stream.Last, _ = cutID(r.place[1:])
		a.e.stream.Added++
	case placeStream:
		a.e.stream.Last, r.value = cutID(r.value)
		a.e.stream.MaxDeleted, r.value = cutID(r.value)
		a.e.stream.Added = binary.BigEndian.Uint64(r.value)
	default:
		return a.element(r.place[1:], r.value)
	}
	return nil
}

func (a *assembler) element(place, value []byte) error {
	if err := a.head(); err != nil {
		return err
	}
	a.elements++
	e := element{value: value}
	switch a.e.kind {
	case rdb.Set, rdb.Hash, rdb.ZSet:
		e.name = place
	case rdb.Stream:
		id, _ := cutID(place)
		if id == (rdb.ID{}) || compareID(id, a.e.stream.Last) > 0 {
			return contradicts(a.e.key)
		}
		e.name = []byte(spellID(id))
	case rdb.String, rdb.List:
	}
	return a.w.element(e)
}

// head writes the key's line before its first element.
func (a *assembler) head() error {
	if a.written {
		return nil
	}
	if a.e.kind == 0 {
		return fmt.Errorf("%w: nothing says what key %.80q holds", state.ErrCorrupt, a.e.key)
	}
	a.written = true
	return a.w.key(a.e)
}

func (a *assembler) finish() error {
	if !a.begun {
		return nil
	}
	if err := a.head(); err != nil {
		return err
	}
	if a.elements == 0 && a.e.kind != rdb.Stream {
		return fmt.Errorf("%w: key %.80q holds nothing", state.ErrCorrupt, a.e.key)
	}
	if a.e.kind == rdb.Stream && (a.elements > a.e.stream.Added || compareID(a.e.stream.MaxDeleted, a.e.stream.Last) > 0) {
		return contradicts(a.e.key)
	}
	return nil
}

// visitor is told what a snapshot holds; functions may be nil. Slices are valid during the call.
type visitor struct {
	key     func(entry) error
	element func(entry, element) error
	end     func(entry) error // after a key's last element
}

// read visits what a snapshot holds. What it refuses may have been visited in part.
func read(r io.Reader, v visitor) error {
	in := &reader{in: bufio.NewReaderSize(r, 64<<10), v: v}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(in.in, head); err != nil {
		return cut(err)
	}
	if string(head) != magic {
		return fmt.Errorf("%w: it is not a snapshot of Redis keys of version 1", state.ErrCorrupt)
	}
	for {
		line, err := in.in.ReadSlice('\n')
		if err != nil {
			return cut(err)
		}
		words := strings.Split(string(line[:len(line)-1]), " ")
		if words[0] == "end" {
			return in.finish(words[1:])
		}
		if err := in.take(words); err != nil {
			return err
		}
	}
}

type reader struct {
	in             *bufio.Reader
	v              visitor
	keys, elements uint64
	e              entry
	held           uint64 // elements of this key
	last           []byte // the name of the element before
	lastID         rdb.ID
}

func damaged(what string, args ...any) error {
	return fmt.Errorf("%w: %s in the snapshot", state.ErrCorrupt, fmt.Sprintf(what, args...))
}

func (r *reader) take(words []string) error {
	if len(words) == 2 {
		return r.takeElement(words)
	}
	return r.takeKey(words)
}

func (r *reader) takeKey(words []string) error {
	if err := r.closeKey(); err != nil {
		return err
	}
	bad := damaged("%.60q is not the line of a key", words)
	if len(words) < 3 {
		return bad
	}
	var e entry
	for t, name := range typeNames {
		if name == words[0] {
			e.kind = t
		}
	}
	expiry, ok := number([]byte(words[1]))
	length, ok2 := number([]byte(words[2]))
	if e.kind == 0 || !ok || !ok2 || expiry > 1<<62 || (e.kind == rdb.Stream) != (len(words) == 6) || e.kind != rdb.Stream && len(words) != 3 {
		return bad
	}
	e.expiry = int64(expiry) //nolint:gosec // checked
	if e.kind == rdb.Stream && !parseStream(words[3:], &e.stream) {
		return bad
	}
	key, err := r.bytes(length)
	if err != nil {
		return err
	}
	if r.keys > 0 && bytes.Compare(r.e.key, key) >= 0 {
		return damaged("key %.80q is in the wrong place", key)
	}
	e.key = key
	r.keys++
	r.e, r.held, r.last, r.lastID = e, 0, nil, rdb.ID{}
	if r.v.key == nil {
		return nil
	}
	return r.v.key(e)
}

func parseStream(words []string, s *rdb.StreamInfo) bool {
	var ok [3]bool
	s.Last, ok[0] = parseID(words[0])
	s.MaxDeleted, ok[1] = parseID(words[1])
	s.Added, ok[2] = number([]byte(words[2]))
	return ok[0] && ok[1] && ok[2]
}

// bytes reads so many and a line's end.
func (r *reader) bytes(n uint64) ([]byte, error) {
	if n > 2*maxLength {
		return nil, damaged("a length of %d", n)
	}
	var b bytes.Buffer                                        // grows with what is there, whatever the line says
	if _, err := io.CopyN(&b, r.in, int64(n)+1); err != nil { //nolint:gosec // checked
		return nil, cut(err)
	}
	if b.Bytes()[n] != '\n' {
		return nil, damaged("something too long")
	}
	return b.Bytes()[:n:n], nil
}

func (r *reader) takeElement(words []string) error {
	n, ok := number([]byte(words[0]))
	v, ok2 := number([]byte(words[1]))
	if !ok || !ok2 || n > maxLength || v > maxLength || r.keys == 0 {
		return damaged("%.60q is not the line of an element", words)
	}
	both, err := r.bytes(n + v)
	if err != nil {
		return err
	}
	e := element{both[:n:n], both[n:]}
	if err := r.checkElement(e); err != nil {
		return err
	}
	r.held++
	r.elements++
	if r.v.element == nil {
		return nil
	}
	return r.v.element(r.e, e)
}

// checkElement finds what is not as it would be written.
func (r *reader) checkElement(e element) error {
	bad := damaged("an element of key %.80q is damaged or in the wrong place", r.e.key)
	ok := len(e.name) == 0
	switch r.e.kind {
	case rdb.String:
		ok = ok && r.held == 0
	case rdb.List:
	case rdb.Set:
		ok = len(e.value) == 0 && r.follows(e.name)
	case rdb.Hash:
		ok = r.follows(e.name)
	case rdb.ZSet:
		score, err := strconv.ParseFloat(string(e.value), 64)
		ok = err == nil && bytes.Equal(appendScore(nil, score), e.value) && score == score && r.follows(e.name)
	case rdb.Stream:
		id, parsed := parseID(string(e.name))
		_, err := unpackFields(e.value)
		ok = parsed && err == nil && compareID(id, r.lastID) > 0 && compareID(id, r.e.stream.Last) <= 0
		r.lastID = id
	}
	if !ok {
		return bad
	}
	return nil
}

func compareID(a, b rdb.ID) int { return bytes.Compare(appendID(nil, a), appendID(nil, b)) }

func (r *reader) follows(name []byte) bool {
	ok := r.held == 0 || bytes.Compare(r.last, name) < 0
	r.last = name
	return ok
}

// closeKey looks at what a key has when the next one comes.
func (r *reader) closeKey() error {
	switch {
	case r.keys == 0:
		return nil
	case r.held == 0 && r.e.kind != rdb.Stream:
		return damaged("key %.80q holds nothing", r.e.key)
	case r.e.kind == rdb.Stream && (r.held > r.e.stream.Added || compareID(r.e.stream.MaxDeleted, r.e.stream.Last) > 0):
		return damaged("stream %.80q contradicts itself", r.e.key)
	}
	if r.v.end == nil {
		return nil
	}
	return r.v.end(r.e)
}

func (r *reader) finish(words []string) error {
	if err := r.closeKey(); err != nil {
		return err
	}
	if len(words) != 2 || words[0] != strconv.FormatUint(r.keys, 10) || words[1] != strconv.FormatUint(r.elements, 10) {
		return damaged("%d keys with %d elements, and another count of them,", r.keys, r.elements)
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		if err != nil {
			return cut(err)
		}
		return damaged("something after the end")
	}
	return nil
}

// cut says what an end in the middle means.
func cut(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the snapshot ends in the middle", state.ErrCorrupt)
	case errors.Is(err, bufio.ErrBufferFull):
		return damaged("a line that is too long")
	}
	return fmt.Errorf("cannot read the snapshot: %w", err)
}

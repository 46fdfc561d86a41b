package influxdb

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"orrery/state"
)

// A snapshot is text: lines that begin with "# " and say what is what, and points in line protocol. First the line that
// names the format, then the retention policies and the continuous queries by name; then, for each retention policy
// and measurement by name, a line that names them, the points by series and time, and a line with their number; and at the
// end the numbers of measurements and points.
const (
	magic         = "# Orrery InfluxDB snapshot 1\n"
	policyMark    = "# policy "
	queryMark     = "# query "
	placeMark     = "# measurement "
	pointsMark    = "# points "
	endMark       = "# end "
	maxLine       = 64 << 20
	maxHeaderLine = 1 << 20
)

// header is what a database has beside its points.
type header struct {
	Policies []policy `json:"policies"`
	Queries  []query  `json:"queries"`
}

// policy is a retention policy; durations are as the server writes them.
type policy struct {
	Name        string `json:"name"`
	Duration    string `json:"duration"`
	Shard       string `json:"shard"`
	Replication int    `json:"replication"`
	Default     bool   `json:"default"`
}

// query is a continuous query, with a placeholder for the name of the database.
type query struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// place is where points are.
type place struct {
	Policy string `json:"policy"`
	Name   string `json:"name"`
}

func (p place) compare(other place) int {
	return cmp.Or(strings.Compare(p.Policy, other.Policy), strings.Compare(p.Name, other.Name))
}

type totals struct {
	Measurements int   `json:"measurements"`
	Points       int64 `json:"points"`
}

// appendMarked adds a line with a value in JSON.
func appendMarked(b []byte, mark string, value any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(value) // ends the line
	return append(append(b, mark...), out.Bytes()...), err
}

// readMarked reads such a line, if it is written the one way.
func readMarked(line []byte, mark string, into any) error {
	rest, ok := bytes.CutPrefix(line, []byte(mark))
	if !ok {
		return fmt.Errorf("%w: %.80q is not expected here in a snapshot", state.ErrCorrupt, line)
	}
	d := json.NewDecoder(bytes.NewReader(rest))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		var again []byte
		if again, err = appendMarked(nil, mark, into); err == nil && bytes.Equal(again, line) {
			return nil
		}
	}
	return fmt.Errorf("%w: %.80q in the snapshot is malformed", state.ErrCorrupt, line)
}

// appendTo adds the start of a snapshot.
func (h header) appendTo(b []byte) ([]byte, error) {
	b = append(b, magic...)
	var err error
	for _, p := range h.Policies {
		if b, err = appendMarked(b, policyMark, p); err != nil {
			return nil, err
		}
	}
	for _, q := range h.Queries {
		if b, err = appendMarked(b, queryMark, q); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (h header) has(policy string) bool {
	for _, p := range h.Policies {
		if p.Name == policy {
			return true
		}
	}
	return false
}

// visitor gets what a snapshot has; functions may be nil. A line is valid during the call only.
type visitor struct {
	header  func(header) error
	section func(place) error
	point   func(place, []byte) error
	// raw gets all lines of sections, their first and last ones too.
	raw func(place, []byte) error
	end func(totals) error
}

// read visits what is in a snapshot and checks that all is there and in its place.
func read(r io.Reader, v visitor) error {
	in := &reader{in: bufio.NewReaderSize(r, 256<<10), v: v}
	if err := in.header(); err != nil {
		return err
	}
	for {
		more, err := in.section()
		if err != nil {
			return err
		}
		if !more {
			return in.finish()
		}
	}
}

// reader is the state of read.
type reader struct {
	in     *bufio.Reader
	v      visitor
	line   []byte // the current one, with its end
	plain  bool   // no line is of line protocol
	head   header
	at     place
	totals totals
}

// next reads a line.
func (r *reader) next() error {
	r.line = r.line[:0]
	var s scanner
	comment := false
	for {
		part, err := r.in.ReadSlice('\n')
		if len(r.line) == 0 && len(part) > 0 {
			comment = r.plain || part[0] == '#'
		}
		r.line = append(r.line, part...)
		if len(r.line) > maxLine || comment && len(r.line) > maxHeaderLine {
			return fmt.Errorf("%w: a line of the snapshot is too long", state.ErrCorrupt)
		}
		complete := comment && err == nil
		if !comment {
			for _, c := range part {
				complete = s.ends(c)
			}
		}
		switch {
		case complete:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the snapshot ends in the middle", state.ErrCorrupt)
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("cannot read the snapshot: %w", err)
		}
	}
}

func (r *reader) marked(mark string) bool { return bytes.HasPrefix(r.line, []byte(mark)) }

func (r *reader) header() error {
	if err := r.next(); err != nil {
		return err
	}
	if string(r.line) != magic {
		return fmt.Errorf("%w: it is not a snapshot of an InfluxDB database of version 1", state.ErrCorrupt)
	}
	for {
		if err := r.next(); err != nil {
			return err
		}
		var err error
		switch {
		case r.marked(policyMark):
			err = r.policy()
		case r.marked(queryMark):
			err = r.query()
		default:
			if r.v.header != nil {
				return r.v.header(r.head)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) policy() error {
	var p policy
	if err := readMarked(r.line, policyMark, &p); err != nil {
		return err
	}
	if n := len(r.head.Policies); len(r.head.Queries) > 0 || n > 0 && r.head.Policies[n-1].Name >= p.Name {
		return r.misplaced("retention policy", p.Name)
	}
	if !expressible(p.Name) || !duration.MatchString(p.Duration) || !duration.MatchString(p.Shard) || p.Replication < 1 {
		return fmt.Errorf("%w: retention policy %q in the snapshot is malformed", state.ErrCorrupt, p.Name)
	}
	r.head.Policies = append(r.head.Policies, p)
	return nil
}

func (r *reader) query() error {
	var q query
	if err := readMarked(r.line, queryMark, &q); err != nil {
		return err
	}
	if n := len(r.head.Queries); n > 0 && r.head.Queries[n-1].Name >= q.Name {
		return r.misplaced("continuous query", q.Name)
	}
	if err := q.check(); err != nil {
		return fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	r.head.Queries = append(r.head.Queries, q)
	return nil
}

func (r *reader) misplaced(what, name string) error {
	return fmt.Errorf("%w: %s %.80q in the snapshot is in the wrong place", state.ErrCorrupt, what, name)
}

// section reads a measurement whose first line is the current one; false if that is not one.
func (r *reader) section() (bool, error) {
	if !r.marked(placeMark) {
		return false, nil
	}
	var at place
	if err := readMarked(r.line, placeMark, &at); err != nil {
		return false, err
	}
	if r.totals.Measurements > 0 && at.compare(r.at) <= 0 || !r.head.has(at.Policy) || !expressible(at.Name) {
		return false, r.misplaced("measurement", at.Name)
	}
	r.at = at
	r.totals.Measurements++
	if r.v.section != nil {
		if err := r.v.section(at); err != nil {
			return false, err
		}
	}
	if err := r.raw(); err != nil {
		return false, err
	}
	if err := r.points(); err != nil {
		return false, err
	}
	return true, r.next()
}

func (r *reader) raw() error {
	if r.v.raw == nil {
		return nil
	}
	return r.v.raw(r.at, r.line)
}

// points reads the points of a measurement and the line after them.
func (r *reader) points() error {
	var c checker
	for {
		if err := r.next(); err != nil {
			return err
		}
		if r.marked(pointsMark) {
			break
		}
		p, err := parseLine(r.line)
		if err == nil && p.measurement != r.at.Name {
			err = errSyntax
		}
		if err == nil {
			err = c.add(p)
		}
		if err != nil {
			return fmt.Errorf("%w: line %.80q of measurement %q in the snapshot: %w", state.ErrCorrupt, r.line, r.at.Name, err)
		}
		if r.v.point != nil {
			if err := r.v.point(r.at, r.line); err != nil {
				return err
			}
		}
		if err := r.raw(); err != nil {
			return err
		}
	}
	var count int64
	if err := readMarked(r.line, pointsMark, &count); err != nil {
		return err
	}
	if count != c.count || count == 0 {
		return fmt.Errorf("%w: measurement %q has %d points in the snapshot, which says %d", state.ErrCorrupt, r.at.Name, c.count, count)
	}
	r.totals.Points += count
	return r.raw()
}

func (r *reader) finish() error {
	var all totals
	if err := readMarked(r.line, endMark, &all); err != nil {
		return err
	}
	if all != r.totals {
		return fmt.Errorf("%w: the snapshot has %d measurements with %d points and says %d with %d",
			state.ErrCorrupt, r.totals.Measurements, r.totals.Points, all.Measurements, all.Points)
	}
	_, err := r.in.ReadByte()
	switch {
	case err == nil:
		return fmt.Errorf("%w: something comes after the snapshot's end", state.ErrCorrupt)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("cannot read the snapshot: %w", err)
	}
	if r.v.end != nil {
		return r.v.end(all)
	}
	return nil
}

// checker checks the order and the types of one measurement's points.
type checker struct {
	count int64
	last  point
	kinds map[string]kind
}

func (c *checker) add(p point) error {
	if c.count > 0 && comparePoints(&c.last, &p) >= 0 {
		return fmt.Errorf("the point is out of order")
	}
	if c.kinds == nil {
		c.kinds = map[string]kind{}
	}
	for _, f := range p.fields {
		if before, ok := c.kinds[f.key]; ok && before != f.kind {
			return fmt.Errorf("field %q has two types", f.key)
		}
		c.kinds[f.key] = f.kind
	}
	c.last = p
	c.count++
	return nil
}

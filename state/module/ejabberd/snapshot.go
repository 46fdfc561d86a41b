package ejabberd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"orrery/internal/extsort"
	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

// A snapshot is lines of terms, each with a dot: {orrery_ejabberd, Version, Host}, then for each table with records
// {table, Name, Kind, Attributes} and its records in the order of their bytes, and {'end', Records}.
const (
	magic   = "orrery_ejabberd"
	version = 1
	begin   = "{" + magic + ","
	maxLine = 256 << 20
)

// writeSnapshot writes a snapshot of lines.
func writeSnapshot(ctx context.Context, w io.Writer, name string, lines *extsort.Sorter, heading func(table string) ([]byte, error)) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if _, err := fmt.Fprintf(out, "%s.\n", term.Text(term.Tuple{term.Atom(magic), int64(version), term.Binary(name)})); err != nil {
		return err
	}
	count, last := 0, ""
	err := lines.Each(ctx, func(line []byte) error {
		count++
		if of := tableOf(line); of != last {
			last = of
			text, err := heading(of)
			if err != nil {
				return err
			}
			if _, err := out.Write(text); err != nil {
				return err
			}
		}
		_, err := out.Write(line)
		return err
	})
	if err == nil {
		_, err = fmt.Fprintf(out, "{'end',%d}.\n", count)
	}
	return errors.Join(err, out.Flush())
}

// tableOf is the name of a record's table, which is its first element.
func tableOf(line []byte) string {
	name, _, _ := strings.Cut(string(line[1:min(len(line), 80)]), ",")
	return name
}

func corrupt(what string) error { return fmt.Errorf("%w: the snapshot %s", state.ErrCorrupt, what) }

// visitor gets what a snapshot has, in its order.
type visitor struct {
	host   func(name string) error
	table  func(t table) error
	record func(t table, record term.Tuple, line []byte) error
}

// readSnapshot reads a snapshot; it is whole only if that returns nil.
func readSnapshot(ctx context.Context, r io.Reader, v visitor) error {
	in := bufio.NewReaderSize(r, 64<<10)
	p := parsing{visitor: v, count: -1}
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = errors.Join(ctx.Err(), p.take(line))
		}
		if err != nil {
			return err
		}
	}
	if !p.ended {
		return corrupt("ends before its end marker, or is none of a virtual host of ejabberd")
	}
	return nil
}

// readLine reads a whole line with its end.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, corrupt("has a line that is too long")
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, corrupt("ends in the middle of a line")
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("cannot read the snapshot: %w", err)
		}
	}
}

// parsing is where a reader is in a snapshot.
type parsing struct {
	visitor
	count   int // of records; -1 before the first line
	ended   bool
	current table
	fresh   bool // no record of the current table has come
	last    []byte
}

func (p *parsing) take(line []byte) error {
	text, ok := bytes.CutSuffix(line, []byte(".\n"))
	if !ok || p.ended {
		return corrupt("has a line that ends in another way than it should, or that comes after the end")
	}
	t, err := term.Parse(text)
	if err != nil {
		return fmt.Errorf("%w: record %d of the snapshot: %w", state.ErrCorrupt, p.count+1, err)
	}
	tuple, ok := t.(term.Tuple)
	if !ok || len(tuple) < 2 || !bytes.Equal(term.Append(nil, tuple), text) {
		return corrupt("has a line that is not in its canonical form")
	}
	switch name, _ := tuple[0].(term.Atom); {
	case p.count < 0:
		return p.first(tuple)
	case name == "table":
		return p.heading(tuple, line)
	case name == "end":
		if tuple[1] != int64(p.count) || len(tuple) != 2 || p.fresh {
			return corrupt("has another number of records than its end says")
		}
		p.ended = true
		return nil
	}
	return p.one(tuple, line)
}

func (p *parsing) first(t term.Tuple) error {
	name, ok := t[len(t)-1].(term.Binary)
	if len(t) != 3 || t[0] != term.Atom(magic) || !ok || !validHost.MatchString(string(name)) {
		return corrupt("is none of a virtual host of ejabberd")
	}
	if t[1] != int64(version) {
		return fmt.Errorf("the snapshot is of version %s, which a newer Orrery wrote", term.Text(t[1]))
	}
	p.count = 0
	return p.host(string(name))
}

func (p *parsing) heading(t term.Tuple, line []byte) error {
	if len(t) != 4 || p.fresh {
		return corrupt("has a table without records, or a heading of another shape")
	}
	next := table{}
	name, _ := t[1].(term.Atom)
	next.name = string(name)
	next.kind, _ = t[2].(term.Atom)
	next.attributes, _ = t[3].(term.List)
	if _, is := known()[next.name]; !is || next.name <= p.current.name || !bytes.Equal(next.heading(), line) {
		return corrupt("has a table that is not known, or in the wrong place")
	}
	p.current, p.fresh, p.last = next, true, nil
	return p.table(next)
}

func (p *parsing) one(t term.Tuple, line []byte) error {
	if t[0] != term.Atom(p.current.name) || len(t) != len(p.current.attributes)+1 || bytes.Compare(p.last, line) >= 0 {
		return corrupt("has a record in the wrong place or of another shape")
	}
	p.count++
	p.fresh, p.last = false, slices.Clone(line)
	return p.record(p.current, t, line)
}

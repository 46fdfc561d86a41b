package ejabberd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"orrery/internal/extsort"
	"orrery/internal/spool"
	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

var _ state.Portable = (*Module)(nil)

// indexAttributes are those of the table with the last number of a pubsub node.
const indexAttributes = "[index,last,free]"

// bags are the known tables that may have several records of a key, which ejabberd's text dumps do not say.
func bags() []string { return []string{"archive_msg", "offline_msg", "push_session", "sr_user"} }

// Extension implements state.Portable.
func (*Module) Extension() string { return ".dump" }

// Export implements state.Portable: as ejabberdctl dump writes it and ejabberdctl load reads it, into a server that has no other
// host. Nodes of pubsub get numbers from 1.
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	return spool.With("", func(f *os.File) error {
		tables, numbers, err := survey(ctx, io.TeeReader(snapshot, f))
		if err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		out := bufio.NewWriterSize(w, 64<<10)
		if _, err := fmt.Fprintf(out, "{tables,%s}.\n", term.Text(tables)); err != nil {
			return err
		}
		err = readSnapshot(ctx, f, visitor{
			host: func(string) error { return nil }, table: func(table) error { return nil },
			record: func(t table, record term.Tuple, line []byte) error {
				number := func(key term.Term) (term.Term, error) { return numbers.numbers[term.Text(key)], nil }
				if t.name == "pubsub_node" {
					record[2], _ = number(record[1])
					line = append(term.Append(nil, record), '.', '\n')
				} else if hangs, _ := hung(t.name); hangs > 0 {
					numbered, err := exchange(t.name, record, number)
					if err != nil {
						return err
					}
					line = append(term.Append(nil, numbered), '.', '\n')
				}
				_, err := out.Write(line)
				return err
			},
		})
		if last := len(numbers.numbers); err == nil && last > 0 {
			_, err = fmt.Fprintf(out, "{pubsub_index,node,%d,[]}.\n", last)
		}
		return errors.Join(err, out.Flush())
	})
}

// survey reads a snapshot whole, and returns the definitions of its tables and numbers for its nodes.
func survey(ctx context.Context, snapshot io.Reader) (term.List, *nodes, error) {
	tables, numbers := term.List{}, newNodes()
	define := func(name string, attributes term.Term, more ...term.Term) {
		options := append(term.List{term.Tuple{term.Atom("record_name"), term.Atom(name)}, term.Tuple{term.Atom("attributes"), attributes}}, more...)
		tables = append(tables, term.Tuple{term.Atom(name), options})
	}
	err := readSnapshot(ctx, snapshot, visitor{
		host: func(string) error { return nil },
		table: func(t table) error {
			define(t.name, t.attributes, term.Tuple{term.Atom("type"), t.kind})
			return nil
		},
		record: func(t table, record term.Tuple, _ []byte) error {
			enter := func(key term.Term) (term.Term, error) {
				if _, is := numbers.numbers[term.Text(key)]; !is {
					numbers.add(key, int64(len(numbers.numbers)+1))
				}
				return key, nil
			}
			if t.name == "pubsub_node" {
				_, err := enter(record[1])
				return err
			}
			_, err := exchange(t.name, record, enter)
			return err
		},
	})
	if err == nil && len(numbers.numbers) > 0 {
		attributes, failed := term.Parse([]byte(indexAttributes))
		define("pubsub_index", attributes)
		err = failed
	}
	return tables, numbers, err
}

// Import implements state.Portable: a text dump of a server with one virtual host.
func (*Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	return spool.With("", func(f *os.File) error {
		d := dumped{tables: map[string]table{}, nodes: newNodes()}
		if err := d.read(ctx, io.TeeReader(plain, f), d.survey); err != nil {
			return err
		}
		if err := d.one(); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		s := newSorter("", extsort.Memory)
		err := d.read(ctx, f, func(t table, record term.Tuple) error {
			line, err := d.nodes.canonical(t, record)
			if err != nil {
				return err
			}
			return s.Add(line)
		})
		if err == nil {
			err = writeSnapshot(ctx, w, d.host, s, func(name string) ([]byte, error) { return d.tables[name].heading(), nil })
		}
		return errors.Join(err, s.Close())
	})
}

// dumped is what is known of a text dump.
type dumped struct {
	tables map[string]table
	nodes  *nodes
	hosts  []string // of accounts, or else of any records
	others []string
	host   string
}

// read visits the records of known tables.
func (d *dumped) read(ctx context.Context, r io.Reader, visit func(t table, record term.Tuple) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	first := true
	for {
		text, err := readTerm(in)
		if errors.Is(err, io.EOF) && !first {
			return nil
		}
		if err != nil {
			return err
		}
		t, err := term.Parse(latin1(text))
		record, ok := t.(term.Tuple)
		if err != nil || !ok || len(record) < 2 {
			return errors.Join(corrupt("is no text dump of ejabberd"), err)
		}
		if first {
			first = false
			err = d.define(record)
		} else {
			err = d.take(record, visit)
		}
		if err := errors.Join(ctx.Err(), err); err != nil {
			return err
		}
	}
}

// latin1 is text in UTF-8: ejabberd writes its dumps with a byte for a character.
func latin1(text []byte) []byte {
	if !slices.ContainsFunc(text, func(c byte) bool { return c >= 0x80 }) {
		return text
	}
	wide := make([]byte, 0, len(text)+len(text)/2)
	for _, c := range text {
		wide = utf8.AppendRune(wide, rune(c))
	}
	return wide
}

// readTerm reads lines up to one that ends with a dot: strings are broken between quotes.
func readTerm(in *bufio.Reader) ([]byte, error) {
	var text []byte
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(text)) > 0 {
			return nil, corrupt("ends in the middle of a record")
		}
		if err != nil {
			return nil, err
		}
		if text = append(text, line...); len(text) > maxLine {
			return nil, corrupt("has a record that is too long")
		}
		if whole, ok := bytes.CutSuffix(bytes.TrimRight(text, " \r\n"), []byte(".")); ok {
			return whole, nil
		}
	}
}

// define takes the tables' definitions, which are first.
func (d *dumped) define(t term.Tuple) error {
	all, ok := t[1].(term.List)
	if t[0] != term.Atom("tables") || !ok {
		return corrupt("is no text dump of ejabberd: it does not begin with its tables")
	}
	for _, one := range all {
		pair, ok := one.(term.Tuple)
		if !ok || len(pair) != 2 {
			return corrupt("defines a table in an unknown way")
		}
		name, _ := pair[0].(term.Atom)
		options, _ := pair[1].(term.List)
		next := table{name: string(name), kind: "set"}
		if slices.Contains(bags(), next.name) {
			next.kind = "bag"
		}
		for _, o := range options {
			if option, ok := o.(term.Tuple); ok && len(option) == 2 && option[0] == term.Atom("attributes") {
				next.attributes, _ = option[1].(term.List)
			}
		}
		d.tables[next.name] = next
	}
	return nil
}

func (d *dumped) take(record term.Tuple, visit func(t table, record term.Tuple) error) error {
	name, _ := record[0].(term.Atom)
	t, defined := d.tables[string(name)]
	_, is := known()[t.name]
	switch {
	case !defined:
		return corrupt("has a record of a table that it does not define")
	case slices.Contains(shared(), t.name):
		return nil
	case !is:
		return fmt.Errorf("the dump has records of table %s, and it is %w know whose they are", t.name, state.ErrNotAble)
	case len(record) != len(t.attributes)+1:
		return corrupt("has a record of another shape than its table")
	}
	return visit(t, record)
}

// survey notes the nodes of pubsub, and whose records there are.
func (d *dumped) survey(t table, record term.Tuple) error {
	if t.name == "pubsub_node" {
		d.nodes.add(record[1], record[2])
	}
	name, ok := owner(record, known()[t.name])
	switch {
	case ok && t.name == "passwd" && !slices.Contains(d.hosts, name):
		d.hosts = append(d.hosts, name)
	case ok && !slices.Contains(d.others, name):
		d.others = append(d.others, name)
	}
	return nil
}

// one finds out which virtual host the dump is of.
func (d *dumped) one() error {
	if len(d.hosts) != 1 {
		return fmt.Errorf("the dump has accounts of %d virtual hosts (%s): only one of a single host can be taken (restore it with ejabberdctl load into a server, and take snapshots there)", len(d.hosts), strings.Join(d.hosts, ", "))
	}
	d.host = d.hosts[0]
	if !validHost.MatchString(d.host) {
		return corrupt("has accounts of what is no name of a virtual host")
	}
	for _, name := range d.others {
		if !belongs(name, d.host) {
			return fmt.Errorf("the dump of virtual host %s has records of %s, which is not below it: it is %w know whose they are", d.host, name, state.ErrNotAble)
		}
	}
	return nil
}

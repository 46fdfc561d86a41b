package ejabberd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"orrery/internal/extsort"
	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

const (
	batch       = 200 // records in one request, and
	batchBytes  = 4 << 20
	backTimeout = time.Minute
)

// admit reads a snapshot into s, as records of this host, if it is whole and the server can hold it.
func (h *host) admit(ctx context.Context, r io.Reader, s *extsort.Sorter) error {
	from, places := "", []place(nil)
	return readSnapshot(ctx, r, visitor{
		host: func(name string) error {
			from = name
			return nil
		},
		table: func(t table) error {
			places = known()[t.name]
			is, there := h.all[t.name]
			switch {
			case !there:
				return fmt.Errorf("the server has no table %s (configure the module that keeps it)", t.name)
			case term.Text(is.attributes) != term.Text(t.attributes) || is.bag() != t.bag():
				return fmt.Errorf("table %s of the server has another shape than in the snapshot: it was taken from another version of ejabberd, which is %w", t.name, state.ErrNotAble)
			}
			return nil
		},
		record: func(t table, record term.Tuple, line []byte) error {
			if from != h.name {
				record, _ = renamed(record, from, h.name).(term.Tuple)
				line = append(term.Append(nil, record), '.', '\n')
			}
			if err := h.check(t, record, places); err != nil {
				return err
			}
			return s.Add(line)
		},
	})
}

// check refuses records that are not the host's or one of its services'.
func (h *host) check(t table, record term.Tuple, places []place) error {
	if t.name == "pubsub_node" {
		if record[2] != unnumbered {
			return corrupt("has a node of pubsub with a number")
		}
		return h.checkNode(record[1])
	}
	if places != nil {
		name, ok := owner(record, places)
		if !ok {
			return corrupt("has a record in table " + t.name + " without a virtual host")
		}
		return h.checkName(name)
	}
	_, err := exchange(t.name, record, func(key term.Term) (term.Term, error) { return key, h.checkNode(key) })
	return err
}

func (h *host) checkNode(key term.Term) error {
	pair, ok := key.(term.Tuple)
	if ok && len(pair) == 2 {
		switch of := pair[0].(type) {
		case term.Binary:
			return h.checkName(string(of))
		case term.Tuple:
			if name, ok := owner(term.Tuple{nil, of}, []place{{1, 3, 2}}); ok {
				return h.checkName(name)
			}
		}
	}
	return corrupt("has a node of pubsub without a virtual host")
}

func (h *host) checkName(name string) error {
	if slices.Contains(h.hosts, name) {
		return nil
	}
	return fmt.Errorf("the snapshot has state of %s, which no module of the virtual host serves here (configure it as where the snapshot was taken)", name)
}

// replace makes the host's records those in want, all at once, or none of them; or only those of one table.
func (h *host) replace(ctx context.Context, want *extsort.Sorter, part string) error {
	if err := h.x.begin("write", h.locked()); err != nil {
		return err
	}
	var numbers *nodes
	return h.sorting(ctx, func(s *extsort.Sorter) (err error) {
		numbers, err = h.collect(ctx, func(line []byte) error { return s.Add(line) })
		return err
	}, func(is *extsort.Sorter) error {
		w := &writer{h: h, ctx: ctx, nodes: numbers, part: part}
		if err := w.forget(); err != nil {
			return err
		}
		if err := w.differences(is, want, w.remove, nil); err != nil {
			return err
		}
		if err := w.giveBack(); err != nil {
			return err
		}
		if err := w.differences(is, want, nil, w.write); err != nil {
			return err
		}
		return h.x.commit()
	})
}

// writer changes records within a transaction, a batch at a time.
type writer struct {
	h       *host
	ctx     context.Context //nolint:containedctx // lives as long as one call of replace
	nodes   *nodes
	part    string   // the table that changes; empty: all
	gone    []string // keys of nodes whose numbers were given back
	kind    term.Atom
	pending term.List
	bytes   int
}

// differences visits lines that only one of the two has.
func (w *writer) differences(is, want *extsort.Sorter, removed, added func(line []byte) error) error {
	a, err := is.Read(w.ctx)
	if err != nil {
		return err
	}
	b, err := want.Read(w.ctx)
	if err != nil {
		return err
	}
	for a.Record() != nil || b.Record() != nil {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		order := bytes.Compare(a.Record(), b.Record())
		switch {
		case a.Record() == nil:
			order = 1
		case b.Record() == nil:
			order = -1
		}
		if order < 0 && removed != nil && w.concerns(a.Record()) {
			err = removed(a.Record())
		}
		if order > 0 && added != nil && w.concerns(b.Record()) {
			err = added(b.Record())
		}
		if order <= 0 {
			err = errors.Join(err, a.Next())
		}
		if order >= 0 {
			err = errors.Join(err, b.Next())
		}
		if err != nil {
			return err
		}
	}
	return w.finish()
}

// concerns says whether a line is of what changes.
func (w *writer) concerns(line []byte) bool { return w.part == "" || tableOf(line) == w.part }

// record is a line as the server has it.
func (w *writer) record(line []byte) (term.Tuple, table, error) {
	t, err := term.Parse(bytes.TrimSuffix(line, []byte(".\n")))
	record, ok := t.(term.Tuple)
	if err != nil || !ok {
		return nil, table{}, fmt.Errorf("a record was spoilt on its way: %w", errors.Join(err, errShape))
	}
	of := w.h.all[tableOf(line)]
	if of.name == "pubsub_node" {
		record[2], err = w.number(record[1])
		return record, of, err
	}
	record, err = exchange(of.name, record, w.number)
	return record, of, err
}

// number is what the server calls a node of pubsub; a new one gets a number of the server's.
func (w *writer) number(key term.Term) (term.Term, error) {
	if number, ok := w.nodes.numbers[term.Text(key)]; ok {
		return number, nil
	}
	number, err := w.h.x.call("pubsub_index", "new", term.Atom("node"))
	if err == nil {
		w.nodes.add(key, number)
	}
	return number, err
}

// remove deletes a record.
func (w *writer) remove(line []byte) error {
	record, of, err := w.record(line)
	if err != nil {
		return err
	}
	if of.name == "pubsub_node" {
		w.gone = append(w.gone, term.Text(record[1]))
	}
	if of.bag() {
		return w.add("delete_object", record, len(line))
	}
	return w.add("delete", term.Tuple{record[0], record[1]}, len(line))
}

// write writes a record.
func (w *writer) write(line []byte) error {
	record, _, err := w.record(line)
	if err != nil {
		return err
	}
	return w.add("write", record, len(line))
}

func (w *writer) add(kind term.Atom, t term.Term, size int) error {
	if kind != w.kind || len(w.pending) >= batch || w.bytes > batchBytes {
		if err := w.finish(); err != nil {
			return err
		}
	}
	w.kind = kind
	w.pending = append(w.pending, t)
	w.bytes += size
	return nil
}

// finish sends what is pending.
func (w *writer) finish() error {
	if len(w.pending) > 0 {
		if _, err := w.h.x.ask(term.Tuple{w.kind, w.pending}); err != nil {
			return fmt.Errorf("%s: %w", w.kind, err)
		}
	}
	w.pending, w.bytes = nil, 0
	return nil
}

// giveBack gives back the numbers of nodes that are gone; new ones may get them.
func (w *writer) giveBack() error {
	for _, key := range w.gone {
		number := w.nodes.numbers[key]
		delete(w.nodes.numbers, key)
		if _, err := w.h.x.call("pubsub_index", "free", term.Atom("node"), number); err != nil {
			return err
		}
	}
	return nil
}

// forget drops the last items of nodes that the server keeps in memory.
func (w *writer) forget() error {
	if _, there := w.h.all["pubsub_last_item"]; !there {
		return nil
	}
	for _, number := range w.nodes.numbers {
		if err := w.add("delete", term.Tuple{term.Atom("pubsub_last_item"), number}, 0); err != nil {
			return err
		}
	}
	return w.finish()
}

// exchanging carries out a change of the host's records, which calls settle once it needs the host to be out of service.
// An active one is taken back into service, also where the change did not come to be.
func (m *Module) exchanging(ctx context.Context, t state.Target, what string, change func(h *host, settle func() error) error) error {
	again := false
	err := m.with(ctx, t, what, func(h *host) error {
		again = h.active()
		if err := change(h, h.lower); err != nil {
			return err
		}
		if _, err := h.x.call("ejabberd_admin", "clear_cache"); err != nil {
			return err
		}
		if again {
			return h.raise()
		}
		return nil
	})
	if err == nil || !again {
		return err
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), backTimeout)
	defer cancel()
	return errors.Join(err, m.with(back, t, "take back into service", (*host).raise))
}

package ejabberd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/internal/extsort"
	"orrery/state/module/ejabberd/term"
)

// perRequest is how many nodes of pubsub are asked for at once.
const perRequest = 50

// collect gives visit the canonical lines of all of the host's records, in no order. It is within a transaction that holds
// the tables.
func (h *host) collect(ctx context.Context, visit func(line []byte) error) (*nodes, error) {
	if err := h.refuseStrangers(); err != nil {
		return nil, err
	}
	n := newNodes()
	for _, name := range h.own() {
		t := h.all[name]
		places := known()[name]
		spec := t.pattern(places, h.hosts)
		switch {
		case name == "pubsub_node":
			spec = nodePattern(t, h.hosts)
		case places == nil:
			continue // hangs on nodes
		}
		if err := h.x.choose(name, spec, h.taking(ctx, n, t, visit)); err != nil {
			return nil, err
		}
	}
	return n, h.collectHung(ctx, n, visit)
}

// taking turns records into lines.
func (h *host) taking(ctx context.Context, n *nodes, t table, visit func([]byte) error) func(term.Term) error {
	return func(record term.Term) error {
		line, err := n.canonical(t, record)
		if err == nil {
			err = errors.Join(ctx.Err(), visit(line))
		}
		return err
	}
}

// nodePattern matches nodes of services and of people: {Host, Node} and {{User, Host, Resource}, Node}.
func nodePattern(t table, hosts []string) term.List {
	all := t.pattern([]place{{1, 2, 1}}, hosts)
	for _, name := range hosts {
		record := hole(len(t.attributes)+1, 2, hole(2, 1, hole(3, 2, term.Binary(name))))
		record[0] = term.Atom(t.name)
		all = append(all, clause(record))
	}
	return all
}

// collectHung takes the records that hang on nodes of pubsub.
func (h *host) collectHung(ctx context.Context, n *nodes, visit func([]byte) error) error {
	numbers := make([]term.Term, 0, len(n.numbers))
	for _, number := range n.numbers {
		numbers = append(numbers, number)
	}
	for _, name := range []string{"pubsub_item", "pubsub_state", "pubsub_orphan"} {
		t, there := h.all[name]
		if !there {
			continue
		}
		take := h.taking(ctx, n, t, visit)
		for some := range slices.Chunk(numbers, perRequest) {
			request := term.Tuple{term.Atom("index"), term.Atom(name), int64(3), term.List(some)}
			if name == "pubsub_orphan" { // the number is its key
				request = term.Tuple{term.Atom("read"), term.Atom(name), term.List(some)}
			}
			answer, err := h.x.ask(request)
			if err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
			records, _ := answer.(term.List)
			for _, r := range records {
				if err := take(r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// locked are the tables that a dump or a restore holds.
func (h *host) locked() []string {
	all := h.own()
	for _, name := range []string{"pubsub_index", "pubsub_last_item"} {
		if _, there := h.all[name]; there {
			all = append(all, name)
		}
	}
	return all
}

// newSorter makes a sorter of lines. All of them end with a newline.
func newSorter(folder string, memory int) *extsort.Sorter {
	return extsort.New(memory, extsort.File(folder), bytes.Compare)
}

// sorting fills a sorter and gives it to use.
func (h *host) sorting(ctx context.Context, fill, use func(*extsort.Sorter) error) error {
	s := newSorter(h.folder, h.memory)
	err := fill(s)
	if err == nil {
		err = s.Sort(ctx)
	}
	if err == nil {
		err = use(s)
	}
	return errors.Join(err, s.Close())
}

package ejabberd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"orrery/state/module/ejabberd/term"
)

// nodes are the numbers that the server gave the nodes of pubsub, by the text of the node's key, and the other way round. Numbers
// are the server's own business: in a snapshot the key stands in their place.
type nodes struct {
	numbers map[string]term.Term
	keys    map[string]term.Term
}

func newNodes() *nodes {
	return &nodes{numbers: map[string]term.Term{}, keys: map[string]term.Term{}}
}

func (n *nodes) add(key, number term.Term) {
	n.numbers[term.Text(key)] = number
	n.keys[term.Text(number)] = key
}

// unnumbered stands in a snapshot for a node's number.
const unnumbered = term.Atom("number")

// hung says where records of pubsub have the number of their node: as an attribute and as the second element of the key, or
// as the key itself.
func hung(name string) (attribute int, inKey bool) {
	switch name {
	case "pubsub_node", "pubsub_state", "pubsub_item":
		return 2, name != "pubsub_node"
	case "pubsub_orphan":
		return 1, false
	}
	return 0, false
}

// exchange puts what swap returns in the place of a pubsub record's number.
func exchange(name string, record term.Tuple, swap func(term.Term) (term.Term, error)) (term.Tuple, error) {
	at, inKey := hung(name)
	if at == 0 {
		return record, nil
	}
	if len(record) <= at {
		return nil, errShape
	}
	to, err := swap(record[at])
	if err != nil {
		return nil, err
	}
	record = slices.Clone(record)
	record[at] = to
	if inKey {
		key, ok := record[1].(term.Tuple)
		if !ok || len(key) != 2 {
			return nil, errShape
		}
		record[1] = term.Tuple{key[0], to}
	}
	return record, nil
}

var errShape = errors.New("a record does not have the shape that it has in the versions of ejabberd that are known")

// canonical is what a snapshot has of a record.
func (n *nodes) canonical(t table, record term.Term) ([]byte, error) {
	tuple, ok := record.(term.Tuple)
	if !ok || len(tuple) != len(t.attributes)+1 || tuple[0] != term.Atom(t.name) {
		return nil, fmt.Errorf("table %s: %w", t.name, errShape)
	}
	switch t.name {
	case "pubsub_node":
		n.add(tuple[1], tuple[2])
		tuple = slices.Clone(tuple)
		tuple[2] = unnumbered
	case "muc_room":
		tuple = room(tuple)
	default:
		var err error
		tuple, err = exchange(t.name, tuple, func(number term.Term) (term.Term, error) {
			key, known := n.keys[term.Text(number)]
			if !known {
				return nil, errShape
			}
			return key, nil
		})
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return append(term.Append(nil, tuple), '.', '\n'), nil
}

// room brings the options of a room in order, where the server keeps sets as lists, and leaves out when it was put to
// sleep.
func room(record term.Tuple) term.Tuple {
	options, ok := record[2].(term.List)
	if !ok {
		return record
	}
	options = slices.Clone(options)
	for i, o := range options {
		pair, ok := o.(term.Tuple)
		if !ok || len(pair) != 2 {
			continue
		}
		switch pair[0] {
		case term.Atom("affiliations"), term.Atom("roles"), term.Atom("subscribers"), term.Atom("hats_users"), term.Atom("captcha_whitelist"):
			if set, ok := pair[1].(term.List); ok {
				options[i] = term.Tuple{pair[0], sorted(set)}
			}
		case term.Atom("hibernation_time"):
			options[i] = term.Tuple{pair[0], term.Atom("undefined")}
		}
	}
	record = slices.Clone(record)
	record[2] = options
	return record
}

func sorted(set term.List) term.List {
	set = slices.Clone(set)
	slices.SortFunc(set, func(a, b term.Term) int { return strings.Compare(term.Text(a), term.Text(b)) })
	return set
}

// renamed is a term with the names of one virtual host and its services in the place of another's: names that stand alone, and
// addresses with them. Text that people wrote (the character data of XML) stays.
func renamed(t term.Term, from, to string) term.Term {
	switch t := t.(type) {
	case term.Binary:
		return term.Binary(readdress(string(t), from, to))
	case term.List:
		all := make(term.List, len(t))
		for i, e := range t {
			all[i] = renamed(e, from, to)
		}
		return all
	case term.Tuple:
		if len(t) == 2 && t[0] == term.Atom("xmlcdata") {
			return t
		}
		all := make(term.Tuple, len(t))
		for i, e := range t {
			all[i] = renamed(e, from, to)
		}
		return all
	case term.Map:
		all := make(term.Map, len(t))
		for i, p := range t {
			all[i] = term.Pair{Key: renamed(p.Key, from, to), Value: renamed(p.Value, from, to)}
		}
		return all
	}
	return t
}

// readdress is [LOCAL@]DOMAIN[/RESOURCE] with another domain, if the domain is from or below it.
func readdress(s, from, to string) string {
	address, resource := s, ""
	if i := strings.IndexByte(s, '/'); i >= 0 {
		address, resource = s[:i], s[i:]
	}
	local, domain := "", address
	if i := strings.IndexByte(address, '@'); i >= 0 {
		local, domain = address[:i+1], address[i+1:]
	}
	if !belongs(domain, from) || strings.ContainsAny(domain, " \n\t@") {
		return s
	}
	return local + strings.TrimSuffix(domain, from) + to + resource
}

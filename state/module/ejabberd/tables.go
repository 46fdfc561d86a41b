package ejabberd

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

// place says where a record has the name of what it belongs to: which of its attributes, from 1, and which elements of
// that tuple lead to it, from 1; none for the attribute itself. Size is that of the tuple.
type place struct{ attribute, size, element int }

// known are the tables of ejabberd that hold state of virtual hosts or of their services. Those of pubsub hang on nodes.
func known() map[string][]place {
	user := []place{{1, 2, 2}, {1, 3, 2}} // {User, Host}; newer versions have {User, Host, Kind} for passwords
	return map[string][]place{
		"archive_msg": user, "archive_prefs": user, "last_activity": user, "motd_users": user, "offline_msg": user, "passwd": user,
		"privacy": user, "push_session": user, "roster_version": user, "vcard": user, "vcard_search": user, "sr_user": user,
		"roster": {{1, 3, 2}}, "private_storage": {{1, 3, 2}}, "oauth_token": {{2, 2, 2}}, "motd": {{1, 0, 0}},
		"mqtt_pub": {{1, 2, 2}}, "muc_registered": {{1, 2, 2}}, "muc_room": {{1, 2, 2}}, "sr_group": {{1, 2, 2}},
		"mix_channel": {{1, 2, 2}}, "mix_pam": {{2, 2, 2}}, "mix_participant": {{2, 2, 2}}, "mix_subscription": {{4, 2, 2}},
		"pubsub_node": nil, "pubsub_state": nil, "pubsub_item": nil, "pubsub_orphan": nil,
	}
}

// shared are tables that hold nothing of a virtual host, or only what is made anew.
func shared() []string { return []string{"schema", "caps_features", "oauth_client", "pubsub_index"} }

// table is one of Mnesia's.
type table struct {
	name       string
	storage    term.Atom
	kind       term.Atom // set, ordered_set or bag
	attributes term.List
	size       int64 // records
	bytes      int64
}

func (t table) bag() bool { return t.kind == "bag" }

// heading is the line before the table's records in a snapshot.
func (t table) heading() []byte {
	kind := t.kind
	if kind == "ordered_set" {
		kind = "set"
	}
	return append(term.Append(nil, term.Tuple{term.Atom("table"), term.Atom(t.name), kind, t.attributes}), '.', '\n')
}

// pattern is a match specification for records of the table that belong to any of the hosts.
func (t table) pattern(places []place, hosts []string) term.List {
	var all term.List
	for _, p := range places {
		for _, h := range hosts {
			var part term.Term = term.Binary(h)
			if p.size > 0 {
				part = hole(p.size, p.element, part)
			}
			record := hole(len(t.attributes)+1, p.attribute+1, part)
			record[0] = term.Atom(t.name)
			all = append(all, clause(record))
		}
	}
	return all
}

// clause asks for whole records.
func clause(record term.Tuple) term.Tuple {
	return term.Tuple{record, term.List{}, term.List{term.Atom("$_")}}
}

// hole is a tuple that matches everything but in one place.
func hole(size, element int, part term.Term) term.Tuple {
	t := make(term.Tuple, size)
	for i := range t {
		t[i] = term.Atom("_")
	}
	t[element-1] = part
	return t
}

// owner finds whom a record belongs to.
func owner(record term.Tuple, places []place) (string, bool) {
	for _, p := range places {
		if p.attribute >= len(record) {
			continue
		}
		part := record[p.attribute]
		if p.size > 0 {
			tuple, ok := part.(term.Tuple)
			if !ok || len(tuple) != p.size {
				continue
			}
			part = tuple[p.element-1]
		}
		if h, ok := part.(term.Binary); ok {
			return string(h), true
		}
	}
	return "", false
}

// tables lists the server's, by name.
func (x *session) tables() (map[string]table, error) {
	t, err := x.ask(term.Atom("tables"))
	if err != nil {
		return nil, err
	}
	all := map[string]table{}
	rows, _ := t.(term.List)
	for _, row := range rows {
		var one table
		fields, ok := row.(term.Tuple)
		if !ok || len(fields) != 7 {
			return nil, fmt.Errorf("an answer is of an unknown kind: %.200s", term.Text(row))
		}
		name, _ := fields[0].(term.Atom)
		one.name = string(name)
		one.storage, _ = fields[1].(term.Atom)
		one.kind, _ = fields[2].(term.Atom)
		one.attributes, _ = fields[3].(term.List)
		one.size, _ = fields[4].(int64)
		one.bytes, _ = fields[5].(int64)
		if word, _ := fields[6].(int64); one.storage != "disc_only_copies" {
			one.bytes *= word
		}
		all[one.name] = one
	}
	return all, nil
}

// strangers are tables on disk that nothing is known of.
func (h *host) strangers() []table {
	var all []table
	for _, t := range h.all {
		_, is := known()[t.name]
		if !is && t.storage != "ram_copies" && !slices.Contains(shared(), t.name) && !slices.Contains(h.server.IgnoreTables, t.name) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b table) int { return cmp.Compare(a.name, b.name) })
	return all
}

// refuseStrangers fails where a table that nothing is known of has records whose key holds the virtual host: a snapshot
// would not be complete.
func (h *host) refuseStrangers() error {
	for _, t := range h.strangers() {
		if t.size == 0 {
			continue
		}
		places := []place{{1, 0, 0}}
		for size := 2; size <= 4; size++ {
			for element := 1; element <= size; element++ {
				places = append(places, place{1, size, element})
			}
		}
		found := t.name == "pubsub_subscription"
		err := h.x.choose(t.name, t.pattern(places, h.hosts), func(term.Term) error { found = true; return errEnough })
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("table %s may hold state of the virtual host, and it is %w know how (name it in ignoreTables to leave it out)", t.name, state.ErrNotAble)
		}
	}
	return nil
}

// own are the names of the known tables that the server has, sorted.
func (h *host) own() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(known())) {
		if _, there := h.all[name]; there {
			all = append(all, name)
		}
	}
	return all
}

// belongs says whether a service is the virtual host's by its name.
func belongs(service, host string) bool {
	return service == host || strings.HasSuffix(service, "."+host)
}

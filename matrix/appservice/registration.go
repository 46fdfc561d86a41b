package appservice

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// ErrRegistration says that a registration cannot be used.
var ErrRegistration = errors.New("cannot use the application service's registration")

// Registration is what an application service says of itself (clause application service API, registration). Fields that are not known are left alone: services
// write further ones.
type Registration struct {
	ID          string
	URL         string // "": nothing is sent to it
	Token       string // as_token, by which the service is known to the server
	ServerToken string // hs_token, by which the server is known to the service
	Sender      string // the localpart of the service's own user

	Users, Rooms, Aliases []Namespace

	RateLimited bool // its users, as others are
	Protocols   []string
	Ephemeral   bool // it hears of typing, receipts and presence
	Proposed    bool // by the name that these had while they were proposed (MSC2409)
	Encryption  bool // it hears of messages to its users' devices, and of keys (MSC3202, MSC4203)

	File string // that it was read from
}

// Namespace is a set of ids.
type Namespace struct {
	Regex     string
	Exclusive bool // nobody else makes or removes what is in it

	compiled *regexp.Regexp
}

// contains says whether an id is in the namespace: its beginning has to match, as other servers have it.
func (n *Namespace) contains(id string) bool { return n.compiled.MatchString(id) }

// reader reads fields of a registration, and keeps what is wrong with them.
type reader struct {
	file string
	errs []error
}

func (r *reader) wrong(field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%w: %s: %s: %s", ErrRegistration, r.file, field, fmt.Sprintf(format, args...)))
}

// fields are those of a mapping; nil if it is none.
func (r *reader) fields(field string, n *yaml.Node) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		r.wrong(cmp.Or(field, "it"), "it is no mapping of names to values")
		return nil
	}
	all := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if all[name] != nil {
			r.wrong(join(field, name), "it is there twice")
		}
		all[name] = n.Content[i+1]
	}
	return all
}

func join(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// text is a string that must be there, and not be empty.
func (r *reader) text(in map[string]*yaml.Node, name string) (s string) {
	n := in[name]
	switch {
	case n == nil:
		r.wrong(name, "it is missing")
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Value == "":
		r.wrong(name, "it is not a text")
	default:
		s = n.Value // of a number or a date, too, as it is written
	}
	return s
}

// truth is true or false; what it is if it is not there.
func (r *reader) truth(in map[string]*yaml.Node, field, name string, usual bool) bool {
	n := in[name]
	if n == nil || n.Tag == "!!null" {
		return usual
	}
	var v bool
	if err := n.Decode(&v); err != nil {
		r.wrong(join(field, name), "it is neither true nor false")
	}
	return v
}

// list is the elements of a list that may be missing.
func (r *reader) list(in map[string]*yaml.Node, field, name string) []*yaml.Node {
	n := in[name]
	if n == nil || n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.wrong(join(field, name), "it is no list")
		return nil
	}
	return n.Content
}

// Read reads a registration of a file. The error names the file, and each field that is wrong.
func Read(file string, text []byte) (*Registration, error) {
	r := &reader{file: file}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrRegistration, file, err)
	}
	if len(doc.Content) == 0 {
		return nil, fmt.Errorf("%w: %s: it is empty", ErrRegistration, file)
	}
	in := r.fields("", doc.Content[0])
	if in == nil {
		return nil, errors.Join(r.errs...)
	}
	s := &Registration{
		ID: r.text(in, "id"), Token: r.text(in, "as_token"), ServerToken: r.text(in, "hs_token"), Sender: r.text(in, "sender_localpart"), URL: r.url(in),
		RateLimited: r.truth(in, "", "rate_limited", true), Encryption: r.truth(in, "", "org.matrix.msc3202", false), File: file,
	}
	stable := r.truth(in, "", "receive_ephemeral", false)
	older := r.truth(in, "", "push_ephemeral", false)
	oldest := r.truth(in, "", "de.sorunome.msc2409.push_ephemeral", false)
	s.Ephemeral, s.Proposed = stable || older || oldest, !stable && !older && oldest
	for i, n := range r.list(in, "", "protocols") {
		if n.Kind != yaml.ScalarNode || n.Value == "" {
			r.wrong(fmt.Sprintf("protocols[%d]", i), "it is not a text")
		}
		s.Protocols = append(s.Protocols, n.Value)
	}
	r.namespaces(in, s)
	return s, errors.Join(r.errs...)
}

// url is where the service is; "" for null, and for the word by which some services say that they connect by themselves.
func (r *reader) url(in map[string]*yaml.Node) string {
	n := in["url"]
	switch {
	case n == nil:
		r.wrong("url", "it is missing (null if nothing is to be sent)")
		return ""
	case n.Kind != yaml.ScalarNode:
		r.wrong("url", "it is not a text")
		return ""
	case n.Tag == "!!null" || n.Value == "" || n.Value == "websocket":
		return ""
	}
	u, err := url.Parse(n.Value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		r.wrong("url", "%q is not http://HOST or https://HOST", n.Value)
	}
	return strings.TrimSuffix(n.Value, "/")
}

func (r *reader) namespaces(in map[string]*yaml.Node, s *Registration) {
	n := in["namespaces"]
	if n == nil {
		r.wrong("namespaces", "it is missing")
		return
	}
	all := r.fields("namespaces", n)
	for name, to := range map[string]*[]Namespace{"users": &s.Users, "rooms": &s.Rooms, "aliases": &s.Aliases} {
		for i, one := range r.list(all, "namespaces", name) {
			field := fmt.Sprintf("namespaces.%s[%d]", name, i)
			if of := r.fields(field, one); of != nil {
				*to = append(*to, r.namespace(of, field))
			}
		}
	}
}

func (r *reader) namespace(of map[string]*yaml.Node, field string) Namespace {
	n := Namespace{Exclusive: r.truth(of, field, "exclusive", false)}
	x := of["regex"]
	if x == nil || x.Kind != yaml.ScalarNode || x.Tag == "!!null" || x.Value == "" {
		r.wrong(join(field, "regex"), "it is not a text")
		return n
	}
	var err error
	n.Regex = x.Value
	if n.compiled, err = regexp.Compile("^(?:" + n.Regex + ")"); err != nil {
		r.wrong(join(field, "regex"), "%v", err)
	}
	return n
}

// anyOf says whether an id is in one of some namespaces, and whether that is an exclusive one.
func anyOf(all []Namespace, id string) (in, exclusive bool) {
	i := slices.IndexFunc(all, func(n Namespace) bool { return n.contains(id) })
	if i < 0 {
		return false, false
	}
	return true, slices.ContainsFunc(all[i:], func(n Namespace) bool { return n.Exclusive && n.contains(id) })
}

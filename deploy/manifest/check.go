package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"

	"orrery/deploy"
	"orrery/state"
)

// checker finds what a schema cannot say: names that must exist elsewhere,
// cycles, files. It reads whatever has the right shape, so that one mistake does not hide another.
type checker struct {
	*document
	directory string
	owners    map[string]string // component name -> where it was first defined
	hashes    map[string]string // by absolute path
	artifacts map[string]string // by hash
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *checker) check() deploy.Manifest {
	c.hashes, c.artifacts = map[string]string{}, map[string]string{}
	m := deploy.Manifest{Name: c.text("name"), Artifacts: c.artifacts, Distribution: map[string]string{}}
	if m.Name != "" && !dnsLabel.MatchString(m.Name) {
		c.add([]string{"name"}, fmt.Sprintf("bad name %q", m.Name), "lower-case letters, digits and '-', at most 63")
	}
	m.Nodes = c.names("node", "nodes")
	services := c.fields("services")
	for _, name := range services {
		m.Services = append(m.Services, c.service(name, services))
	}
	slices.SortFunc(m.Services, func(a, b deploy.Service) int { return strings.Compare(a.Name, b.Name) })
	c.distribution(&m, services)
	c.publics(m)
	c.cycles(m)
	return m
}

// names reads a list of names and reports bad and repeated ones.
func (c *checker) names(what string, path ...string) []string {
	var out []string
	for i := range c.length(path...) {
		at := append(slices.Clip(path), strconv.Itoa(i))
		name, ok := c.lookup(at...)
		if !ok {
			continue
		}
		switch {
		case slices.Contains(out, name):
			c.add(at, fmt.Sprintf("%s %q is listed twice", what, name), "remove one of them")
		case !dnsLabel.MatchString(name):
			c.add(at, fmt.Sprintf("bad name %q", name), "lower-case letters, digits and '-', at most 63")
		}
		out = append(out, name)
	}
	return out
}

func (c *checker) service(name string, services []string) deploy.Service {
	path := []string{"services", name}
	if !dnsLabel.MatchString(name) {
		c.add(path, fmt.Sprintf("bad name %q", name), "a service is a DNS label: lower-case letters, digits and '-', at most 63")
	}
	s := deploy.Service{Name: name, Endpoint: c.text("services", name, "endpoint")}
	for i := range c.length("services", name, "dependsOn") {
		at := []string{"services", name, "dependsOn", strconv.Itoa(i)}
		on, ok := c.lookup(at...)
		if !ok {
			continue
		}
		switch {
		case !slices.Contains(services, on):
			c.add(at, fmt.Sprintf("depends on unknown service %q", on), suggest(on, services))
		case slices.Contains(s.DependsOn, on):
			c.add(at, fmt.Sprintf("depends on %q twice", on), "remove one of them")
		}
		s.DependsOn = append(s.DependsOn, on)
	}
	for i := range c.length("services", name, "components") {
		s.Components = append(s.Components, c.component(s, i))
	}
	if len(s.Components) == 0 && !c.silent[pathOf(append(path, "components"))] {
		c.add(path, "service has no components", "give it at least one")
	}
	if s.Endpoint != "" && !slices.ContainsFunc(s.Components, func(o state.Component) bool { return o.Name == s.Endpoint }) {
		c.add(append(path, "endpoint"), fmt.Sprintf("endpoint %q is not a component of the service", s.Endpoint), suggest(s.Endpoint, componentNames(s)))
	}
	if c.value.LookupPath(cuePath(append(path, "public"))).Exists() {
		s.Public = &deploy.Public{Node: c.text("services", name, "public", "node"), Address: c.text("services", name, "public", "address")}
		if s.Endpoint == "" {
			c.add(append(path, "public"), "service is public but has no endpoint", "name the component that answers with endpoint")
		}
	}
	return s
}

func componentNames(s deploy.Service) []string {
	out := make([]string, len(s.Components))
	for i, o := range s.Components {
		out[i] = o.Name
	}
	return out
}

// component reads the i-th component of s, which holds the earlier ones.
func (c *checker) component(s deploy.Service, i int) state.Component {
	path := []string{"services", s.Name, "components", strconv.Itoa(i)}
	at := func(parts ...string) []string { return append(slices.Clip(path), parts...) }
	o := state.Component{Name: c.text(at("name")...), Module: c.text(at("module")...), Container: c.text(at("container")...)}
	if o.Container == "" {
		o.Container = o.Module
	}
	if first, ok := c.owners[o.Name]; ok && o.Name != "" {
		c.add(at("name"), fmt.Sprintf("second component named %q, the first is at %s", o.Name, first), "rename one of them")
	} else if o.Name != "" {
		p := c.place(at("name"))
		c.owners[o.Name] = fmt.Sprintf("line %d (%s)", p.Line, p.Path)
	}
	for field, name := range map[string]string{"name": o.Name, "module": o.Module, "container": o.Container} {
		if name == "" || field == "container" && name == o.Module {
			continue
		}
		if !state.ValidName(name) || strings.Contains(name, "@") {
			c.add(at(field), fmt.Sprintf("bad name %q", name), "lower-case letters, digits, '-', '_' and '.', at most 63")
		}
	}
	for _, name := range c.fields(at("files")...) {
		file, ok := c.lookup(at("files", name)...)
		if !ok {
			continue
		}
		if o.Files == nil {
			o.Files = map[string]string{}
		}
		o.Files[name] = c.hash(file, at("files", name))
	}
	if v := c.value.LookupPath(cuePath(at("properties"))); v.Exists() && v.IncompleteKind() == cue.StructKind {
		if encoded, err := v.MarshalJSON(); err == nil {
			_ = json.Unmarshal(encoded, &o.Properties) // CUE wrote it
		}
		c.references(s, o, at("properties"))
	}
	return o
}

func (c *checker) distribution(m *deploy.Manifest, services []string) {
	given := c.fields("distribution")
	for _, name := range given {
		at := []string{"distribution", name}
		if !slices.Contains(services, name) {
			c.add(at, fmt.Sprintf("unknown service %q", name), suggest(name, services))
			continue
		}
		node, ok := c.lookup(at...)
		if !ok {
			continue
		}
		m.Distribution[name] = node
		if !slices.Contains(m.Nodes, node) && !c.silent["nodes"] {
			c.add(at, fmt.Sprintf("unknown node %q", node), firstOf(suggest(node, m.Nodes), "add it to nodes"))
		}
	}
	if c.silent["distribution"] {
		return
	}
	for _, name := range services {
		if !slices.Contains(given, name) {
			c.add([]string{"services", name}, "no node is given for the service", fmt.Sprintf("add %s: NODE to distribution", name))
		}
	}
}

// publics checks the addresses that people use.
func (c *checker) publics(m deploy.Manifest) {
	taken := map[string]string{}
	for _, s := range m.Services {
		if s.Public == nil {
			continue
		}
		at := []string{"services", s.Name, "public"}
		if s.Public.Node != "" && !slices.Contains(m.Nodes, s.Public.Node) && !c.silent["nodes"] {
			c.add(append(at, "node"), fmt.Sprintf("unknown node %q", s.Public.Node), firstOf(suggest(s.Public.Node, m.Nodes), "add it to nodes"))
		}
		if s.Public.Address == "" {
			continue
		}
		_, port, err := net.SplitHostPort(s.Public.Address)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil {
			c.add(append(at, "address"), fmt.Sprintf("bad address %q", s.Public.Address), "write host:port; port 0 chooses a free one")
			continue
		} else if n == 0 {
			continue
		}
		key := s.Public.Node + " " + s.Public.Address
		if other, ok := taken[key]; ok {
			c.add(append(at, "address"), fmt.Sprintf("%s on node %q is already the address of service %q", s.Public.Address, s.Public.Node, other), "choose another port")
		} else {
			taken[key] = s.Name
		}
	}
}

// cycles names every cycle of dependencies once.
func (c *checker) cycles(m deploy.Manifest) {
	on := map[string][]string{}
	for _, s := range m.Services {
		on[s.Name] = s.DependsOn
	}
	const open, closed = 1, 2
	mark := map[string]int{}
	var visit func(name string, trail []string)
	visit = func(name string, trail []string) {
		if mark[name] == open {
			cycle := append(slices.Clone(trail[slices.Index(trail, name):]), name)
			from := cycle[len(cycle)-2]
			at := []string{"services", from, "dependsOn", strconv.Itoa(slices.Index(on[from], name))}
			c.add(at, "dependency cycle: "+strings.Join(cycle, " -> "), "remove one of these dependencies")
			return
		}
		if mark[name] == closed {
			return
		}
		mark[name] = open
		for _, next := range on[name] {
			visit(next, append(slices.Clip(trail), name))
		}
		mark[name] = closed
	}
	for _, name := range slices.Sorted(maps.Keys(on)) {
		visit(name, nil)
	}
}

// text is the string at path, or "".
func (c *checker) text(path ...string) string {
	s, _ := c.lookup(path...)
	return s
}

func (c *checker) lookup(path ...string) (string, bool) {
	if c.silent[pathOf(path)] {
		return "", false
	}
	s, err := c.value.LookupPath(cuePath(path)).String()
	return s, err == nil
}

func (c *checker) length(path ...string) int {
	v := c.value.LookupPath(cuePath(path))
	if v.IncompleteKind() != cue.ListKind {
		return 0
	}
	n, err := v.Len().Int64()
	if err != nil {
		return 0
	}
	return int(n)
}

// fields lists the names in a struct in the order in which they are written.
func (c *checker) fields(path ...string) []string {
	v := c.value.LookupPath(cuePath(path))
	if v.IncompleteKind() != cue.StructKind {
		return nil
	}
	items, err := v.Fields()
	if err != nil {
		return nil
	}
	var out []string
	for items.Next() {
		out = append(out, items.Selector().Unquoted())
	}
	return out
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// Check finds what is wrong with a manifest on this cluster, all at once, without changing anything: nodes
// that do not exist or are away, modules and properties that they do not know, names that other manifests use, public
// ports in use. It looks at whatever it can of a manifest that has other problems. Problems have a Path and no place in a file.
func (e *Engine) Check(ctx context.Context, m deploy.Manifest) deploy.Problems {
	c := &checking{Engine: e, m: m, described: map[string]description{}}
	c.byName, _ = e.members()
	c.nodes()
	for _, s := range m.Services {
		node, ok := c.node(m.Distribution[s.Name], "distribution."+s.Name)
		if ok {
			for i, component := range s.Components {
				c.component(ctx, s, i, component, node)
			}
		}
		c.public(ctx, s)
	}
	c.others(ctx)
	return c.problems
}

type checking struct {
	*Engine
	m         deploy.Manifest
	byName    map[string]fabric.Member
	described map[string]description // by node and module
	reported  []string               // nodes said to be away
	problems  deploy.Problems
}

type description struct {
	state.Description
	err error
}

func (c *checking) add(path, advice, format string, args ...any) {
	c.problems = append(c.problems, deploy.Problem{Path: path, Message: fmt.Sprintf(format, args...), Advice: advice})
}

func (c *checking) nodes() {
	for i, name := range c.m.Nodes {
		if m, ok := c.byName[name]; !ok || m.State == fabric.MemberLeft {
			c.add(fmt.Sprintf("nodes[%d]", i), "the cluster has "+c.known(), "node %q does not exist", name)
		}
	}
}

func (c *checking) known() string {
	var names []string
	for name, m := range c.byName {
		if m.State != fabric.MemberLeft {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "no nodes"
	}
	return strings.Join(names, ", ")
}

// node is a node that is to do something; false if it cannot, which is said once.
func (c *checking) node(name, path string) (fabric.NodeID, bool) {
	m, ok := c.byName[name]
	if !ok || m.State == fabric.MemberLeft {
		return "", false // nodes said so, or the reader of the manifest
	}
	if !usable(m) {
		if !slices.Contains(c.reported, name) {
			c.reported = append(c.reported, name)
			c.add(path, "start it, or place the service on another node", "node %q is %s", name, m.State)
		}
		return "", false
	}
	return m.ID, true
}

func (c *checking) description(ctx context.Context, node fabric.NodeID, module string) description {
	key := string(node) + " " + module
	d, ok := c.described[key]
	if !ok {
		d.Description, d.err = c.describe(ctx, node, module)
		c.described[key] = d
	}
	return d
}

func (c *checking) component(ctx context.Context, s deploy.Service, i int, o state.Component, node fabric.NodeID) {
	path := fmt.Sprintf("services.%s.components[%d]", s.Name, i)
	if o.Module == "" {
		return // the reader of the manifest said so
	}
	d := c.description(ctx, node, o.Module)
	switch {
	case errors.Is(d.err, state.ErrNotFound):
		c.add(path+".module", "orrery module list lists those it has", "node %q has no module %q", c.m.Distribution[s.Name], o.Module)
		return
	case d.err != nil:
		c.add(path+".module", "", "node %q does not tell about module %q: %v", c.m.Distribution[s.Name], o.Module, d.err)
		return
	}
	names := propertyNames(d.Properties)
	for name, value := range o.Properties {
		j := slices.Index(names, name)
		if j < 0 {
			c.add(path+".properties."+name, "it has "+strings.Join(names, ", "), "module %s has no property %q", o.Module, name)
		} else if want := wrongType(d.Properties[j].Type, value); want != "" {
			c.add(path+".properties."+name, "", "is not %s", want)
		}
	}
	for _, p := range d.Properties {
		if _, ok := o.Properties[p.Name]; p.Required && !ok {
			c.add(path, p.Doc, "module %s needs property %q", o.Module, p.Name)
		}
	}
	c.references(ctx, s, i, o.Properties, path+".properties", node)
}

func propertyNames(all []state.Property) []string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.Name
	}
	return names
}

// wrongType is what a value should be, or "".
func wrongType(kind string, value any) string {
	var ok bool
	switch kind {
	case "string", "secret":
		_, ok = value.(string)
		kind = "a string"
	case "bool":
		_, ok = value.(bool)
		kind = "true or false"
	case "int":
		switch value.(type) {
		case float64, int, int64:
			ok = true
		}
		kind = "a number"
	case "[]string":
		var list []any
		list, ok = value.([]any)
		ok = ok && !slices.ContainsFunc(list, func(v any) bool { _, s := v.(string); return !s })
		kind = "a list of strings"
	case "map[string]string":
		var fields map[string]any
		fields, ok = value.(map[string]any)
		for _, v := range fields {
			_, s := v.(string)
			ok = ok && s
		}
		kind = "a set of strings by name"
	default:
		return "" // the module says more when it is activated
	}
	if ok {
		return ""
	}
	return kind
}

var componentReference = regexp.MustCompile(`(?:^|[^$])\$\{component\.([^}]+)\.([^.}]+)\}`)

// references checks that what ${component.NAME.EXPORT} refers to is exported.
func (c *checking) references(ctx context.Context, s deploy.Service, i int, value any, path string, node fabric.NodeID) {
	switch value := value.(type) {
	case string:
		for _, m := range componentReference.FindAllStringSubmatch(value, -1) {
			j := slices.IndexFunc(s.Components[:i], func(o state.Component) bool { return o.Name == m[1] })
			if j < 0 {
				continue // the reader of the manifest said so
			}
			module := s.Components[j].Module
			d := c.description(ctx, node, module)
			if exports := propertyNames(d.Exports); d.err == nil && !slices.Contains(exports, m[2]) {
				c.add(path, "it exports "+strings.Join(exports, ", "), "${component.%s.%s} refers to something that module %s does not export", m[1], m[2], module)
			}
		}
	case []any:
		for n, v := range value {
			c.references(ctx, s, i, v, fmt.Sprintf("%s[%d]", path, n), node)
		}
	case state.Properties:
		c.references(ctx, s, i, map[string]any(value), path, node)
	case map[string]any:
		for name, v := range value {
			c.references(ctx, s, i, v, path+"."+name, node)
		}
	}
}

func (c *checking) public(ctx context.Context, s deploy.Service) {
	if s.Public == nil || s.Public.Address == "" {
		return
	}
	path := "services." + s.Name + ".public"
	node, ok := c.node(s.Public.Node, path+".node")
	if !ok {
		return
	}
	_, err := c.whileAlive(ctx, []fabric.NodeID{node}, func(ctx context.Context) (int64, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return 0, c.Machines.CheckAddress(ctx, node, s.Public.Address, s.Name)
	})
	switch {
	case err == nil:
	case errors.Is(err, state.ErrInUse):
		if c.givenUp(ctx, s) {
			return
		}
		c.add(path+".address", "stop what listens there, or choose another port; port 0 chooses a free one", "address %s is in use on node %q", s.Public.Address, s.Public.Node)
	default:
		c.add(path+".address", "", "node %q cannot listen on %s: %v", s.Public.Node, s.Public.Address, err)
	}
}

// givenUp says whether another service of the manifest has s's public address now and will not keep it.
func (c *checking) givenUp(ctx context.Context, s deploy.Service) bool {
	now, err := c.placements(ctx, c.m.Name)
	return err == nil && slices.ContainsFunc(now, func(p placed) bool {
		return p.Service.Public != nil && *p.Service.Public == *s.Public
	})
}

// otherService finds components that now belong to another service: two steps would work on one component.
func (c *checking) otherService(s deploy.Service, p placed) {
	if s.Name == p.Service.Name {
		return
	}
	for i, o := range s.Components {
		if slices.ContainsFunc(p.Service.Components, func(other state.Component) bool { return other.Ref() == o.Ref() }) {
			c.add(fmt.Sprintf("services.%s.components[%d].name", s.Name, i), "rename it, or first apply a manifest without it",
				"the component belongs to service %s now", p.Service.Name)
		}
	}
}

// others finds names that another manifest has taken: the routers know services by name, and keepers components.
func (c *checking) others(ctx context.Context) {
	all, err := c.placements(ctx, "")
	if err != nil {
		c.add("", "", "%v", err)
		return
	}
	for _, s := range c.m.Services {
		for _, p := range all {
			if p.Manifest == c.m.Name {
				c.otherService(s, p)
				continue
			}
			if p.Service.Name == s.Name {
				c.add("services."+s.Name, "rename it", "manifest %s has a service of that name", p.Manifest)
			}
			for i, o := range s.Components {
				if slices.ContainsFunc(p.Service.Components, func(other state.Component) bool { return other.Ref() == o.Ref() }) {
					c.add(fmt.Sprintf("services.%s.components[%d].name", s.Name, i), "rename it",
						"manifest %s has a component of that name in its service %s", p.Manifest, p.Service.Name)
				}
			}
		}
	}
}

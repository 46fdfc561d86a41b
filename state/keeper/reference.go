package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orrery/state"
)

// Where a reference of a property points.
const (
	prefixSelf      = "self."
	prefixFile      = "file."
	prefixComponent = "component."
	prefixService   = "service."
)

// expand replaces the references in a string by what lookup says of them.
func expand(s string, lookup func(ref string) (string, error)) (string, error) {
	var out strings.Builder
	for {
		at := strings.Index(s, "${")
		if at < 0 {
			out.WriteString(s)
			return out.String(), nil
		}
		if at > 0 && s[at-1] == '$' { // $${ stands for ${
			out.WriteString(s[:at-1] + "${")
			s = s[at+2:]
			continue
		}
		length := strings.IndexByte(s[at:], '}')
		if length < 0 {
			return "", fmt.Errorf("%w: reference in %q has no closing brace", state.ErrBadProperty, s)
		}
		ref := s[at+2 : at+length]
		value, err := lookup(ref)
		if err != nil {
			return "", fmt.Errorf("reference ${%s}: %w", ref, err)
		}
		out.WriteString(s[:at] + value)
		s = s[at+length+1:]
	}
}

// expandValue replaces the references in all strings of a JSON value.
func expandValue(value any, lookup func(ref string) (string, error)) (any, error) {
	var err error
	switch v := value.(type) {
	case string:
		return expand(v, lookup)
	case []any:
		v = slices.Clone(v)
		for i := range v {
			if v[i], err = expandValue(v[i], lookup); err != nil {
				return nil, err
			}
		}
		return v, nil
	case []string:
		v = slices.Clone(v)
		for i := range v {
			if v[i], err = expand(v[i], lookup); err != nil {
				return nil, err
			}
		}
		return v, nil
	case map[string]any:
		return expandMap(v, lookup)
	case map[string]string:
		out := make(map[string]string, len(v))
		for key, s := range v {
			if out[key], err = expand(s, lookup); err != nil {
				return nil, fmt.Errorf("%s: %w", key, err)
			}
		}
		return out, nil
	}
	return value, nil
}

func expandMap(m map[string]any, lookup func(ref string) (string, error)) (map[string]any, error) {
	out := make(map[string]any, len(m))
	for key, value := range m {
		expanded, err := expandValue(value, lookup)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out[key] = expanded
	}
	return out, nil
}

// resolve returns a component's properties with the references replaced.
func (k *Keeper) resolve(ctx context.Context, c state.Component) (state.Properties, error) {
	if c.Properties == nil {
		return nil, nil
	}
	p, err := expandMap(c.Properties, func(ref string) (string, error) { return k.lookup(ctx, c, ref) })
	if err != nil {
		return nil, fmt.Errorf("property %w", err)
	}
	return p, nil
}

// resolveKnown leaves the references as they are whose values are not known, for a component that is not active here yet.
func (k *Keeper) resolveKnown(ctx context.Context, c state.Component) (state.Properties, error) {
	if c.Properties == nil {
		return nil, nil
	}
	return expandMap(c.Properties, func(ref string) (string, error) {
		value, err := k.lookup(ctx, c, ref)
		if err != nil {
			return "${" + ref + "}", ctx.Err()
		}
		return value, nil
	})
}

func (k *Keeper) lookup(ctx context.Context, c state.Component, ref string) (string, error) {
	switch {
	case strings.HasPrefix(ref, prefixSelf):
		return "${" + ref + "}", nil
	case strings.HasPrefix(ref, prefixFile):
		sum, ok := c.Files[strings.TrimPrefix(ref, prefixFile)]
		if !ok {
			return "", fmt.Errorf("%w: the component has no such file", state.ErrBadProperty)
		}
		return k.artifact(sum)
	case strings.HasPrefix(ref, prefixComponent):
		return k.export(c, strings.TrimPrefix(ref, prefixComponent))
	case strings.HasPrefix(ref, prefixService) && k.config.Resolve != nil:
		return k.config.Resolve(ctx, c, ref)
	}
	return "", fmt.Errorf("%w: nothing is known by that name (file., component., service. and self. are)", state.ErrBadProperty)
}

// export returns what NAME.EXPORT says.
func (k *Keeper) export(c state.Component, ref string) (string, error) {
	dot := strings.LastIndexByte(ref, '.')
	if dot < 0 {
		return "", fmt.Errorf("%w: it should be component.NAME.EXPORT", state.ErrBadProperty)
	}
	all, err := k.records()
	if err != nil {
		return "", err
	}
	rec, err := find(all, c, ref[:dot])
	if err != nil {
		return "", err
	}
	exports, err := k.exports(rec)
	if err != nil {
		return "", err
	}
	value, ok := exports[ref[dot+1:]]
	if !ok {
		return "", fmt.Errorf("%w: %s (%s) exports no %q", state.ErrNotFound, rec.ref(), rec.Phase, ref[dot+1:])
	}
	return value, nil
}

func (k *Keeper) exports(rec record) (map[string]string, error) {
	m, t, err := k.reach(rec)
	if err != nil {
		return nil, err
	}
	e, ok := m.(state.Exporter)
	if !ok {
		return nil, nil
	}
	return e.Exports(t)
}

// find returns the component that c means by name: a copy of its session before the production one.
func find(all []record, c state.Component, name string) (record, error) {
	names := []string{name}
	if c.Session != "" {
		names = []string{name + "@" + c.Session, name}
	}
	for _, name := range names {
		var found []record
		for _, rec := range all {
			if rec.Component.Name == name && rec.Phase != state.PhaseStaged {
				found = append(found, rec)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return record{}, fmt.Errorf("%w: component %s is in containers %s and %s",
				state.ErrBadProperty, name, found[0].Component.Container, found[1].Component.Container)
		}
	}
	return record{}, fmt.Errorf("component %s on this machine: %w", name, state.ErrNotFound)
}

// needs returns the components that rec refers to, as far as they are in all.
func needs(all []record, rec record) []state.Ref {
	var refs []state.Ref
	// The lookup collects and replaces nothing, so that the result does not matter.
	_, err := expandMap(rec.Component.Properties, func(ref string) (string, error) {
		name, _ := strings.CutPrefix(ref, prefixComponent)
		if dot := strings.LastIndexByte(name, '.'); name != ref && dot > 0 {
			found, err := find(all, rec.Component, name[:dot])
			if err == nil && found.ref() != rec.ref() {
				refs = append(refs, found.ref())
			} else if err != nil && !errors.Is(err, state.ErrNotFound) {
				return "", err
			}
		}
		return "", nil
	})
	if err != nil {
		return nil // activation will say what is wrong with it
	}
	return refs
}

// inOrder sorts records so that each comes after those that it refers to.
func inOrder(all []record) []record {
	var ordered []record
	seen := map[state.Ref]bool{}
	var visit func(rec record)
	visit = func(rec record) {
		if seen[rec.ref()] {
			return
		}
		seen[rec.ref()] = true
		for _, need := range needs(all, rec) {
			for _, other := range all {
				if other.ref() == need {
					visit(other)
				}
			}
		}
		ordered = append(ordered, rec)
	}
	for _, rec := range all {
		visit(rec)
	}
	return ordered
}

// dependents returns the active components that refer to r, directly or not, each before those that it refers to.
func dependents(all []record, r state.Ref) []record {
	affected := map[state.Ref]bool{r: true}
	var found []record
	for _, rec := range inOrder(all) {
		if rec.ref() == r || rec.Phase != state.PhaseActive {
			continue
		}
		if slices.ContainsFunc(needs(all, rec), func(need state.Ref) bool { return affected[need] }) {
			affected[rec.ref()] = true
			found = append(found, rec)
		}
	}
	slices.Reverse(found)
	return found
}

package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	cueerrors "cuelang.org/go/cue/errors"

	"orrery/deploy"
	"orrery/state"
)

// CUE reports the first mistake of a struct and hides others behind it. So the schema
// is walked beside the value, and every part is judged by itself.

// walk compares v with schema and notes each difference.
func (d *document) walk(schema, v cue.Value, path []string) {
	if err := v.Err(); err != nil {
		d.broken(err, path)
		return
	}
	if chosen, ok := v.Default(); ok {
		v = chosen
	}
	want := schema.IncompleteKind()
	if v.IncompleteKind() != want && want != cue.TopKind {
		d.add(path, fmt.Sprintf("is %s, not %s", kindName(v.IncompleteKind()), kindName(want)), "")
		d.silent[pathOf(path)] = true
		return
	}
	switch want {
	case cue.StructKind:
		d.walkStruct(schema, v, path)
	case cue.ListKind:
		element := schema.LookupPath(cue.MakePath(cue.AnyIndex))
		i := 0
		for items, _ := v.List(); items.Next(); i++ {
			d.walk(element, items.Value(), append(slices.Clip(path), strconv.Itoa(i)))
		}
	default:
		if !v.IsConcrete() {
			d.add(path, "has no value", "give it one")
			d.silent[pathOf(path)] = true
		}
	}
}

func (d *document) walkStruct(schema, v cue.Value, path []string) {
	fields, required := fieldsOf(schema)
	pattern := schema.LookupPath(cue.MakePath(cue.AnyString))
	known := make([]string, 0, len(fields))
	for name := range fields {
		known = append(known, name)
	}
	present := map[string]bool{}
	items, err := v.Fields()
	if err != nil {
		d.broken(err, path)
		return
	}
	for items.Next() {
		name := items.Selector().Unquoted()
		present[name] = true
		at := append(slices.Clip(path), name)
		sub, ok := fields[name]
		switch {
		case ok:
			d.walk(sub, items.Value(), at)
		case len(fields) == 0 && pattern.Exists():
			d.walk(pattern, items.Value(), at)
		case len(fields) == 0:
			d.concrete(items.Value(), at)
		default:
			d.add(at, "unknown field", suggest(name, known))
		}
	}
	for _, name := range required {
		if !present[name] {
			d.add(path, fmt.Sprintf("field %q is missing", name), "")
			d.silent[pathOf(append(slices.Clip(path), name))] = true
		}
	}
}

// concrete checks a value that the schema leaves open.
func (d *document) concrete(v cue.Value, path []string) {
	if err := v.Validate(cue.Concrete(true)); err != nil {
		d.broken(err, path)
	}
}

func (d *document) broken(err error, path []string) {
	d.silent[pathOf(path)] = true
	for _, e := range cueerrors.Errors(err) {
		d.add(path, cueMessage(e), "")
		last := &d.problems[len(d.problems)-1]
		if last.Line == 0 {
			for _, pos := range cueerrors.Positions(e) {
				if pos.IsValid() {
					last.File, last.Line, last.Column = d.file(pos), pos.Line(), pos.Column()
					break
				}
			}
		}
	}
}

// fieldsOf lists a schema's own fields; none for a struct that is open or a map.
func fieldsOf(schema cue.Value) (fields map[string]cue.Value, required []string) {
	fields = map[string]cue.Value{}
	items, err := schema.Fields(cue.Optional(true))
	if err != nil {
		return fields, nil
	}
	for items.Next() {
		s := items.Selector()
		if s.LabelType() != cue.StringLabel || s.ConstraintType()&cue.PatternConstraint == cue.PatternConstraint {
			continue
		}
		fields[s.Unquoted()] = items.Value()
		if s.ConstraintType() == cue.RequiredConstraint {
			required = append(required, s.Unquoted())
		}
	}
	return fields, required
}

func kindName(k cue.Kind) string {
	switch k {
	case cue.StructKind:
		return "a set of fields"
	case cue.ListKind:
		return "a list"
	case cue.StringKind:
		return "a string"
	case cue.IntKind, cue.FloatKind, cue.NumberKind:
		return "a number"
	case cue.BoolKind:
		return "true or false"
	case cue.NullKind:
		return "null"
	default:
		return "not known"
	}
}

// add notes a problem at a path of the manifest.
func (d *document) add(path []string, message, advice string) {
	p := d.place(path)
	p.Message, p.Advice = message, advice
	d.problems = append(d.problems, p)
}

// place says where a path stands, or the nearest written part around it.
func (d *document) place(path []string) deploy.Problem {
	p := deploy.Problem{File: d.path, Line: 1, Column: 1, Path: pathOf(path)}
	for n := len(path); n >= 0; n-- {
		pos, ok := d.positions[pathOf(path[:n])]
		if !ok {
			pos = d.value.LookupPath(cuePath(path[:n])).Pos()
		}
		if pos.IsValid() && pos.Line() > 0 {
			p.File, p.Line, p.Column = d.file(pos), pos.Line(), pos.Column()
			break
		}
	}
	return p
}

var plainLabel = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// pathOf writes a path as people read it: services.notes.components[1].module.
func pathOf(path []string) string {
	var b strings.Builder
	for _, part := range path {
		switch {
		case isIndex(part):
			b.WriteString("[" + part + "]")
		case plainLabel.MatchString(part) || state.ValidName(part):
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(part)
		default:
			b.WriteString("[" + strconv.Quote(part) + "]")
		}
	}
	return b.String()
}

// splitPath takes apart what pathOf, or the engine, wrote.
func splitPath(path string) []string {
	var parts []string
	for path != "" {
		end := strings.IndexAny(path, ".[")
		switch {
		case path[0] == '.':
			path = path[1:]
		case path[0] == '[':
			end = strings.IndexByte(path, ']')
			if end < 0 {
				return append(parts, path)
			}
			part := path[1:end]
			if plain, err := strconv.Unquote(part); err == nil {
				part = plain
			}
			parts, path = append(parts, part), path[end+1:]
		case end < 0:
			return append(parts, path)
		default:
			parts, path = append(parts, path[:end]), path[end:]
		}
	}
	return parts
}

func isIndex(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return err == nil
}

func cuePath(path []string) cue.Path {
	selectors := make([]cue.Selector, len(path))
	for i, part := range path {
		selectors[i] = cue.Str(part)
		if n, err := strconv.Atoi(part); err == nil && n >= 0 {
			selectors[i] = cue.Index(n)
		}
	}
	return cue.MakePath(selectors...)
}

// suggest is "did you mean X?" where a known name is near.
func suggest(name string, known []string) string {
	best, distance := "", min(len(name), 1+max(2, len(name)/3))
	for _, k := range known {
		if n := edits(name, k); n < distance || n == distance && best != "" && k < best {
			best, distance = k, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			previous, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, previous+cost)
		}
	}
	return row[len(b)]
}

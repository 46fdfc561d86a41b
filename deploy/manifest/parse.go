package manifest

import (
	"cmp"
	"context"
	stdjson "encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/token"
	"cuelang.org/go/encoding/json"
	"cuelang.org/go/encoding/yaml"
	"cuelang.org/go/mod/module"
	yaml3 "gopkg.in/yaml.v3"

	"orrery/deploy"
)

// document is a manifest as it was written: its value, and where each part stands.
type document struct {
	path      string
	value     cue.Value
	positions map[string]token.Pos // of labels and list elements that are written out, by path
	problems  deploy.Problems
	silent    map[string]bool // paths whose shape is wrong; the meaning is not looked at
}

func parse(ctx *cue.Context, path string, source []byte) (*document, deploy.Problems) {
	d := &document{path: path, positions: map[string]token.Pos{}, silent: map[string]bool{}}
	var file *ast.File
	var err error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".cue":
		d.value, file, err = loadCUE(ctx, path, source)
	case ".yaml", ".yml":
		file, err = extractYAML(path, source)
	case ".json":
		file, err = extractJSON(path, source)
	default:
		return nil, deploy.Problems{{
			File: path, Line: 1, Column: 1, Message: "unknown kind of file " + strconv.Quote(filepath.Ext(path)),
			Advice: "name it .cue, .yaml, .yml or .json",
		}}
	}
	if err != nil {
		return nil, d.syntax(err, source)
	}
	plain := strings.ToLower(filepath.Ext(path)) != ".cue"
	if plain {
		d.value = ctx.BuildFile(file)
	}
	d.index(file.Decls, nil, plain)
	if len(d.problems) == 0 && d.value.Err() != nil {
		d.evaluation(d.value.Err())
	}
	return d, d.problems
}

// extractYAML reads one YAML document.
func extractYAML(path string, source []byte) (*ast.File, error) {
	// CUE's reader keeps positions of values, but not of syntax errors.
	var n yaml3.Node
	if err := yaml3.Unmarshal(source, &n); err != nil {
		return nil, err
	}
	return yaml.Extract(path, source)
}

func extractJSON(path string, source []byte) (*ast.File, error) {
	var v any
	if err := stdjson.Unmarshal(source, &v); err != nil {
		return nil, err
	}
	e, err := json.Extract(path, source)
	if err != nil {
		return nil, err
	}
	if s, ok := e.(*ast.StructLit); ok {
		return &ast.File{Filename: path, Decls: s.Elts}, nil
	}
	return &ast.File{Filename: path, Decls: []ast.Decl{&ast.EmbedDecl{Expr: e}}}, nil
}

// loadCUE builds a CUE file together with the local packages that it imports.
func loadCUE(ctx *cue.Context, path string, source []byte) (cue.Value, *ast.File, error) {
	full, err := filepath.Abs(path)
	if err != nil {
		return cue.Value{}, nil, err
	}
	instances := load.Instances([]string{full}, &load.Config{
		Dir: filepath.Dir(full), Registry: noRegistry{}, Overlay: map[string]load.Source{full: load.FromBytes(source)},
	})
	if instances[0].Err != nil {
		return cue.Value{}, nil, instances[0].Err
	}
	if len(instances[0].Files) == 0 {
		return cue.Value{}, nil, errors.New("file is empty")
	}
	return ctx.BuildInstance(instances[0]), instances[0].Files[0], nil
}

var errNoNetwork = errors.New("manifests import local packages only; nothing is fetched from a registry")

// noRegistry keeps manifests off the network.
type noRegistry struct{}

func (noRegistry) Requirements(context.Context, module.Version) ([]module.Version, error) {
	return nil, errNoNetwork
}

func (noRegistry) Fetch(context.Context, module.Version) (module.SourceLoc, error) {
	return module.SourceLoc{}, errNoNetwork
}

func (noRegistry) ModuleVersions(context.Context, string) ([]string, error) {
	return nil, errNoNetwork
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntax turns the errors of a reader into problems.
func (d *document) syntax(err error, source []byte) deploy.Problems {
	if _, ok := errors.AsType[cueerrors.Error](err); ok {
		d.evaluation(err)
		return d.problems
	}
	if inJSON, ok := errors.AsType[*stdjson.SyntaxError](err); ok {
		before := string(source[:max(0, min(int(inJSON.Offset)-1, len(source)))])
		column := len(before) - strings.LastIndexByte(before, '\n')
		return append(d.problems, deploy.Problem{File: d.path, Line: 1 + strings.Count(before, "\n"), Column: column, Message: "syntax: " + err.Error()})
	}
	message, line := err.Error(), 1
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		message = strings.TrimPrefix(message, "yaml: ")
		if m[1] != "" {
			line, _ = strconv.Atoi(m[1])
			message = strings.TrimPrefix(message, "line "+m[1]+": ")
		}
	}
	d.problems = append(d.problems, deploy.Problem{File: d.path, Line: line, Column: indentation(source, line), Message: "syntax: " + message})
	return d.problems
}

// indentation is the column of the first character of a line.
func indentation(source []byte, line int) int {
	lines := strings.SplitN(string(source), "\n", line+1)
	if line > len(lines) {
		return 1
	}
	text := lines[line-1]
	return 1 + len(text) - len(strings.TrimLeft(text, " \t"))
}

// evaluation reports what CUE found wrong before anything was compared with the schema.
func (d *document) evaluation(err error) {
	for _, e := range cueerrors.Errors(err) {
		p := deploy.Problem{File: d.path, Line: 1, Column: 1, Path: pathOf(e.Path()), Message: cueMessage(e)}
		for _, pos := range cueerrors.Positions(e) {
			if pos.IsValid() {
				p.File, p.Line, p.Column = d.file(pos), pos.Line(), pos.Column()
				break
			}
		}
		d.problems = append(d.problems, p)
	}
}

func cueMessage(e cueerrors.Error) string {
	format, args := e.Msg()
	m := cueerrors.NewMessagef(format, args...)
	text := m.Error()
	if cause := errors.Unwrap(e); cause != nil && text != "" {
		return text + ": " + cause.Error()
	}
	return cmp.Or(text, e.Error())
}

// file is the name of the file at a position, as the caller named it.
func (d *document) file(pos token.Pos) string {
	name := pos.Filename()
	if name == "" {
		return d.path
	}
	if full, err := filepath.Abs(d.path); err == nil {
		if name == full {
			return d.path
		}
		if rel, err := filepath.Rel(filepath.Dir(full), name); err == nil && filepath.IsAbs(name) && !strings.HasPrefix(rel, "..") {
			return filepath.Join(filepath.Dir(d.path), rel)
		}
	}
	return name
}

// index notes where labels and list elements stand. In YAML and JSON (unique) a second field of
// one name is a mistake; in CUE it adds to the first.
func (d *document) index(decls []ast.Decl, path []string, unique bool) {
	seen := map[string]token.Pos{}
	for _, decl := range decls {
		switch decl := decl.(type) {
		case *ast.Field:
			name, _, err := ast.LabelName(decl.Label)
			if err != nil {
				continue
			}
			at := append(slices.Clip(path), name)
			if first, ok := seen[name]; ok && unique {
				d.problems = append(d.problems, deploy.Problem{
					File: d.path, Line: decl.Label.Pos().Line(), Column: decl.Label.Pos().Column(), Path: pathOf(at),
					Message: "defined twice, first at line " + strconv.Itoa(first.Line()), Advice: "rename or remove one of them",
				})
				continue
			}
			seen[name] = decl.Label.Pos()
			if _, ok := d.positions[pathOf(at)]; !ok {
				d.positions[pathOf(at)] = decl.Label.Pos()
			}
			d.indexValue(decl.Value, at, unique)
		case *ast.EmbedDecl:
			d.indexValue(decl.Expr, path, unique)
		}
	}
}

func (d *document) indexValue(e ast.Expr, path []string, unique bool) {
	switch e := e.(type) {
	case *ast.StructLit:
		d.index(e.Elts, path, unique)
	case *ast.ListLit:
		for i, element := range e.Elts {
			at := append(slices.Clip(path), strconv.Itoa(i))
			if _, ok := d.positions[pathOf(at)]; !ok {
				d.positions[pathOf(at)] = element.Pos()
			}
			d.indexValue(element, at, unique)
		}
	}
}

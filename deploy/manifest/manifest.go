// Package manifest reads manifests written in CUE, YAML or JSON.
//
// One CUE schema describes the language for all three. Load gives a deploy.Manifest whose files
// are hashed, or deploy.Problems: everything that can be found wrong without a cluster, at once, each
// with its place in the file. What needs a cluster (modules, nodes, ports) the engine checks.
//
// Reading CUE is memory-hungry, so that only the command line imports this package.
package manifest

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"orrery/deploy"
)

//go:embed schema.cue
var schemaSource []byte

// maxSize bounds a manifest file: a thousand services fit many times.
const maxSize = 4 << 20

// Load reads the manifest at path. The error is deploy.Problems unless the file itself cannot be read. With
// Problems comes as much of the manifest as could be understood, so that a cluster can say what else is wrong; it
// must not be applied. The zero Manifest comes with mistakes of syntax.
func Load(path string) (deploy.Manifest, error) {
	info, err := os.Stat(path)
	if err != nil {
		return deploy.Manifest{}, fmt.Errorf("cannot read manifest: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSize {
		return deploy.Manifest{}, fmt.Errorf("cannot read manifest %s: not a regular file of at most %d bytes", path, maxSize)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return deploy.Manifest{}, fmt.Errorf("cannot read manifest: %w", err)
	}
	return read(path, source)
}

// read decodes source as the file path; the files that it names are relative to path.
func read(path string, source []byte) (deploy.Manifest, error) {
	ctx := cuecontext.New()
	d, problems := parse(ctx, path, source)
	if len(problems) > 0 {
		return deploy.Manifest{}, problems
	}
	schema := ctx.CompileBytes(schemaSource, cue.Filename("schema.cue"))
	if schema.Err() != nil {
		return deploy.Manifest{}, fmt.Errorf("cannot compile the manifest schema: %w", schema.Err())
	}
	d.walk(schema.LookupPath(cue.ParsePath("#Manifest")), d.value, nil)
	c := &checker{document: d, directory: filepath.Dir(path), owners: map[string]string{}}
	m := c.check()
	if len(d.problems) > 0 {
		sortProblems(d.problems)
		return m, d.problems
	}
	return m, nil
}

// Locate fills in where in the file at path the Paths of problems stand that have no place yet,
// such as those that the engine's Check finds, and sorts them.
func Locate(path string, problems deploy.Problems) deploy.Problems {
	problems = slices.Clone(problems)
	source, err := os.ReadFile(path)
	if err != nil {
		return problems
	}
	d, _ := parse(cuecontext.New(), path, source)
	if d == nil {
		return problems
	}
	for i, p := range problems {
		if p.File == "" {
			at := d.place(splitPath(p.Path))
			problems[i].File, problems[i].Line, problems[i].Column = at.File, at.Line, at.Column
		}
	}
	sortProblems(problems)
	return problems
}

// sortProblems orders problems as one meets them reading the file.
func sortProblems(all deploy.Problems) {
	slices.SortStableFunc(all, func(a, b deploy.Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

// IsProblems says whether err lists what is wrong inside a manifest, and what.
func IsProblems(err error) (deploy.Problems, bool) {
	var all deploy.Problems
	ok := errors.As(err, &all)
	return all, ok
}

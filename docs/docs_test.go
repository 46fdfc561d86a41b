// Package docs keeps the documentation true: pages about modules are made from the modules' own
// descriptions, README's tour is run, and links lead somewhere.
package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

var update = flag.Bool("update", false, "write the pages about modules anew")

// orrery is the built program: ORRERY_BIN, or one that is built for the test.
func orrery(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("ORRERY_BIN"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "orrery")
	build(t, path, "../cmd/orrery")
	return path
}

func build(t *testing.T, into string, packages ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", into}, packages...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("cannot build %v: %v\n%s", packages, err, out)
	}
}

func TestModulePages(t *testing.T) {
	if *update {
		if err := os.MkdirAll("modules", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := orrery(t)
	cmd := exec.CommandContext(t.Context(), program, "module", "list", "-o", "json", "--dir", t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var modules []state.Description
	if err := json.Unmarshal(out, &modules); err != nil {
		t.Fatal(err)
	}
	pages := map[string]bool{}
	for _, d := range modules {
		path := filepath.Join("modules", d.Name+".md")
		pages[path] = true
		want := page(t, program, d.Name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, want) {
			t.Errorf("%s is stale (go test ./docs -update)", path)
		}
	}
	listed, err := os.ReadFile("state.md")
	if err != nil {
		t.Fatal(err)
	}
	for path := range pages {
		if !bytes.Contains(listed, []byte("("+filepath.ToSlash(path)+")")) {
			t.Errorf("state.md does not list %s", path)
		}
	}
	all, err := filepath.Glob("modules/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		if !pages[path] {
			t.Errorf("%s is about a module that does not exist", path)
		}
	}
}

// page is what people read about a module, as the program writes it.
func page(t *testing.T, program, module string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, "module", "describe", module, "-o", "markdown", "--dir", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var tour = regexp.MustCompile("(?s)<!-- tour:[^\n]*-->\n```sh\n(.*?)```\n")

// TestTour runs the block of README that newcomers paste, in a copy of what it touches.
func TestTour(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := tour.FindSubmatch(readme)
	if block == nil {
		t.Fatal("README.md has no block marked as the tour")
	}
	root := t.TempDir()
	for _, folder := range []string{"bin", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := filepath.Abs(orrery(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(root, "bin", "orrery")); err != nil {
		t.Fatal(err)
	}
	observatory := filepath.Join(root, "examples", "observatory")
	if err := os.CopyFS(observatory, os.DirFS("../examples/observatory")); err != nil {
		t.Fatal(err)
	}
	const programs = "../examples/observatory/"
	if err := os.RemoveAll(filepath.Join(observatory, "bin")); err != nil {
		t.Fatal(err)
	}
	build(t, filepath.Join(observatory, "bin")+"/", programs+"catalog", programs+"notes", programs+"sky")

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+string(block[1]))
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(root, "tmp"))
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the tour ends with %v:\n%s", err, out)
	}
	for _, want := range []string{"first light", "observatory: 3 steps done", "{\"count\":1}\n{\"count\":0}", "session blue is ended"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the tour does not print %q:\n%s", want, out)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks follows the links between the project's pages.
func TestLinks(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "var" || d.Name() == "bin" || path != ".." && strings.HasPrefix(d.Name(), ".")) {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			target, _, _ := strings.Cut(string(m[1]), "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", path, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

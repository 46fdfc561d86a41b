package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/internal/commandline"
	"orrery/state"
)

// hostile are names that are to be refused, or handled as what they are. NAME stands in the commands below for one of them.
var hostile = []string{
	"", " ", "-", "--", "-o", "--dir", "..", ".", "../up", "a/b/c", "/etc/passwd", "a b", "a'b", `a"b`, "a;b", "a`b`", "$(touch up)", "a\nb", "a\x00b", "a%sb",
	"A", "ä", "\xff\xfe", strings.Repeat("a", 255), strings.Repeat("a", 4096), "fileset/..", "fileset/../up", "fileset/", "/pages", "fileset/a b", "fileset/a\nb",
	"fileset/" + strings.Repeat("a", 255), "fileset/'; DROP TABLE t; --", "fileset/pages@", "fileset/pages@../up", "fileset/pages@a b", "@", "@../up", "../fileset/pages", "fileset/.", "..//..",
}

// named are the commands that take a name, once for each place of one.
var named = [][]string{
	{"component", "show", "NAME"},
	{"component", "health", "NAME"},
	{"component", "size", "NAME"},
	{"component", "check", "NAME"},
	{"component", "deactivate", "NAME"},
	{"component", "collect", "NAME"},
	{"component", "snapshot", "NAME"},
	{"component", "snapshot", "fileset/pages", "NAME"},
	{"component", "restore", "NAME"},
	{"component", "restore", "fileset/pages", "--snapshot=NAME"},
	{"component", "restore", "fileset/pages", "--as=NAME"},
	{"component", "restore", "fileset/pages", "--as=new", "--container=NAME"},
	{"component", "restore", "fileset/pages", "--part=NAME"},
	{"component", "restore", "--group=NAME"},
	{"component", "restore", "fileset/pages", "--tag=NAME"},
	{"component", "restore", "fileset/pages", "--before=NAME"},
	{"component", "undo", "NAME"},
	{"component", "test-restore", "NAME"},
	{"component", "fork", "NAME", "--as=new"},
	{"component", "fork", "fileset/pages", "--as=NAME"},
	{"component", "fork", "fileset/pages", "--as=new", "--at=NAME"},
	{"component", "fork", "fileset/pages", "--as=new", "--method=NAME"},
	{"component", "fork", "delete", "NAME"},
	{"component", "fork", "reset", "NAME"},
	{"component", "lock", "NAME"},
	{"component", "unlock", "NAME"},
	{"component", "migrate", "NAME"},
	{"component", "shell", "NAME", "--command=true"},
	{"component", "activate", "NAME", "--module=fileset"},
	{"component", "activate", "new", "--module=NAME"},
	{"component", "activate", "new", "--module=fileset", "--container=NAME"},
	{"component", "activate", "new", "--module=fileset", "--property=NAME=1"},
	{"component", "snapshot", "fileset/pages", "--tag=NAME"},
	{"snapshot", "list", "NAME"},
	{"snapshot", "list", "--tag=NAME"},
	{"snapshot", "list", "--group=NAME"},
	{"snapshot", "list", "--container=NAME"},
	{"snapshot", "show", "NAME"},
	{"snapshot", "show", "--group=NAME"},
	{"snapshot", "verify", "NAME"},
	{"snapshot", "prune", "NAME"},
	{"snapshot", "prune", "--keep-tag=NAME", "--dry-run"},
	{"snapshot", "forget", "NAME"},
	{"snapshot", "tag", "NAME", "x"},
	{"snapshot", "tag", "fileset/pages", "NAME"},
	{"snapshot", "pin", "NAME"},
	{"snapshot", "unpin", "NAME"},
	{"snapshot", "note", "NAME", "x"},
	{"snapshot", "resolve", "NAME"},
	{"snapshot", "missing", "NAME"},
	{"snapshot", "export", "NAME", "-"},
	{"snapshot", "copy", "NAME", "--to=disk"},
	{"snapshot", "import", "index", "--component=NAME"},
	{"snapshot", "import", "index", "--component=fileset/imported", "--module=NAME"},
	{"snapshot", "schedule", "add", "NAME", "fileset/pages", "--when=daily"},
	{"snapshot", "schedule", "add", "p", "NAME", "--when=daily"},
	{"snapshot", "schedule", "remove", "NAME"},
	{"module", "describe", "NAME"},
	{"store", "key", "remove", "NAME", "disk"},
}

// runHere runs a command line in this process.
func runHere(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot(strings.NewReader(""), &out, &errs)
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		return out.String(), err.Error(), exitCode(err)
	}
	return out.String(), errs.String(), 0
}

// namesFixture is a folder with a component that has a snapshot, in a folder of its own whose other files are known.
func namesFixture(t *testing.T) (dir string) {
	t.Helper()
	outside := t.TempDir()
	t.Chdir(outside)
	dir = filepath.Join(outside, "in", "dir")
	for _, args := range [][]string{
		{"component", "activate", "pages", "--module", "fileset"}, {"component", "snapshot", "fileset/pages"}, {"store", "init", "disk"},
	} {
		if _, errs, status := runHere(t, append([]string{"--dir", dir}, args...)...); status != 0 {
			t.Fatalf("%v: %s", args, errs)
		}
	}
	if err := os.WriteFile("index", []byte("index"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// escaped are the files outside the folders that commands may write.
func escaped(t *testing.T) (names []string) {
	t.Helper()
	for _, folder := range []string{".", "in"} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains([]string{"in", "dir", "disk", "index"}, e.Name()) {
				names = append(names, filepath.Join(folder, e.Name()))
			}
		}
	}
	return names
}

// tryName runs a command with a name and looks that nothing happened that the name has no right to.
func tryName(t *testing.T, dir string, command []string, name string) {
	t.Helper()
	args := []string{"--dir", dir}
	for _, arg := range command {
		args = append(args, strings.ReplaceAll(arg, "NAME", name))
	}
	_, errs, status := runHere(t, args...)
	if status == exitStuck || status == exitUndone || status == exitProblems || status == exitKey || status == commandline.Interrupted {
		t.Errorf("%q: status %d: %s", args, status, errs)
	}
	if len(errs) > 2000+3*len(name) {
		t.Errorf("%q: an error of %d bytes: %.300q", args, len(errs), errs)
	}
	if left := escaped(t); len(left) > 0 {
		t.Errorf("%q made %q", args, left)
	}
}

// Hostile names in every command that takes one are refused, or are names of nothing: never paths, options or parts of other commands.
func TestHostileNames(t *testing.T) {
	dir := namesFixture(t)
	const stride = 3 // a third of all pairs, another one each time
	for i, skip := 0, rand.IntN(stride); i < len(named)*len(hostile); i++ {
		if i%stride == skip {
			tryName(t, dir, named[i%len(named)], hostile[i/len(named)])
		}
	}
	out, errs, status := runHere(t, "--dir", dir, "snapshot", "verify", "--read-data")
	if status != 0 {
		t.Fatalf("%s%s", out, errs)
	}
	for _, what := range []string{"component", "snapshot"} {
		if out, errs, status := runHere(t, "--dir", dir, what, "list"); status != 0 || strings.Contains(out, "..") {
			t.Fatalf("%s%s", out, errs)
		}
	}
}

// FuzzNames does so with others.
func FuzzNames(f *testing.F) {
	for i, name := range hostile[:12] {
		f.Add(uint(i), name)
	}
	f.Fuzz(func(t *testing.T, which uint, name string) {
		if state.ValidName(name) || strings.Contains(name, "disk") {
			return // what it may name is its own business
		}
		dir := namesFixture(t)
		tryName(t, dir, named[which%uint(len(named))], name)
	})
}

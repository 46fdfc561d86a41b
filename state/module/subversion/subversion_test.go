package subversion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	testenv.Subversion(t)
	c := state.Component{Name: name, Module: Name, Container: "svn"}
	if _, session, ok := strings.Cut(name, "@"); ok {
		c.Session = session
	}
	return state.Target{Component: c, Container: state.Container{Name: "svn", Module: Name, Directory: t.TempDir()}, Directory: t.TempDir()}
}

func at(t *testing.T, target state.Target) string {
	t.Helper()
	r, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	return r.Path
}

// svn runs a program of Subversion as a client would.
func svn(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

// commit adds a file of that name with a content.
func commit(t *testing.T, target state.Target, name, content string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	url := "file://" + strings.ReplaceAll(at(t, target), "@", "%40")
	svn(t, "svn", "import", "-q", "-m", "message of "+name, "--with-revprop", "ticket=7", file, url+"/"+name)
}

var changes int

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	changes++
	commit(t, target, fmt.Sprintf("file %d of change %d", changes, n), strings.Repeat("content\n", n)+fmt.Sprint(changes))
}

func digest(t *testing.T, target state.Target) string {
	t.Helper()
	r := at(t, target)
	uuid := svn(t, "svnlook", "uuid", r)
	if svn(t, "svnlook", "youngest", r) == "0\n" {
		return "" // which UUID a new one has is nobody's state
	}
	url := "file://" + r + "@" // the last @ is what svn takes for the end of a path
	return uuid + svn(t, "svn", "log", "-v", url) + svn(t, "svn", "list", "-v", "-R", url)
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New(nil).Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func activate(t *testing.T, target state.Target) {
	t.Helper()
	if err := New(nil).Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(nil), NewTarget: newTarget, Change: change, Digest: digest,
		Bad: []state.Properties{{"path": "relative"}, {"path": "/"}, {"dump": "x"}, {"owner": "a\x00b"}, {"configuration": "maybe"}},
	})
}

// Dysnomia's defect 5: its snapshot was one revision, and its restore left a repository of one revision with another
// UUID, in which no working copy could go on.
func TestHistorySurvives(t *testing.T) {
	m, target := New(nil), newTarget(t, "history")
	activate(t, target)
	for n := range 3 {
		commit(t, target, fmt.Sprint("file", n), "x")
	}
	svn(t, "svnadmin", "setrevprop", "-r", "2", at(t, target), "svn:log", filepath.Join(at(t, target), "README.txt"))
	url := "file://" + at(t, target)
	working := filepath.Join(t.TempDir(), "working")
	svn(t, "svn", "checkout", "-q", url, working)
	before, content := digest(t, target), snapshot(t, target)
	commit(t, target, "later", "y")
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if digest(t, target) != before || !bytes.Equal(snapshot(t, target), content) {
		t.Error("the history is another one")
	}
	if err := os.WriteFile(filepath.Join(working, "file0"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	svn(t, "svn", "commit", "-q", "-m", "goes on", working)
	if got := strings.TrimSpace(svn(t, "svnlook", "youngest", at(t, target))); got != "4" {
		t.Errorf("revision %s after a commit from an old working copy", got)
	}
	longer := snapshot(t, target)
	end := []byte(endField + ": 3\n")
	if !bytes.HasPrefix(longer, bytes.TrimSuffix(content, end)) || !bytes.HasSuffix(content, end) {
		t.Error("the next snapshot does not begin with the one before")
	}
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

func TestConfiguration(t *testing.T) {
	m, target := New(nil), newTarget(t, "configured")
	activate(t, target)
	r := at(t, target)
	hook := filepath.Join(r, "hooks", "pre-commit")
	write(t, hook, "#!/bin/sh\nexit 1\n", 0o755)
	write(t, filepath.Join(r, "conf", "passwd"), "secret", 0o600)
	if err := os.Symlink("../../there", filepath.Join(r, "hooks", `odd "name"`)); err != nil {
		t.Fatal(err)
	}
	content := snapshot(t, target)
	other := newTarget(t, "elsewhere")
	if err := m.Restore(t.Context(), other, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	activate(t, other)
	if info, err := os.Stat(filepath.Join(at(t, other), "conf", "passwd")); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if link, err := os.Readlink(filepath.Join(at(t, other), "hooks", `odd "name"`)); err != nil || link != "../../there" {
		t.Errorf("%q, %v", link, err)
	}
	if !bytes.Equal(snapshot(t, other), content) {
		t.Error("the configuration differs elsewhere")
	}
	other.Component.Properties = state.Properties{"configuration": false}
	write(t, filepath.Join(at(t, other), "hooks", "start-commit"), "own", 0o755)
	if err := m.Restore(t.Context(), other, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if own, err := os.ReadFile(filepath.Join(at(t, other), "hooks", "start-commit")); err != nil || string(own) != "own" {
		t.Errorf("the place's own configuration: %q, %v", own, err)
	}
	if bytes.Contains(snapshot(t, other), []byte("secret")) {
		t.Error("the snapshot has the configuration")
	}
	for _, name := range []string{"../x", "conf/../../x", "/conf/x", "db/uuid", "conf/a\x00b", "hooks/x.tmpl"} {
		bad := magic + "configuration yes\nlink " + fmt.Sprintf("%q", name) + " \"x\"\nconfigured\n"
		if err := m.Restore(t.Context(), target, strings.NewReader(bad)); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestAbilities(t *testing.T) {
	m, target := New(nil), newTarget(t, "abilities")
	if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	activate(t, target)
	commit(t, target, "trunk", "x")
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Error(err)
	}
	if v, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(v, "Subversion 1.") {
		t.Errorf("%q, %v", v, err)
	}
	c, err := m.Shell(t.Context(), target, `svnlook youngest "$REPOSITORY"`)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	if out, err := cmd.Output(); err != nil || string(out) != "1\n" {
		t.Errorf("%q, %v", out, err)
	}
	content := snapshot(t, target)
	var keys []string
	err = m.Items(t.Context(), bytes.NewReader(content), func(i state.Item) error {
		keys = append(keys, i.Part+"/"+string(i.Key))
		return nil
	})
	if err != nil || strings.Join(keys, " ") != "revisions/0 revisions/1" {
		t.Errorf("%v, %v", keys, err)
	}
	portable(t, m, target, content)
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	activate(t, target)
	revisions, err := filepath.Glob(filepath.Join(at(t, target), "db", "revs", "0", "1"))
	if err != nil || len(revisions) != 1 {
		t.Fatal(revisions, err)
	}
	damaged := bytes.Repeat([]byte("damage"), 100)
	if err := errors.Join(os.Chmod(revisions[0], 0o600), os.WriteFile(revisions[0], damaged, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := m.Integrity(t.Context(), target); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	if err := m.Snapshot(t.Context(), target, io.Discard); err == nil {
		t.Error("a damaged repository has a snapshot")
	}
}

// portable loads what Export wrote with Subversion's own tool.
func portable(t *testing.T, m *Module, target state.Target, content []byte) {
	t.Helper()
	var plain, back bytes.Buffer
	if err := m.Export(t.Context(), bytes.NewReader(content), &plain); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(t.TempDir(), "dump")
	write(t, dump, plain.String(), 0o600)
	own := filepath.Join(t.TempDir(), "own")
	svn(t, "svnadmin", "create", own)
	svn(t, "svnadmin", "load", "-q", "-F", dump, own)
	if svn(t, "svnadmin", "dump", "-q", own) != svn(t, "svnadmin", "dump", "-q", at(t, target)) {
		t.Error("the loaded dump is another repository")
	}
	if err := m.Import(t.Context(), &plain, &back); err != nil {
		t.Fatal(err)
	}
	fresh := newTarget(t, "from-dump")
	fresh.Component.Properties = state.Properties{"dump": dump}
	activate(t, fresh)
	for range 2 {
		if svn(t, "svnadmin", "dump", "-q", own) != svn(t, "svnadmin", "dump", "-q", at(t, fresh)) {
			t.Error("the history that a repository begins with is another one")
		}
		if err := m.Restore(t.Context(), fresh, bytes.NewReader(back.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
	fresh = newTarget(t, "from-half")
	write(t, dump, "SVN-fs-dump-format-version: 2\n\nUUID: x\n", 0o600)
	fresh.Component.Properties = state.Properties{"dump": dump}
	if err := m.Activate(t.Context(), fresh); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	if left, err := os.ReadDir(fresh.Container.Directory); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestLock(t *testing.T) {
	m, target := New(nil), newTarget(t, "locked")
	if err := m.Lock(t.Context(), target); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	activate(t, target)
	for range 2 {
		if err := m.Lock(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t, target)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		commit(t, target, "waits", "x")
	}()
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("it changed while it was locked")
	}
	select {
	case <-committed:
		t.Error("a commit did not wait")
	default:
	}
	for range 2 {
		if err := m.Unlock(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	<-committed
	if bytes.Equal(snapshot(t, target), before) {
		t.Error("nothing was committed")
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root", "run the test as root")
	}
	m, target := New(nil), newTarget(t, "owned")
	for dir := target.Container.Directory; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	target.Component.Properties = state.Properties{"owner": "nobody", "group": "nogroup"}
	activate(t, target)
	r, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
		t.Fatal(err)
	}
	if owner, err := r.Belongs(r.Path); err != nil || owner.UID == 0 || !owner.Shared {
		t.Errorf("%+v, %v", owner, err)
	}
	p, err := r.program("svnadmin", r.Path, "verify", ".")
	if err != nil || p.Credential == nil || p.Run(t.Context()) != nil {
		t.Errorf("%+v, %v", p, err)
	}
	target.Component.Name, target.Component.Properties = "unowned", state.Properties{"owner": "no such account"}
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	m := New(nil)
	for _, name := range []string{"-r 0", "with 'quotes' \"and\" $(touch x)", "a@b@", "ünï\nline"} {
		target := newTarget(t, "names")
		target.Component.Properties = state.Properties{"path": filepath.Join(t.TempDir(), name)}
		activate(t, target)
		content := snapshot(t, target)
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil || !bytes.Equal(snapshot(t, target), content) {
			t.Errorf("%q: %v", name, err)
		}
		into := target
		into.Component = m.Beside(target.Component, "names@blue")
		if _, err := m.Fork(t.Context(), target, into); err != nil || at(t, into) == at(t, target) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestMissingProgram(t *testing.T) {
	target := newTarget(t, "missing")
	t.Setenv("PATH", t.TempDir())
	if err := New(nil).Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "apt-get install subversion") {
		t.Error(err)
	}
}

// FuzzReading feeds anything as a snapshot to what reads it.
func FuzzReading(f *testing.F) {
	const dump = "SVN-fs-dump-format-version: 2\n\nUUID: u\n\nRevision-number: 0\nProp-content-length: 10\nContent-length: 10\n\nPROPS-END\n\n"
	f.Add([]byte(magic + "configuration no\n" + dump + endField + ": 0\n"))
	f.Add([]byte(magic + "configuration yes\nfile 0604 1 \"conf/a\"\nxlink \"hooks/b\" \"c\"\nconfigured\n" + dump + endField + ": 0\n"))
	m := New(nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		var plain bytes.Buffer
		exported := m.Export(context.Background(), bytes.NewReader(b), &plain)
		items := m.Items(context.Background(), bytes.NewReader(b), func(state.Item) error { return nil })
		if (exported == nil) != (items == nil) {
			t.Errorf("%v, %v", exported, items)
		}
		if exported == nil && m.Import(context.Background(), &plain, io.Discard) != nil {
			t.Error("what was exported cannot be imported")
		}
	})
}

func TestInterrupted(t *testing.T) {
	target := newTarget(t, "interrupted")
	activate(t, target)
	change(t, target, 1)
	content := snapshot(t, target)
	change(t, target, 2)
	moduletest.Interrupted(t, New(nil), target, content, digest)
}

package fileset

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/state"
)

// tree activates a folder with these files.
func tree(t *testing.T, files map[string]string) (*Module, state.Target, string) {
	t.Helper()
	m, target := New(nil), newTarget(t, nil)
	check(t, m.Activate(t.Context(), target))
	folder, _, err := locate(target)
	check(t, err)
	for name, content := range files {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755))
		check(t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600))
	}
	return m, target, folder
}

func taken(t *testing.T, m *Module, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	check(t, m.Snapshot(t.Context(), target, &b))
	return b.Bytes()
}

func content(t *testing.T, names ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(names...))
	if err != nil {
		return ""
	}
	return string(b)
}

func TestRestorePart(t *testing.T) {
	m, target, folder := tree(t, map[string]string{"a/one": "1", "a/deep/two": "2", "b": "3", "ab": "4"})
	check(t, os.Link(filepath.Join(folder, "b"), filepath.Join(folder, "linked")))
	snapshot := taken(t, m, target)
	restore := func(part string) error { return m.RestorePart(t.Context(), target, bytes.NewReader(snapshot), part) }
	check(t, os.WriteFile(filepath.Join(folder, "a/one"), []byte("changed"), 0o600))
	check(t, os.WriteFile(filepath.Join(folder, "a/new"), []byte("new"), 0o600))
	check(t, os.WriteFile(filepath.Join(folder, "ab"), []byte("changed"), 0o600))
	check(t, os.RemoveAll(filepath.Join(folder, "b")))
	for range 2 {
		check(t, restore("a/"))
	}
	if content(t, folder, "a/one") != "1" || content(t, folder, "a/deep/two") != "2" || content(t, folder, "a/new") != "" || content(t, folder, "ab") != "changed" {
		t.Error("the folder is not as it was, or more than it changed")
	}
	check(t, restore("b"))
	check(t, os.RemoveAll(filepath.Join(folder, "a")))
	check(t, restore("a/deep/two"))
	if content(t, folder, "b") != "3" || content(t, folder, "a/deep/two") != "2" {
		t.Error("files were not restored")
	}
	if err := restore("linked"); !errors.Is(err, state.ErrNotAble) {
		t.Errorf("a hard link to what is not in the part: %v", err)
	}
	for _, bad := range []string{"..", ".", "/etc", "../x", ""} {
		if err := restore(bad); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := restore("nothing"); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	// A folder that became a link is not followed.
	outside := t.TempDir()
	check(t, os.RemoveAll(filepath.Join(folder, "a")))
	check(t, os.Symlink(outside, filepath.Join(folder, "a")))
	if err := restore("a/one"); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(snapshot[:700]), "b"); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("a part of a snapshot: %v", err)
	}
}

func TestItems(t *testing.T) {
	m, target, folder := tree(t, map[string]string{"a/one": "1", "b": "3"})
	list := func() map[string]string {
		found := map[string]string{}
		check(t, m.Items(t.Context(), bytes.NewReader(taken(t, m, target)), func(i state.Item) error {
			found[string(i.Key)] = string(i.Content)
			return nil
		}))
		return found
	}
	before := list()
	check(t, os.Chmod(filepath.Join(folder, "b"), 0o640))
	after := list()
	if len(before) != 4 || before["a/one"] != after["a/one"] || before["b"] == after["b"] {
		t.Errorf("%q, %q", before, after)
	}
	if err := m.Items(t.Context(), strings.NewReader("nothing"), nil); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}

func TestShell(t *testing.T) {
	m, target, _ := tree(t, map[string]string{"b": "3"})
	c, err := m.Shell(t.Context(), target, `cat "b"`)
	check(t, err)
	cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
	cmd.Dir = c.Dir
	if out, err := cmd.Output(); err != nil || string(out) != "3" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestBeside(t *testing.T) {
	c := state.Component{Name: "a", Module: Name, Properties: state.Properties{"directory": "/srv/a", "content": "/x.tar"}}
	other := New(nil).Beside(c, "b")
	if other.Name != "b" || other.Properties["directory"] != nil || other.Properties["content"] != "/x.tar" || c.Properties["directory"] != "/srv/a" {
		t.Errorf("%+v, %+v", other, c)
	}
}

func TestImport(t *testing.T) {
	m, target, _ := tree(t, map[string]string{"a/one": "1", "b": "3"})
	snapshot := taken(t, m, target)
	var exported, again bytes.Buffer
	check(t, m.Export(t.Context(), bytes.NewReader(snapshot), &exported))
	check(t, m.Import(t.Context(), &exported, &again))
	if !bytes.Equal(again.Bytes(), snapshot) {
		t.Error("what was exported does not come back")
	}
	var foreign bytes.Buffer
	w := tar.NewWriter(&foreign)
	check(t, w.WriteHeader(&tar.Header{Name: "deep/file", Mode: 0o644, Size: 2, Typeflag: tar.TypeReg}))
	_, err := io.WriteString(w, "hi")
	check(t, err)
	check(t, w.Close())
	again.Reset()
	check(t, m.Import(t.Context(), &foreign, &again))
	other := newTarget(t, nil)
	check(t, m.Restore(t.Context(), other, &again))
	folder, _, err := locate(other)
	check(t, err)
	if content(t, folder, "deep/file") != "hi" {
		t.Error("a foreign archive was not imported")
	}
	if err := m.Import(t.Context(), strings.NewReader("nothing"), &again); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}

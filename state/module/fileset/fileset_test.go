package fileset

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

func newTarget(t *testing.T, properties state.Properties) state.Target {
	t.Helper()
	return state.Target{
		Component: state.Component{Name: "site", Module: Name, Container: Name, Properties: properties},
		Container: state.Container{Name: Name, Module: Name, Directory: t.TempDir()},
		Directory: t.TempDir(),
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// active returns an active component with all kinds of files.
func active(t *testing.T, m *Module) (state.Target, string) {
	t.Helper()
	target := newTarget(t, nil)
	check(t, m.Activate(t.Context(), target))
	exports, err := m.Exports(target)
	check(t, err)
	root := exports["path"]
	check(t, os.MkdirAll(filepath.Join(root, "a/b"), 0o750))
	check(t, os.WriteFile(filepath.Join(root, "a/b/file with spaces"), []byte("content"), 0o640))
	check(t, os.WriteFile(filepath.Join(root, "a/"+strings.Repeat("long", 60)), bytes.Repeat([]byte("x"), 100_000), 0o600))
	check(t, os.WriteFile(filepath.Join(root, "empty"), nil, 0o600))
	check(t, os.Chmod(filepath.Join(root, "empty"), 0o751))
	check(t, os.Link(filepath.Join(root, "empty"), filepath.Join(root, "hard")))
	check(t, os.Symlink("../../etc/passwd", filepath.Join(root, "a/outside")))
	check(t, os.Symlink("nowhere", filepath.Join(root, "dangling")))
	check(t, os.Mkdir(filepath.Join(root, "sealed"), 0o500))
	past := time.Unix(1_000_000_000, 123_456_789)
	check(t, os.Chtimes(filepath.Join(root, "a/b"), past, past))
	return target, root
}

func snapshot(t *testing.T, m *Module, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	check(t, m.Snapshot(t.Context(), target, &b))
	return b.Bytes()
}

func TestSnapshotAndRestore(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	first := snapshot(t, m, target)
	if !bytes.Equal(first, snapshot(t, m, target)) {
		t.Fatal("two snapshots of one state differ")
	}
	check(t, os.RemoveAll(filepath.Join(root, "a")))
	check(t, os.WriteFile(filepath.Join(root, "new"), []byte("new"), 0o600))
	check(t, m.Restore(t.Context(), target, bytes.NewReader(first)))
	if !bytes.Equal(first, snapshot(t, m, target)) {
		t.Fatal("the restored state has another snapshot")
	}
	if _, err := os.Stat(filepath.Join(root, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a file from after the snapshot survived: %v", err)
	}
	one, err := os.Stat(filepath.Join(root, "empty"))
	check(t, err)
	two, err := os.Stat(filepath.Join(root, "hard"))
	check(t, err)
	if !os.SameFile(one, two) {
		t.Error("a hard link became a file")
	}
	check(t, m.Health(t.Context(), target))
	check(t, m.Deactivate(t.Context(), target))
	check(t, m.CollectGarbage(t.Context(), target))
	if left, err := os.ReadDir(target.Container.Directory); err != nil || len(left) > 0 {
		t.Fatalf("left after garbage collection: %v, %v", left, err)
	}
}

func TestBrokenSnapshotKeepsTheState(t *testing.T) {
	m := New(nil)
	target, _ := active(t, m)
	first := snapshot(t, m, target)
	for _, size := range []int{0, 100, 512, len(first) / 2, len(first) - 3*512, len(first) - 2048} {
		if err := m.Restore(t.Context(), target, bytes.NewReader(first[:size])); err == nil {
			t.Errorf("%d of %d bytes were restored", size, len(first))
		}
		if !bytes.Equal(first, snapshot(t, m, target)) {
			t.Fatalf("restoring %d bytes changed the state", size)
		}
	}
}

func archive(t *testing.T, headers ...*tar.Header) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		check(t, w.WriteHeader(h))
	}
	check(t, w.Close())
	return bytes.NewReader(b.Bytes())
}

func TestPathsCannotLeaveTheFolder(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	victim := filepath.Join(filepath.Dir(root), "victim")
	for name, headers := range map[string][]*tar.Header{
		"parent":       {{Name: "../victim", Typeflag: tar.TypeReg}},
		"absolute":     {{Name: victim, Typeflag: tar.TypeReg}},
		"inner parent": {{Name: "a/../../victim", Typeflag: tar.TypeReg}},
		"through link": {{Name: "out", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "out/victim", Typeflag: tar.TypeReg}},
		"hard link":    {{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}},
		"device":       {{Name: "x", Typeflag: tar.TypeChar}},
		"twice":        {{Name: "x", Typeflag: tar.TypeReg}, {Name: "x", Typeflag: tar.TypeReg}},
		"mode of link": {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, {Name: "x", Typeflag: tar.TypeDir, Mode: 0o777}},
	} {
		err := m.Restore(t.Context(), target, archive(t, headers...))
		if err == nil {
			t.Errorf("%s: restored", name)
		}
		if _, err := os.Lstat(victim); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s: a file appeared outside", name)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "a/b/file with spaces")); err != nil {
		t.Fatal(err)
	}
}

func TestContentOfANewFolder(t *testing.T) {
	m := New(nil)
	from, _ := active(t, m)
	file := filepath.Join(t.TempDir(), "content.tar")
	check(t, os.WriteFile(file, snapshot(t, m, from), 0o600))
	target := newTarget(t, state.Properties{"content": file})
	for range 2 {
		check(t, m.Activate(t.Context(), target))
	}
	if !bytes.Equal(snapshot(t, m, from), snapshot(t, m, target)) {
		t.Error("the content is another")
	}
}

func TestFork(t *testing.T) {
	m := New(nil)
	from, _ := active(t, m)
	into := from
	into.Component.Name, into.Component.Session = "site@blue", "blue"
	method, err := m.Fork(t.Context(), from, into)
	check(t, err)
	if method != "copy" && method != "reflink" {
		t.Errorf("method %q", method)
	}
	if !bytes.Equal(snapshot(t, m, from), snapshot(t, m, into)) {
		t.Error("the fork is another state")
	}
	if _, err := m.Fork(t.Context(), from, into); !errors.Is(err, state.ErrInUse) {
		t.Errorf("fork over a fork: %v", err)
	}
}

// meddler changes something whenever it is written to.
type meddler struct{ change func() }

func (m meddler) Write(b []byte) (int, error) {
	m.change()
	return len(b), nil
}

func TestSnapshotOfAChangingFolderFails(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	check(t, os.WriteFile(filepath.Join(root, "large"), make([]byte, holdBack+2*bufferSize), 0o600))
	for name, change := range map[string]func(){
		"the file itself": func() { check(t, os.WriteFile(filepath.Join(root, "large"), []byte("x"), 0o600)) },
		"a read file":     func() { check(t, os.Chmod(filepath.Join(root, "empty"), 0o711)) },
		"an unread file":  func() { check(t, os.WriteFile(filepath.Join(root, "z"), []byte("x"), 0o600)) },
		"a removed file":  func() { check(t, os.RemoveAll(filepath.Join(root, "dangling"))) },
		"the folder":      func() { check(t, os.RemoveAll(root)) },
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, m, target)
			if err := m.Snapshot(t.Context(), target, meddler{change}); !errors.Is(err, errChanged) {
				t.Errorf("snapshot of a changing folder: %v", err)
			}
			check(t, m.Restore(t.Context(), target, bytes.NewReader(before)))
		})
	}
}

// While nothing was passed on yet, reading begins anew.
func TestSnapshotBeginsAnew(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(root, "busy"), fmt.Append(nil, i), 0o600)
			}
		}
	}()
	for range 3 {
		var b bytes.Buffer
		err := m.Snapshot(t.Context(), target, &b)
		if errors.Is(err, errChanged) && b.Len() == 0 {
			continue
		}
		check(t, err) // it found a moment of rest
		check(t, unpack(t.Context(), filepath.Join(t.TempDir(), "x"), &b))
	}
	close(stop)
	<-stopped
	snapshot(t, m, target)
}

func TestInterruptedSwap(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	next := snapshot(t, m, target)
	check(t, os.RemoveAll(filepath.Join(root, "a")))
	for name, crash := range map[string]func(){
		"before the old one moved": func() {},
		"after it":                 func() { check(t, os.Rename(root, root+suffixOld)) },
	} {
		check(t, unpack(t.Context(), root+suffixNext, bytes.NewReader(next)))
		crash()
		check(t, m.Activate(t.Context(), target))
		if !bytes.Equal(next, snapshot(t, m, target)) {
			t.Errorf("%s: the next state is not in place", name)
		}
		if left, err := os.ReadDir(target.Container.Directory); err != nil || len(left) != 1 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

func TestBadProperties(t *testing.T) {
	m := New(nil)
	for _, p := range []state.Properties{{"dir": "/x"}, {"directory": "relative"}, {"directory": "/"}, {"content": 3}} {
		if err := m.Check(newTarget(t, p).Component); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 1}), func() error { _, err := w.Write([]byte("x")); return err }(), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		parent := t.TempDir()
		_ = unpack(t.Context(), filepath.Join(parent, "target"), bytes.NewReader(content)) // only what it leaves counts
		if all, err := os.ReadDir(parent); err != nil || len(all) > 1 {
			t.Fatalf("outside the folder: %v, %v", all, err)
		}
	})
}

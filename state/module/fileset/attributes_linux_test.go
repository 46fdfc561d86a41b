package fileset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// onDisk is a folder on a file system that keeps extended attributes; not all temporary folders do.
func onDisk(t *testing.T, path string) {
	t.Helper()
	if err := unix.Setxattr(path, "user.orrery", []byte("x"), 0); errors.Is(err, unix.ENOTSUP) {
		testenv.Missing(t, "a temporary folder with extended attributes", "set TMPDIR")
	}
	check(t, unix.Removexattr(path, "user.orrery"))
}

func TestExtendedAttributes(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	onDisk(t, root)
	file, folder := filepath.Join(root, "empty"), filepath.Join(root, "a")
	check(t, unix.Setxattr(file, "user.note", []byte("odd\x00 = value"), 0))
	check(t, unix.Setxattr(folder, "user.empty", nil, 0))
	// An access control list: owner rw, user 1 r, group r, mask r, others nothing.
	list := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x01\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff")
	check(t, unix.Setxattr(file, "system.posix_acl_access", list, 0))
	first := snapshot(t, m, target)
	check(t, unix.Removexattr(file, "user.note"))
	check(t, unix.Setxattr(folder, "user.new", []byte("new"), 0))
	if bytes.Equal(first, snapshot(t, m, target)) {
		t.Error("attributes are not in the snapshot")
	}
	check(t, m.Restore(t.Context(), target, bytes.NewReader(first)))
	if !bytes.Equal(first, snapshot(t, m, target)) {
		t.Error("the restored state has another snapshot")
	}
	value := make([]byte, 100)
	n, err := unix.Getxattr(file, "user.note", value)
	if err != nil || string(value[:n]) != "odd\x00 = value" {
		t.Errorf("%q, %v", value[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(file, "system.posix_acl_access", value); err != nil || !bytes.Equal(value[:n], list) {
		t.Errorf("%x, %v", value[:max(n, 0)], err)
	}
}

func TestHoles(t *testing.T) {
	m := New(nil)
	target, root := active(t, m)
	name := filepath.Join(root, "sparse")
	f, err := os.Create(name)
	check(t, err)
	_, err = f.WriteAt([]byte("begin"), 0)
	check(t, err)
	_, err = f.WriteAt([]byte("middle"), 5_000_001)
	check(t, err)
	check(t, f.Truncate(16<<20))
	check(t, f.Close())
	want, err := os.ReadFile(name)
	check(t, err)
	first := snapshot(t, m, target)
	check(t, os.Remove(name))
	check(t, m.Restore(t.Context(), target, bytes.NewReader(first)))
	got, err := os.ReadFile(name)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Error("the file came back with another content")
	}
	info, err := os.Stat(name)
	check(t, err)
	if s, ok := info.Sys().(*syscall.Stat_t); !ok || s.Blocks*512 > 1<<20 {
		t.Errorf("it takes %d bytes of the disk", s.Blocks*512)
	}
}

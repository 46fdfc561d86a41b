package fuse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Files is a file system whose errors blow a fuse, once it is armed: opening a database may fail as Pebble has it.
type Files struct {
	vfs.FS
	fuse  *Fuse
	armed atomic.Bool
}

// FS returns a file system over another one (nil: the machine's).
func (f *Fuse) FS(over vfs.FS) *Files {
	if over == nil {
		over = vfs.Default
	}
	return &Files{FS: over, fuse: f}
}

// Arm has errors blow the fuse from now on.
func (s *Files) Arm() { s.armed.Store(true) }

// check does not return an error of a write.
func (s *Files) check(what, name string, err error) error {
	if err == nil || !s.armed.Load() {
		return err
	}
	s.fuse.Blow(fmt.Errorf("cannot %s %s: %w", what, name, err))
	select {}
}

// pause is how long an attempt to read a broken disk takes at least: Pebble repeats it for ever.
const pause = 100 * time.Millisecond

func (s *Files) checkRead(name string, err error) error {
	if err == nil || errors.Is(err, io.EOF) || !s.armed.Load() {
		return err
	}
	s.fuse.Blow(fmt.Errorf("cannot read %s: %w", name, err))
	<-time.After(pause)
	return err
}

func (s *Files) wrap(what, name string, c vfs.DiskWriteCategory, f vfs.File, err error) (vfs.File, error) {
	if err := s.check(what, name, err); err != nil {
		return nil, err
	}
	if c == logCategory {
		return newLog(file{f, s, name})
	}
	return &file{f, s, name}, nil
}

// Create creates a file.
func (s *Files) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return s.wrap("create", name, c, f, err)
}

// ReuseForWrite gives a file another name, and opens it.
func (s *Files) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.ReuseForWrite(from, to, c)
	return s.wrap("reuse", to, c, f, err)
}

// OpenReadWrite opens a file.
func (s *Files) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.OpenReadWrite(name, c, o...)
	return s.wrap("open", name, vfs.WriteCategoryUnspecified, f, err)
}

// OpenDir opens a folder, to sync it.
func (s *Files) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	return s.wrap("open", name, vfs.WriteCategoryUnspecified, f, err)
}

// Open opens a file to read it.
func (s *Files) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, o...)
	if err != nil {
		return nil, s.checkRead(name, err)
	}
	return &file{f, s, name}, nil
}

// Rename gives a file another name.
func (s *Files) Rename(from, to string) error { return s.check("rename", from, s.FS.Rename(from, to)) }

// Link gives a file a second name.
func (s *Files) Link(from, to string) error { return s.check("link", from, s.FS.Link(from, to)) }

// MkdirAll makes a folder.
func (s *Files) MkdirAll(name string, mode os.FileMode) error {
	return s.check("create", name, s.FS.MkdirAll(name, mode))
}

// Unwrap returns the file system beneath.
func (s *Files) Unwrap() vfs.FS { return s.FS }

type file struct {
	vfs.File
	of   *Files
	name string
}

// Write writes.
func (f *file) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	return n, f.of.check("write", f.name, err)
}

// WriteAt writes.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(b, at)
	return n, f.of.check("write", f.name, err)
}

// Preallocate asks for room.
func (f *file) Preallocate(at, length int64) error {
	return f.of.check("write", f.name, f.File.Preallocate(at, length))
}

// Sync makes durable what was written.
func (f *file) Sync() error { return f.of.check("sync", f.name, f.File.Sync()) }

// SyncData makes durable what was written.
func (f *file) SyncData() error { return f.of.check("sync", f.name, f.File.SyncData()) }

// SyncTo makes durable what was written, up to a length.
func (f *file) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	return full, f.of.check("sync", f.name, err)
}

// Read reads.
func (f *file) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	return n, f.of.checkRead(f.name, err)
}

// ReadAt reads.
func (f *file) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	return n, f.of.checkRead(f.name, err)
}

// Close closes the file. What was written to it may be reported as lost only now.
func (f *file) Close() error { return f.of.check("close", f.name, f.File.Close()) }

var (
	_ vfs.FS   = (*Files)(nil)
	_ vfs.File = (*file)(nil)
)

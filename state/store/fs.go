package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"orrery/state"
)

// file is an open file of the store.
type file interface {
	io.Writer
	io.ReaderAt
	io.Closer
	// Pace makes most of what was written to a new file durable, so that Sync has less to do.
	Pace() error
	// Sync makes a new file durable. Nothing is written to it afterwards.
	Sync() error
}

// files is where a store lies: a folder, a bucket, or one of them encrypted.
type files interface {
	reading
	writing
	locking
}

// reading is what the store asks about its files. What does not exist is an fs.ErrNotExist.
type reading interface {
	Open(name string) (file, error)
	ReadFile(name string) ([]byte, error)
	// ReadDir lists a folder, sorted by name.
	ReadDir(name string) ([]fs.FileInfo, error)
	Stat(name string) (fs.FileInfo, error)
}

// writing is what the store does to its files.
type writing interface {
	MkdirAll(name string) error
	Create(name string) (file, error) // a new file, for writing
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
}

// locking keeps processes apart.
type locking interface {
	// TryLock returns state.ErrInUse at once where somebody else has the lock.
	TryLock(ctx context.Context, name string, exclusive bool) (lock, error)
}

// lock is a lock that is held. It ends with the process that holds it, however that ends.
type lock struct{ unlock func() }

func (l lock) release() {
	if l.unlock != nil {
		l.unlock()
	}
}

// acquire waits for a lock on the file, which it creates.
func (s *Store) acquire(ctx context.Context, name string, exclusive bool) (lock, error) {
	p := s.patience()
	start := time.Now()
	for wait := p.first; ; wait = min(2*wait, p.most) {
		l, err := s.files.TryLock(ctx, name, exclusive)
		if !errors.Is(err, state.ErrInUse) || p.limit > 0 && time.Since(start) > p.limit {
			return l, err
		}
		select {
		case <-ctx.Done():
			return lock{}, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(jitter(wait)):
		}
	}
}

// osFiles are the files of a folder.
type osFiles struct{}

var _ files = osFiles{}

// osFile is a file of a folder.
type osFile struct{ *os.File }

func (f osFile) Pace() error { return f.Sync() }

func (osFiles) Create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) Open(name string) (file, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFiles) ReadFile(name string) ([]byte, error)  { return os.ReadFile(name) }
func (osFiles) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }
func (osFiles) MkdirAll(name string) error            { return os.MkdirAll(name, 0o700) }
func (osFiles) Rename(from, to string) error          { return os.Rename(from, to) }
func (osFiles) Remove(name string) error              { return os.Remove(name) }

func (osFiles) ReadDir(name string) ([]fs.FileInfo, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	all := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

func (osFiles) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// replaceBy writes a file so that it is there wholly or not at all. The caller has the store locked.
func (s *Store) replaceBy(temp, name string, content []byte) error {
	if err := s.prepare(temp, content); err != nil {
		return err
	}
	return s.publish(temp, name)
}

// prepare writes a file and makes it durable.
func (s *Store) prepare(temp string, content []byte) error {
	f, err := s.files.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, s.files.Remove(temp))
	}
	return nil
}

// publish gives a finished file its name, durably.
func (s *Store) publish(temp, name string) error {
	if err := s.files.Rename(temp, name); err != nil {
		return errors.Join(err, s.files.Remove(temp))
	}
	return s.files.SyncDir(filepath.Dir(name))
}

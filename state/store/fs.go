package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// file is an open file of the store.
type file interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error
}

// files is what the store does to its folder, apart from locking.
type files interface {
	Create(name string) (file, error) // a new file, for writing
	Open(name string) (file, error)
	ReadFile(name string) ([]byte, error)
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(name string) error
}

type osFiles struct{}

var _ files = osFiles{}

func (osFiles) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}
func (osFiles) Open(name string) (file, error)       { return os.Open(name) }
func (osFiles) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }
func (osFiles) Rename(from, to string) error         { return os.Rename(from, to) }
func (osFiles) Remove(name string) error             { return os.Remove(name) }

func (osFiles) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// replace writes a file so that it is there wholly or not at all. The caller has the store locked.
func (s *Store) replace(name string, content []byte) error {
	return s.replaceBy(s.temporary(), name, content)
}

func (s *Store) replaceBy(temp, name string, content []byte) error {
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
	return s.publish(temp, name)
}

// publish gives a finished file its name, durably.
func (s *Store) publish(temp, name string) error {
	if err := s.files.Rename(temp, name); err != nil {
		return errors.Join(err, s.files.Remove(temp))
	}
	return s.files.SyncDir(filepath.Dir(name))
}

// Package spool gives room for what does not fit into memory: files without a name, of which nothing stays whatever happens.
package spool

import (
	"errors"
	"io"
	"os"
)

// Open makes an empty file without a name in a folder (empty: the system's for temporary files). It is gone when it is closed, or
// this process ends.
func Open(folder string) (*os.File, error) {
	f, err := os.CreateTemp(folder, "spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// With gives do such a file and closes it.
func With(folder string, do func(f *os.File) error) error {
	f, err := Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

// Rewind goes to a file's begin.
func Rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

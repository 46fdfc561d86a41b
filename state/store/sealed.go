package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"orrery/state/vault"
)

// sealed are files of which the contents and, below components and leases, the names are encrypted.
type sealed struct {
	files
	dir    string
	cipher *vault.Cipher
}

var _ files = (*sealed)(nil)

// endings of names are not encrypted.
var endings = []string{historySuffix, historyLock, historyCopy}

// path encrypts the names in a path that say something.
func (s *sealed) path(name string) (string, error) {
	rel, err := filepath.Rel(s.dir, name)
	if s.dir == "" {
		rel, err = name, nil
	}
	if err != nil {
		return "", err
	}
	parts := strings.Split(filepath.ToSlash(rel), "/")
	if parts[0] != "components" && parts[0] != "leases" {
		return name, nil
	}
	folder := parts[0]
	for i, part := range parts[1:] {
		ending := ending(part)
		hidden, err := s.cipher.SealName(folder, strings.TrimSuffix(part, ending))
		if err != nil {
			return "", err
		}
		folder += "/" + part
		parts[i+1] = hidden + ending
	}
	return filepath.Join(append([]string{s.dir}, parts...)...), nil
}

func ending(name string) string {
	for _, e := range endings {
		if strings.HasSuffix(name, e) {
			return e
		}
	}
	return ""
}

func (s *sealed) MkdirAll(name string) error {
	hidden, err := s.path(name)
	if err != nil {
		return err
	}
	return s.files.MkdirAll(hidden)
}

func (s *sealed) Remove(name string) error {
	hidden, err := s.path(name)
	if err != nil {
		return err
	}
	return s.files.Remove(hidden)
}

func (s *sealed) SyncDir(name string) error {
	hidden, err := s.path(name)
	if err != nil {
		return err
	}
	return s.files.SyncDir(hidden)
}

func (s *sealed) Rename(from, to string) error {
	source, err := s.path(from)
	if err != nil {
		return err
	}
	target, err := s.path(to)
	if err != nil {
		return err
	}
	return s.files.Rename(source, target)
}

func (s *sealed) TryLock(ctx context.Context, name string, exclusive bool) (lock, error) {
	hidden, err := s.path(name)
	if err != nil {
		return lock{}, err
	}
	return s.files.TryLock(ctx, hidden, exclusive)
}

func (s *sealed) Stat(name string) (fs.FileInfo, error) {
	hidden, err := s.path(name)
	if err != nil {
		return nil, err
	}
	info, err := s.files.Stat(hidden)
	if err != nil {
		return nil, err
	}
	return plainInfo{info, filepath.Base(name)}, nil
}

// plainInfo describes a file as it is without encryption.
type plainInfo struct {
	fs.FileInfo
	name string
}

func (i plainInfo) Name() string { return i.name }

// Size is that of the content. What is too short to be an encrypted file has none.
func (i plainInfo) Size() int64 {
	size, _ := vault.PlainSize(i.FileInfo.Size())
	return size
}

// ReadDir leaves out what was not encrypted with the store's key.
func (s *sealed) ReadDir(name string) ([]fs.FileInfo, error) {
	hidden, err := s.path(name)
	if err != nil {
		return nil, err
	}
	listed, err := s.files.ReadDir(hidden)
	if err != nil {
		return nil, err
	}
	rel := strings.TrimPrefix(filepath.ToSlash(strings.TrimPrefix(name, s.dir)), "/")
	secret := rel == "components" || strings.HasPrefix(rel, "components/") || rel == "leases"
	all := make([]fs.FileInfo, 0, len(listed))
	for _, info := range listed {
		plain := info.Name()
		if secret {
			ending := ending(plain)
			if plain, err = s.cipher.OpenName(rel, strings.TrimSuffix(plain, ending)); err != nil {
				continue
			}
			plain += ending
		}
		all = append(all, plainInfo{info, plain})
	}
	return all, nil
}

func (s *sealed) ReadFile(name string) ([]byte, error) {
	hidden, err := s.path(name)
	if err != nil {
		return nil, err
	}
	b, err := s.files.ReadFile(hidden)
	if err != nil {
		return nil, err
	}
	f, err := s.reader(nopFile{bytes.NewReader(b)}, int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", hidden, err)
	}
	plain := make([]byte, f.size)
	if _, err := f.ReadAt(plain, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", hidden, err)
	}
	return plain, nil
}

// nopFile is a file in memory.
type nopFile struct{ *bytes.Reader }

func (nopFile) Close() error              { return nil }
func (nopFile) Pace() error               { return nil }
func (nopFile) Sync() error               { return nil }
func (nopFile) Write([]byte) (int, error) { return 0, fs.ErrPermission }

func (s *sealed) Open(name string) (file, error) {
	hidden, err := s.path(name)
	if err != nil {
		return nil, err
	}
	info, err := s.files.Stat(hidden)
	if err != nil {
		return nil, err
	}
	f, err := s.files.Open(hidden)
	if err != nil {
		return nil, err
	}
	r, err := s.reader(f, info.Size())
	if err != nil {
		return brokenFile{f, fmt.Errorf("%s: %w", hidden, err)}, nil
	}
	return r, nil
}

// brokenFile is a file that has not even the beginning of an encrypted one. Reading it says so.
type brokenFile struct {
	file
	err error
}

func (f brokenFile) ReadAt([]byte, int64) (int, error) { return 0, f.err }

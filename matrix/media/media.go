// Package media keeps what users upload (clause client-server API, content repository): contents as files named by their hash, so that what is uploaded
// twice is there once, and what is known of them in the store.
package media

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"orrery/internal/memory"
	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

var (
	// ErrNotFound says that there is no such media.
	ErrNotFound = errors.New("no such media")
	// ErrNotYet says that the content was not uploaded yet.
	ErrNotYet = errors.New("not uploaded yet")
	// ErrUploaded says that the content is there already.
	ErrUploaded = errors.New("uploaded already")
	// ErrUnsupported says that no thumbnail can be made.
	ErrUnsupported = errors.New("no picture of which a thumbnail can be made")
	// ErrTooLarge says that a picture has too many pixels for a thumbnail to be made of it.
	ErrTooLarge = errors.New("too large to be made smaller here")
)

// lifetime is how long a user has to upload the content of an id.
const lifetime = 24 * time.Hour

// Config says where media are.
type Config struct {
	DB      table.DB
	Folder  string
	MaxSize int64          // bytes of one content
	Memory  *memory.Budget // for pictures that are made smaller
	Now     func() time.Time
}

// Media are those of a server.
type Media struct {
	c     Config
	thumb chan struct{} // bounds how many thumbnails are made at a time

	removing sync.RWMutex // held for reading from when a content is there until a row names it

	mu     sync.Mutex
	filled chan struct{} // closed when the content of some reserved id comes, and another one then
}

// Open opens a folder of media, and makes it if there is none.
func Open(c Config) (*Media, error) {
	for _, dir := range []string{"content", "thumbnail", "incoming"} {
		if err := os.MkdirAll(filepath.Join(c.Folder, dir), 0o700); err != nil {
			return nil, err
		}
	}
	m := &Media{c: c, thumb: make(chan struct{}, 2), filled: make(chan struct{})}
	half, err := os.ReadDir(m.path("incoming", ""))
	for _, f := range half { // of a process that was killed
		err = errors.Join(err, os.Remove(m.path("incoming", f.Name())))
	}
	return m, err
}

func (m *Media) path(kind, name string) string { return filepath.Join(m.c.Folder, kind, name) }

// MaxSize is how large a content may be.
func (m *Media) MaxSize() int64 { return m.c.MaxSize }

// Reserve makes an id whose content the user uploads later, and says until when.
func (m *Media) Reserve(ctx context.Context, user string) (store.Media, error) {
	row := store.Media{ID: rand.Text(), User: user, Created: m.c.Now().UnixMilli(), Expires: m.c.Now().Add(lifetime).UnixMilli()}
	return row, m.c.DB.Update(ctx, func(tx table.Tx) error { return store.Medias.Put(tx, row) })
}

// Upload keeps a content under a new id.
func (m *Media) Upload(ctx context.Context, user, kind, name string, content io.Reader) (store.Media, error) {
	row := store.Media{ID: rand.Text(), User: user, Type: kind, Name: name, Created: m.c.Now().UnixMilli()}
	var err error
	done := func() {}
	defer func() { done() }()
	if row.Hash, row.Size, done, err = m.keep(content); err != nil {
		return row, err
	}
	return row, m.c.DB.Update(ctx, func(tx table.Tx) error { return store.Medias.Put(tx, row) })
}

// Fill keeps the content of an id that the user has reserved.
func (m *Media) Fill(ctx context.Context, user, id, kind, name string, content io.Reader) error {
	if _, err := m.reserved(ctx, user, id); err != nil {
		return err
	}
	hash, size, done, err := m.keep(content)
	defer func() { done() }()
	if err != nil {
		return err
	}
	if err := m.c.DB.Update(ctx, func(tx table.Tx) error {
		row, err := m.own(tx, user, id)
		if err != nil {
			return err
		}
		row.Type, row.Name, row.Hash, row.Size, row.Expires = kind, name, hash, size, 0
		return store.Medias.Put(tx, row)
	}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.filled)
	m.filled = make(chan struct{})
	return nil
}

// nextFilled is closed when the next content of a reserved id has come.
func (m *Media) nextFilled() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.filled
}

func (m *Media) reserved(ctx context.Context, user, id string) (row store.Media, err error) {
	err = m.c.DB.View(ctx, func(tx table.Tx) error {
		row, err = m.own(tx, user, id)
		return err
	})
	return row, err
}

// own is a user's id without content.
func (m *Media) own(tx table.Tx, user, id string) (store.Media, error) {
	row, ok, err := store.Medias.Get(tx, id)
	switch {
	case err != nil:
		return row, err
	case !ok || row.User != user || row.Hash == "" && row.Expires < m.c.Now().UnixMilli():
		return row, fmt.Errorf("%w of yours: %s", ErrNotFound, id)
	case row.Hash != "":
		return row, fmt.Errorf("media %s is %w", id, ErrUploaded)
	}
	return row, nil
}

// keep writes a content into a file that is named by its hash. It is durable when keep returns, and is not removed before done is called.
func (m *Media) keep(content io.Reader) (name string, size int64, done func(), err error) {
	done = func() {}
	f, err := os.CreateTemp(m.path("incoming", ""), "upload-")
	if err != nil {
		return "", 0, done, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	h := sha256.New()
	size, err = io.Copy(io.MultiWriter(f, h), io.LimitReader(content, m.c.MaxSize+1))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, done, err
	}
	if size > m.c.MaxSize {
		return "", 0, done, fmt.Errorf("an upload is %w (at most %d bytes)", matrix.ErrTooLarge, m.c.MaxSize)
	}
	name = hex.EncodeToString(h.Sum(nil))
	m.removing.RLock()
	done = m.removing.RUnlock
	if err := os.Rename(f.Name(), m.path("content", name)); err != nil {
		return "", 0, done, err
	}
	return name, size, done, syncFolder(m.path("content", ""))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Find is what is known of a media, whose content is there.
func (m *Media) Find(ctx context.Context, id string) (row store.Media, err error) {
	err = m.c.DB.View(ctx, func(tx table.Tx) error {
		var ok bool
		row, ok, err = store.Medias.Get(tx, id)
		switch {
		case err != nil:
			return err
		case !ok || row.Quarantined || row.Hash == "" && row.Expires < m.c.Now().UnixMilli():
			return fmt.Errorf("%w: %s", ErrNotFound, id)
		case row.Hash == "":
			return fmt.Errorf("media %s is %w", id, ErrNotYet)
		}
		return nil
	})
	return row, err
}

// Await is Find that waits for a time, or until the context ends, for a content that is still to be uploaded.
func (m *Media) Await(ctx context.Context, id string, timeout time.Duration) (store.Media, error) {
	late := time.NewTimer(timeout)
	defer late.Stop()
	for {
		filled := m.nextFilled() // before it is looked for, so that nothing comes unnoticed
		row, err := m.Find(ctx, id)
		if !errors.Is(err, ErrNotYet) {
			return row, err
		}
		select {
		case <-filled:
		case <-late.C:
			return row, err
		case <-ctx.Done():
			return row, err
		}
	}
}

// Content is the file of a media. The caller closes it.
func (m *Media) Content(row store.Media) (*os.File, error) {
	f, err := os.Open(m.path("content", row.Hash))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: the content of %s is lost", ErrNotFound, row.ID)
	}
	return f, err
}

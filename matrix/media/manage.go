package media

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Usage is what a user has uploaded.
type Usage struct {
	User  string `json:"user_id"`
	Count int    `json:"media_count"`
	Bytes int64  `json:"media_length"`
}

// Stats are what users have uploaded, by their ids. Contents that were uploaded twice count twice, and are there once.
func (m *Media) Stats(ctx context.Context) (all []Usage, err error) {
	err = m.c.DB.View(ctx, func(tx table.Tx) error {
		for row, err := range store.Medias.Scan(tx, table.Range{Index: "user"}) {
			if err != nil {
				return err
			}
			if len(all) == 0 || all[len(all)-1].User != row.User {
				all = append(all, Usage{User: row.User})
			}
			u := &all[len(all)-1]
			u.Count++
			u.Bytes += row.Size
		}
		return nil
	})
	return all, err
}

// Of are the media of a user, or of "" everybody's, which were uploaded before a time; the zero time: all.
func (m *Media) Of(ctx context.Context, user string, before time.Time) (all []store.Media, err error) {
	of := table.Range{Index: "user"}
	if user != "" {
		of.Prefix = []any{user}
	}
	err = m.c.DB.View(ctx, func(tx table.Tx) error {
		for row, err := range store.Medias.Scan(tx, of) {
			if err != nil {
				return err
			}
			if before.IsZero() || row.Created < before.UnixMilli() {
				all = append(all, row)
			}
		}
		return nil
	})
	return all, err
}

// Info is what is known of a media, whatever is with it.
func (m *Media) Info(ctx context.Context, id string) (row store.Media, err error) {
	err = m.c.DB.View(ctx, func(tx table.Tx) error {
		var ok bool
		if row, ok, err = store.Medias.Get(tx, id); err == nil && !ok {
			err = fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		return err
	})
	return row, err
}

// Delete removes a media, and its content if no other one has it.
func (m *Media) Delete(ctx context.Context, id string) error {
	var hash string
	if err := m.c.DB.Update(ctx, func(tx table.Tx) error {
		row, ok, err := store.Medias.Get(tx, id)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		if err != nil {
			return err
		}
		hash = row.Hash
		return store.Medias.Delete(tx, id)
	}); err != nil || hash == "" {
		return err
	}
	m.removing.Lock() // what is being uploaded may be the same content
	defer m.removing.Unlock()
	var used bool
	if err := m.c.DB.View(ctx, func(tx table.Tx) (err error) {
		_, used, err = store.Medias.First(tx, table.Range{Index: "hash", Prefix: []any{hash}})
		return err
	}); err != nil || used {
		return err
	}
	small, err := filepath.Glob(m.path("thumbnail", hash+"-*"))
	for _, path := range append(small, m.path("content", hash)) {
		if gone := os.Remove(path); !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// Quarantine lets nobody get a media any more, or does again.
func (m *Media) Quarantine(ctx context.Context, id string, quarantined bool) error {
	return m.c.DB.Update(ctx, func(tx table.Tx) error {
		row, ok, err := store.Medias.Get(tx, id)
		if err == nil && !ok {
			err = fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		if err != nil {
			return err
		}
		row.Quarantined = quarantined
		return store.Medias.Put(tx, row)
	})
}

package keys

import (
	"context"
	"errors"
	"fmt"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrVersion says that keys are sent to another backup than the newest.
var ErrVersion = errors.New("not the newest backup")

// NewBackup begins a backup of a user's keys, and is its version.
func (k *Keys) NewBackup(ctx context.Context, user, algorithm string, auth canonical.Value) (version int64, err error) {
	err = k.stream.DB().Update(ctx, func(tx table.Tx) error {
		last, _, err := store.BackupVersions.First(tx, table.Range{Prefix: []any{user}, Descending: true})
		if err != nil {
			return err
		}
		version = last.Version + 1
		return store.BackupVersions.Put(tx, store.BackupVersion{User: user, Version: version, Algorithm: algorithm, AuthData: auth.JSON()})
	})
	return version, err
}

// Backup is a backup of a user; for version 0 the newest.
func (k *Keys) Backup(ctx context.Context, user string, version int64) (b store.BackupVersion, err error) {
	err = k.stream.DB().View(ctx, func(tx table.Tx) error {
		b, err = backup(tx, user, version)
		return err
	})
	return b, err
}

func backup(tx table.Tx, user string, version int64) (store.BackupVersion, error) {
	all, err := store.BackupVersions.All(tx, table.Range{Prefix: []any{user}, Descending: true})
	if err != nil {
		return store.BackupVersion{}, err
	}
	for _, b := range all {
		if !b.Deleted && (version == 0 || b.Version == version) {
			return b, nil
		}
	}
	return store.BackupVersion{}, fmt.Errorf("%w: backup %d", ErrNotFound, version)
}

// ChangeBackup sets what a backup's keys are verified with; its algorithm stays.
func (k *Keys) ChangeBackup(ctx context.Context, user string, version int64, algorithm string, auth canonical.Value) error {
	return k.stream.DB().Update(ctx, func(tx table.Tx) error {
		b, err := backup(tx, user, version)
		if err != nil {
			return err
		}
		if b.Algorithm != algorithm {
			return fmt.Errorf("algorithm is %w: the backup has %s", matrix.ErrMalformed, b.Algorithm)
		}
		b.AuthData = auth.JSON()
		return store.BackupVersions.Put(tx, b)
	})
}

// DropBackup deletes a backup with its keys. One that is deleted already is no error.
func (k *Keys) DropBackup(ctx context.Context, user string, version int64) error {
	return k.stream.DB().Update(ctx, func(tx table.Tx) error {
		b, ok, err := store.BackupVersions.Get(tx, user, version)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: backup %d", ErrNotFound, version)
		}
		b.Deleted, b.Count, b.AuthData = true, 0, nil
		return errors.Join(store.BackupKeys.DeleteAll(tx, table.Range{Prefix: []any{user, version}}), store.BackupVersions.Put(tx, b))
	})
}

// Store puts keys into the newest backup, by room and session. A key that is there is replaced only by a better one: first one that was verified, then one
// that decrypts more, then one that was forwarded less often (clause client-server API, backup algorithm).
func (k *Keys) Store(ctx context.Context, user string, version int64, keys map[string]map[string]canonical.Value) (b store.BackupVersion, err error) {
	err = k.stream.DB().Update(ctx, func(tx table.Tx) error {
		if b, err = backup(tx, user, 0); err != nil {
			return err
		}
		if b.Version != version {
			return fmt.Errorf("backup %d is %w, which is %d", version, ErrVersion, b.Version)
		}
		changed := false
		for room, sessions := range keys {
			for session, v := range sessions {
				one, err := backupKey(user, version, room, session, v)
				if err != nil {
					return err
				}
				added, replaced, err := putBackup(tx, one)
				if err != nil {
					return err
				}
				if changed = changed || added || replaced; added {
					b.Count++
				}
			}
		}
		if !changed {
			return nil
		}
		b.ETag++
		return store.BackupVersions.Put(tx, b)
	})
	return b, err
}

// putBackup stores a key, unless there is one that is as good.
func putBackup(tx table.Tx, one store.BackupKey) (added, replaced bool, err error) {
	old, ok, err := store.BackupKeys.Get(tx, one.User, one.Version, one.Room, one.Session)
	if err != nil || ok && !better(one, old) {
		return false, false, err
	}
	return !ok, ok, store.BackupKeys.Put(tx, one)
}

func backupKey(user string, version int64, room, session string, v canonical.Value) (store.BackupKey, error) {
	first, ok := v.Get("first_message_index").Int()
	forwarded, ok2 := v.Get("forwarded_count").Int()
	verified := v.Get("is_verified")
	if !ok || !ok2 || verified.Kind() != canonical.Bool || v.Get("session_data").Kind() != canonical.Object {
		return store.BackupKey{}, fmt.Errorf("the key of session %.255s is %w: it has first_message_index, forwarded_count, is_verified and session_data", session, matrix.ErrMalformed)
	}
	return store.BackupKey{User: user, Version: version, Room: room, Session: session, FirstIndex: first, Forwarded: forwarded, Verified: verified.IsTrue(), JSON: v.JSON()}, nil
}

func better(a, b store.BackupKey) bool {
	switch {
	case a.Verified != b.Verified:
		return a.Verified
	case a.FirstIndex != b.FirstIndex:
		return a.FirstIndex < b.FirstIndex
	}
	return a.Forwarded < b.Forwarded
}

// of is a part of a backup: of a room and a session, each "" for all.
func of(user string, version int64, room, session string) table.Range {
	r := table.Range{Prefix: []any{user, version}}
	for _, s := range []string{room, session} {
		if s == "" {
			break
		}
		r.Prefix = append(r.Prefix, s)
	}
	return r
}

// Stored are keys of a backup: of a room and a session, each "" for all.
func (k *Keys) Stored(ctx context.Context, user string, version int64, room, session string) (all []store.BackupKey, err error) {
	err = k.stream.DB().View(ctx, func(tx table.Tx) error {
		if _, err := backup(tx, user, version); err != nil {
			return err
		}
		all, err = store.BackupKeys.All(tx, of(user, version, room, session))
		return err
	})
	return all, err
}

// Unstore removes keys of a backup: of a room and a session, each "" for all.
func (k *Keys) Unstore(ctx context.Context, user string, version int64, room, session string) (b store.BackupVersion, err error) {
	err = k.stream.DB().Update(ctx, func(tx table.Tx) error {
		if b, err = backup(tx, user, version); err != nil {
			return err
		}
		gone, err := store.BackupKeys.All(tx, of(user, version, room, session))
		if err != nil || len(gone) == 0 {
			return err
		}
		b.Count -= int64(len(gone))
		b.ETag++
		return errors.Join(store.BackupKeys.DeleteAll(tx, of(user, version, room, session)), store.BackupVersions.Put(tx, b))
	})
	return b, err
}

package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"orrery/internal/spool"
)

// The limits of one transaction: etcd's defaults are 128 operations and 1.5 MiB.
const (
	maxOperations = 128
	maxBytes      = 1 << 20
	undoTimeout   = time.Minute
)

// operation puts a key, or deletes it.
type operation struct {
	key, value []byte
	remove     bool
}

// replace makes the component's keys those of the snapshot in f.
func (k *keyspace) replace(ctx context.Context, f *os.File) error {
	one, err := k.atOnce(ctx, f)
	if err != nil {
		return err
	}
	if one != nil {
		return k.commit(ctx, one)
	}
	if err := k.keep(ctx); err != nil {
		return err
	}
	if err = k.become(ctx, f); err == nil {
		return errors.Join(os.Remove(k.undoFile()), syncFolder(k.folder))
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if failed := k.settle(late); failed != nil {
		return fmt.Errorf("%w; and what was written cannot be undone now (the next operation will): %w", err, failed)
	}
	return err
}

// atOnce returns the operations that lead to the snapshot, if one transaction can carry them out.
func (k *keyspace) atOnce(ctx context.Context, f *os.File) ([]operation, error) {
	all := []operation{}
	size := 0
	errMany := errors.New("too many")
	err := k.compare(ctx, f, func(o operation) error {
		size += len(o.key) + len(o.value)
		if len(all) == maxOperations || size > maxBytes {
			return errMany
		}
		all = append(all, o)
		return nil
	})
	if errors.Is(err, errMany) {
		return nil, nil
	}
	return all, err
}

// keep writes the state that is there to the undo file.
func (k *keyspace) keep(ctx context.Context) (err error) {
	f, err := os.Create(k.undoFile() + ".new")
	if err != nil {
		return err
	}
	if err = k.dumpAgain(ctx, f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return errors.Join(os.Rename(f.Name(), k.undoFile()), syncFolder(k.folder))
}

// settle undoes a restore that was interrupted.
func (k *keyspace) settle(ctx context.Context) (err error) {
	f, err := os.Open(k.undoFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := k.become(ctx, f); err != nil {
		return fmt.Errorf("cannot undo a restore that was interrupted: %w", err)
	}
	return errors.Join(os.Remove(k.undoFile()), syncFolder(k.folder))
}

// become writes what the snapshot in f has and the server has not, and then deletes what the snapshot has not.
func (k *keyspace) become(ctx context.Context, f *os.File) error {
	for _, removing := range []bool{false, true} {
		b := batch{k: k}
		err := k.compare(ctx, f, func(o operation) error {
			if o.remove != removing {
				return nil
			}
			return b.add(ctx, o)
		})
		if err == nil {
			err = b.flush(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// batch collects operations for one transaction after the other.
type batch struct {
	k    *keyspace
	all  []operation
	size int
}

func (b *batch) add(ctx context.Context, o operation) error {
	size := len(o.key) + len(o.value)
	if len(b.all) == maxOperations || len(b.all) > 0 && b.size+size > maxBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.all = append(b.all, o)
	b.size += size
	return nil
}

func (b *batch) flush(ctx context.Context) error {
	err := b.k.commit(ctx, b.all)
	b.all, b.size = nil, 0
	return err
}

// compare visits what has to be done to the server's keys so that they are those of the snapshot in f.
func (k *keyspace) compare(ctx context.Context, f *os.File, visit func(operation) error) error {
	if err := spool.Rewind(f); err != nil {
		return err
	}
	in := newReader(f)
	key, value, err := in.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	put := func() error {
		if failed := visit(operation{key: append([]byte(k.prefix), key...), value: value}); failed != nil {
			return failed
		}
		key, value, err = in.next()
		return unlessEnd(err)
	}
	walked := k.each(ctx, func(there pair) error {
		name := there.Key[len(k.prefix):]
		for err == nil && bytes.Compare(key, name) < 0 {
			if failed := put(); failed != nil {
				return failed
			}
		}
		switch {
		case err == nil && bytes.Equal(key, name) && there.Lease == 0 && bytes.Equal(value, there.Value):
			key, value, err = in.next()
			return unlessEnd(err)
		case err == nil && bytes.Equal(key, name):
			return put()
		case there.Lease != 0: // a living client's
			return nil
		}
		return visit(operation{key: there.Key, remove: true})
	})
	if walked != nil {
		return walked
	}
	for err == nil {
		if failed := put(); failed != nil {
			return failed
		}
	}
	return nil
}

func unlessEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// commit carries out operations in one transaction.
func (k *keyspace) commit(ctx context.Context, all []operation) error {
	if len(all) == 0 {
		return ctx.Err()
	}
	type put struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	}
	type step struct {
		Put    *put          `json:"requestPut,omitempty"`
		Delete *rangeRequest `json:"requestDeleteRange,omitempty"`
	}
	steps := make([]step, len(all))
	for i, o := range all {
		if o.remove {
			steps[i].Delete = &rangeRequest{Key: o.key}
		} else {
			steps[i].Put = &put{o.key, o.value}
		}
	}
	return k.call(ctx, "/v3/kv/txn", map[string]any{"success": steps}, nil)
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

package disk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// load reads the whole store and checks that its parts fit together.
func (s *Store) load() error {
	hard, conf := &raftpb.HardState{}, &raftpb.ConfState{}
	if err := errors.Join(s.message(keyHardState, hard), s.message(keyConfState, conf)); err != nil {
		return err
	}
	s.hard, s.conf = hard, raftpb.EnsureConfState(conf)
	applied, revision, err := s.pair(keyApplied)
	if err != nil {
		return err
	}
	s.applied = applied
	s.machine.LoadRevision(revision)
	if err := errors.Join(s.loadEntries(), s.loadSessions(), s.loadLog()); err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	if commit := s.hard.GetCommit(); s.applied > commit || commit > last {
		return fmt.Errorf("%w: applied %d, committed %d, last %d are out of order", ErrFormat, s.applied, commit, last)
	}
	return nil
}

func (s *Store) loadEntries() error {
	return s.each(prefixEntry, func(key, value []byte) error {
		return s.machine.LoadEntry(string(key), append([]byte(nil), value...))
	})
}

func (s *Store) loadSessions() error {
	return s.each(prefixSession, func(key, value []byte) error {
		if len(key) != 8 {
			return fmt.Errorf("%w: session key of %d bytes", ErrFormat, len(key))
		}
		return s.machine.LoadSession(binary.BigEndian.Uint64(key), value)
	})
}

func (s *Store) loadLog() error {
	index, term, err := s.pair(keyTruncated)
	if err != nil {
		return err
	}
	if err := s.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(index), Term: new(term)}}); err != nil {
		return fmt.Errorf("log from %d: %w", index, err)
	}
	var entries []*raftpb.Entry
	err = s.each(prefixLog, func(_, value []byte) error {
		e := &raftpb.Entry{}
		if err := proto.Unmarshal(value, e); err != nil {
			return fmt.Errorf("%w: log entry: %w", ErrFormat, err)
		}
		if want := index + 1 + uint64(len(entries)); e.GetIndex() != want {
			return fmt.Errorf("%w: log entry %d is where %d should be", ErrFormat, e.GetIndex(), want)
		}
		s.logBytes += len(e.GetData())
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return err
	}
	return s.Append(entries)
}

// each visits the keys of a prefix in order, without the prefix. f must not keep what it gets.
func (s *Store) each(prefix byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key()[1:], value)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// get returns a copy of a value; nil if there is none.
func get(db *pebble.DB, key []byte) ([]byte, error) {
	value, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]byte{}, value...), closer.Close()
}

func (s *Store) number(key []byte) (uint64, error) {
	value, err := get(s.db, key)
	if err != nil || value == nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%w: %s has %d bytes", ErrFormat, key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

func (s *Store) pair(key []byte) (first, second uint64, err error) {
	value, err := get(s.db, key)
	if err != nil || value == nil {
		return 0, 0, err
	}
	if len(value) != 16 {
		return 0, 0, fmt.Errorf("%w: %s has %d bytes", ErrFormat, key, len(value))
	}
	return binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:]), nil
}

func (s *Store) message(key []byte, into proto.Message) error {
	value, err := get(s.db, key)
	if err != nil || value == nil {
		return err
	}
	if err := proto.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrFormat, key, err)
	}
	return nil
}

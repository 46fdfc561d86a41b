package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"orrery/fabric"
	"orrery/fabric/table/kv"
)

// Save writes what a raft.Ready wants stored before its messages are sent. restored is the machine of the
// Ready's snapshot, which replaces the applied state; nil if there is none.
func (s *Store) Save(rd raft.Ready, restored *kv.Machine) error {
	b := s.db.NewBatch()
	if restored != nil {
		s.replace(b, rd.Snapshot, restored)
	}
	s.putEntries(b, rd.Entries)
	if !raft.IsEmptyHardState(rd.HardState) {
		putHardState(b, rd.HardState)
	}
	if b.Empty() {
		return b.Close()
	}
	if err := s.commit(b, rd.MustSync || restored != nil); err != nil {
		return err
	}
	if restored != nil {
		if err := s.ApplySnapshot(&raftpb.Snapshot{Metadata: rd.Snapshot.GetMetadata()}); err != nil {
			return fmt.Errorf("snapshot at index %d: %w", rd.Snapshot.GetMetadata().GetIndex(), err)
		}
		s.machine, s.conf = restored, rd.Snapshot.GetMetadata().GetConfState()
		s.applied, s.logBytes = rd.Snapshot.GetMetadata().GetIndex(), 0
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		s.hard = rd.HardState
	}
	for _, e := range rd.Entries {
		s.logBytes += len(e.GetData())
	}
	return s.Append(rd.Entries)
}

// putEntries appends to the log, and drops the tail that the new entries overwrite.
func (s *Store) putEntries(b *pebble.Batch, entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	after := entries[len(entries)-1].GetIndex() + 1
	if last, err := s.LastIndex(); err == nil && last >= after {
		must(b.DeleteRange(indexed(prefixLog, after), indexed(prefixLog, last+1), nil))
	}
	for _, e := range entries {
		must(b.Set(indexed(prefixLog, e.GetIndex()), marshal(e), nil))
	}
}

// replace makes a snapshot the whole content, log included.
func (s *Store) replace(b *pebble.Batch, snapshot *raftpb.Snapshot, machine *kv.Machine) {
	for _, prefix := range []byte{prefixLog, prefixEntry, prefixSession} {
		must(b.DeleteRange([]byte{prefix}, []byte{prefix + 1}, nil))
	}
	putStart(b, snapshot.GetMetadata(), machine)
}

// Change is what applying some entries changed.
type Change struct {
	Applied uint64                  // the last of them
	Conf    *raftpb.ConfState       // nil: the same as before
	Entries map[string]fabric.Entry // by key; a nil value: deleted
	Clients map[uint64]struct{}     // whose sessions changed
}

// SaveApplied writes what changed in the machine. It does not wait for the disk: the log has it all.
func (s *Store) SaveApplied(c Change) error {
	b := s.db.NewBatch()
	for key, e := range c.Entries {
		if e.Value == nil {
			must(b.Delete(named(key), nil))
		} else {
			must(b.Set(named(key), kv.EncodeEntry(e), nil))
		}
	}
	for client := range c.Clients {
		must(b.Set(indexed(prefixSession, client), s.machine.EncodeSession(client), nil))
	}
	if c.Conf != nil {
		must(b.Set(keyConfState, marshal(c.Conf), nil))
		s.conf = c.Conf
	}
	putApplied(b, c.Applied, s.machine.Revision())
	s.applied = c.Applied
	return s.commit(b, false)
}

// Trim drops the beginning of the log once it is long, and never what is not applied.
func (s *Store) Trim() error {
	first, err := s.FirstIndex()
	if err != nil || s.applied < first {
		return err
	}
	if s.applied-first < 2*retainEntries && s.logBytes < 2*retainBytes {
		return nil
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	entries, err := s.Entries(first, last+1, ^uint64(0))
	if err != nil {
		return fmt.Errorf("log from %d to %d: %w", first, last, err)
	}
	upTo, bytes := cut(entries, s.applied)
	if upTo < first {
		return nil
	}
	term, err := s.Term(upTo)
	if err != nil {
		return fmt.Errorf("log entry %d: %w", upTo, err)
	}
	b := s.db.NewBatch()
	must(b.DeleteRange([]byte{prefixLog}, indexed(prefixLog, upTo+1), nil))
	putTruncated(b, upTo, term)
	if err := s.commit(b, false); err != nil {
		return err
	}
	s.logBytes = bytes
	return s.Compact(upTo)
}

// cut finds the last entry that can go, and the bytes of those that stay. Everything after applied stays, and
// before it what retainEntries and retainBytes allow.
func cut(entries []*raftpb.Entry, applied uint64) (upTo uint64, kept int) {
	retained := 0
	for _, e := range slices.Backward(entries) {
		size := len(e.GetData())
		if e.GetIndex() <= applied {
			if retained++; retained > retainEntries || kept+size > retainBytes {
				return e.GetIndex(), kept
			}
		}
		kept += size
	}
	return 0, kept
}

func (s *Store) commit(b *pebble.Batch, sync bool) error {
	options := pebble.NoSync
	if sync {
		options = pebble.Sync
	}
	if err := s.fuse.Guard(func() error { return errors.Join(b.Commit(options), b.Close()) }); err != nil {
		return fmt.Errorf("cannot write the table's log: %w", err)
	}
	return nil
}

func putHardState(b *pebble.Batch, h *raftpb.HardState) { must(b.Set(keyHardState, marshal(h), nil)) }

// putStart writes where a log begins, and the machine's state there.
func putStart(b *pebble.Batch, m *raftpb.SnapshotMetadata, machine *kv.Machine) {
	putTruncated(b, m.GetIndex(), m.GetTerm())
	must(b.Set(keyConfState, marshal(m.GetConfState()), nil))
	putApplied(b, m.GetIndex(), machine.Revision())
	for _, e := range machine.List("") {
		must(b.Set(named(e.Key), kv.EncodeEntry(e), nil))
	}
	for _, client := range machine.Sessions() {
		must(b.Set(indexed(prefixSession, client), machine.EncodeSession(client), nil))
	}
}

func putTruncated(b *pebble.Batch, index, term uint64) {
	must(b.Set(keyTruncated, append(number(index), number(term)...), nil))
}

func putApplied(b *pebble.Batch, index, revision uint64) {
	must(b.Set(keyApplied, append(number(index), number(revision)...), nil))
}

func named(key string) []byte { return append([]byte{prefixEntry}, key...) }

func indexed(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	must(err)
	return b
}

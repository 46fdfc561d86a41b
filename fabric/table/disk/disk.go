// Package disk keeps one node's part of the replicated table in a small Pebble
// database: the Raft log and hard state, and the state machine as far as it was applied.
//
// A Store is a raft.Storage. The log's retained tail is also in memory, bounded by Trim, so that Raft
// never waits for a read. What Save returns from is durable; what SaveApplied wrote may be lost in a
// crash, but only from its end, and the log then repeats it. A Store belongs to one goroutine.
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"orrery/fabric/table/kv"
	"orrery/internal/fuse"
)

// formatVersion is the version of the layout below. A store of another version is refused.
const formatVersion = 1

// The layout. DESIGN.md of the table explains it.
var (
	keyVersion     = []byte("v")
	keySelf        = []byte("n")
	keyIncarnation = []byte("i")
	keyHardState   = []byte("h")
	keyConfState   = []byte("c")
	keyApplied     = []byte("a")
	keyTruncated   = []byte("t")
)

const (
	prefixLog     = 'l'
	prefixEntry   = 'k'
	prefixSession = 's'
)

// The log keeps at least retainEntries or retainBytes behind what was applied, whichever is less, and at most
// twice that. A node that is further behind gets a snapshot.
const (
	retainEntries = 1024
	retainBytes   = 4 << 20
)

var (
	// ErrFormat says that a database is of another version, or of another node.
	ErrFormat = errors.New("cannot be used")
	// ErrFailed says that the database gave up after an error, such as a full disk; only opening it anew helps.
	ErrFailed = fuse.ErrFailed
)

// Config says where a store is.
type Config struct {
	Directory string
	FS        vfs.FS // nil: the machine's file system
	Self      uint64 // the node's Raft id
	Logger    *slog.Logger
}

// Store is one node's log and applied state.
type Store struct {
	*raft.MemoryStorage

	db       *pebble.DB
	fuse     *fuse.Fuse
	logBytes int // of the retained entries
	hard     *raftpb.HardState
	conf     *raftpb.ConfState
	applied  uint64
	machine  *kv.Machine

	incarnation uint64
}

var _ raft.Storage = (*Store)(nil)

// Create writes a new table with one voter, c.Self, and machine as its first state. It is
// an error that matches fs.ErrExist if the directory holds a table already.
func Create(c Config, machine *kv.Machine) error {
	f := fuse.New(c.Logger, "of the table", "restart the node")
	return f.Run(func() error {
		db, _, err := open(c, f)
		if err != nil {
			return err
		}
		return errors.Join(create(c, db, machine), db.Close())
	})
}

func create(c Config, db *pebble.DB, machine *kv.Machine) error {
	version, err := get(db, keyVersion)
	switch {
	case err != nil:
		return fmt.Errorf("table in %s: %w", c.Directory, err)
	case version != nil:
		return fmt.Errorf("cannot create a table in %s: %w (open it, or remove the folder to give up its data)", c.Directory, fs.ErrExist)
	}
	b := db.NewBatch()
	must(b.Set(keyVersion, []byte{formatVersion}, nil))
	must(b.Set(keySelf, number(c.Self), nil))
	// Index 1 of term 1 is the beginning that everyone else gets as a snapshot.
	first := &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)), ConfState: &raftpb.ConfState{Voters: []uint64{c.Self}}}
	putHardState(b, &raftpb.HardState{Term: new(uint64(1)), Commit: new(uint64(1))})
	putStart(b, first, machine)
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("cannot create a table in %s: %w", c.Directory, err)
	}
	return nil
}

// Open opens what is in the directory; an empty one becomes a node without log, that waits to be added to a table.
// No incarnation that it returns was returned before: it is above all earlier ones, and at least atLeast.
func Open(c Config, atLeast uint64) (*Store, error) {
	s := &Store{MemoryStorage: raft.NewMemoryStorage(), fuse: fuse.New(c.Logger, "of the table", "restart the node"), machine: kv.New()}
	err := s.fuse.Run(func() error {
		db, files, err := open(c, s.fuse)
		if err != nil {
			return err
		}
		s.db = db
		if err := errors.Join(s.begin(c, atLeast), s.load()); err != nil {
			return errors.Join(fmt.Errorf("table in %s: %w", c.Directory, err), db.Close())
		}
		files.Arm()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func open(c Config, f *fuse.Fuse) (*pebble.DB, *fuse.Files, error) {
	files := f.FS(c.FS)
	o := &pebble.Options{
		FS:                          files,
		Logger:                      f,
		EventListener:               f.Listener(),
		FormatMajorVersion:          pebble.FormatNewest,
		CacheSize:                   1 << 20,
		MemTableSize:                1 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		MaxManifestFileSize:         1 << 20,
		MaxOpenFiles:                64,
	}
	db, err := pebble.Open(c.Directory, o)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the table in %s: %w", c.Directory, err)
	}
	return db, files, nil
}

// begin checks whose store this is and starts a new incarnation.
func (s *Store) begin(c Config, atLeast uint64) error {
	b := s.db.NewBatch()
	version, err := get(s.db, keyVersion)
	if err != nil {
		return err
	}
	if version == nil {
		must(b.Set(keyVersion, []byte{formatVersion}, nil))
		must(b.Set(keySelf, number(c.Self), nil))
	} else if err := s.check(version, c.Self); err != nil {
		return err
	}
	last, err := s.number(keyIncarnation)
	if err != nil {
		return err
	}
	s.incarnation = max(last+1, atLeast)
	must(b.Set(keyIncarnation, number(s.incarnation), nil))
	return b.Commit(pebble.Sync)
}

func (s *Store) check(version []byte, self uint64) error {
	if len(version) != 1 || version[0] != formatVersion {
		return fmt.Errorf("%w: its format is %v and this program's is %d", ErrFormat, version, formatVersion)
	}
	owner, err := s.number(keySelf)
	if err != nil {
		return err
	}
	if owner != self {
		return fmt.Errorf("%w: it belongs to node %016x, not to %016x (a folder serves one node for life)", ErrFormat, owner, self)
	}
	return nil
}

// Close closes the database. One that failed is left alone: Pebble would wait for work that ended.
func (s *Store) Close() error {
	if s.fuse.Blown() {
		return nil
	}
	return s.fuse.Guard(s.db.Close)
}

// InitialState returns the hard state and the configuration as of the applied index.
func (s *Store) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

// Snapshot returns the state machine as it is applied now.
func (s *Store) Snapshot() (*raftpb.Snapshot, error) {
	term, err := s.Term(s.applied)
	if err != nil {
		return nil, fmt.Errorf("snapshot at index %d: %w", s.applied, err)
	}
	return &raftpb.Snapshot{
		Data: s.machine.Snapshot(),
		Metadata: &raftpb.SnapshotMetadata{
			Index:     new(s.applied),
			Term:      new(term),
			ConfState: proto.Clone(s.conf).(*raftpb.ConfState), //nolint:forcetypeassert // Clone keeps the type
		},
	}, nil
}

// Machine is the applied state machine. Only the store's owner changes it, and says so by SaveApplied.
func (s *Store) Machine() *kv.Machine { return s.machine }

// Applied is the index of the last entry that Machine holds.
func (s *Store) Applied() uint64 { return s.applied }

// Conf is the configuration as of Applied. It must not be changed.
func (s *Store) Conf() *raftpb.ConfState { return s.conf }

// Incarnation is a number that grows with every Open.
func (s *Store) Incarnation() uint64 { return s.incarnation }

// must panics where an operation on memory cannot go wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

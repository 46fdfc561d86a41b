// Package disk keeps the replicas of a node in one Pebble database: for each chain its log, its keys and values as of the applied entry, the
// results that clients may ask for again, and which keys expire when.
//
// All chains share the database's write-ahead log, so that one sync serves those that wait for it. What Write wrote is read at once and is durable after the next Sync
// that begins later; a crash takes the database back to a state between two writes, never to a part of one. What is applied changes memory first: the keys
// follow now and then, together, each with its newest value only, and opening a store applies again what the log has and they have not. A store that failed once
// stays failed: only opening the database anew tells what it has.
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/fabric/chain"
	"orrery/internal/fuse"
)

// formatVersion is the version of the layout below. A database of another version is refused, but for version 1, which has all keys settled and becomes one of this.
const formatVersion = 2

// The layout. All integers in keys are 8 bytes, big endian; uv is an unsigned varint. g is the chain's number of copies: a copy is put beside what it replaces.
//
//	"v"                     formatVersion, 1 byte
//	"c" chain               g
//	"d" chain g "a"         uv applied sequence, uv its epoch
//	"d" chain g "s"         uv the sequence up to which keys, expiry and results are there; what follows, up to the applied one, is in the log. Missing until the chain's store is opened
//	"d" chain g "m"         uv incarnation of the last process that was a member and ended in order
//	"d" chain g "l" seq     entry (wire)
//	"d" chain g "k" key     uv version, varint expires, value
//	"d" chain g "e" time key    nothing: the key expires then
//	"d" chain g "r" client request   uv floor, uv sequence, result
const (
	spaceVersion = 'v'
	spaceChain   = 'c'
	spaceData    = 'd'

	partApplied = 'a'
	partSettled = 's'
	partLog     = 'l'
	partMember  = 'm'
	partKey     = 'k'
	partExpiry  = 'e'
	partResult  = 'r'
)

var (
	// ErrFormat says that a database is of another version.
	ErrFormat = errors.New("cannot be used")
	// ErrFailed says that the database gave up after an error, such as a full disk.
	ErrFailed = fuse.ErrFailed
)

// Config says where the database is.
type Config struct {
	Directory string
	FS        vfs.FS // nil: the machine's file system
	Cache     int64  // bytes; 0: 64 MiB
	MemTable  uint64 // bytes that are gathered in memory before they become a table; up to four times as many wait. 0: 16 MiB
	// KeepEntries and KeepBytes are about how much a log keeps behind what was applied, for replicas that come back and for watches. 32Ki; 64 MiB.
	KeepEntries uint64
	KeepBytes   int
	// Recent is how many entries of a chain are applied in memory before the keys that they change are written, each once. 0: 1 Ki.
	Recent int
	Logger *slog.Logger
}

// Disk is a node's database.
type Disk struct {
	db   *pebble.DB
	fuse *fuse.Fuse

	keepEntries uint64
	keepBytes   int
	recent      int

	mu   sync.Mutex
	open map[chain.ID]bool
}

// Open opens the database in a folder, an empty one if there is none.
func Open(c Config) (*Disk, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.KeepEntries == 0 {
		c.KeepEntries = 32 << 10
	}
	if c.KeepBytes == 0 {
		c.KeepBytes = 64 << 20
	}
	if c.Recent == 0 {
		c.Recent = 1 << 10
	}
	if c.Cache == 0 {
		c.Cache = 64 << 20
	}
	if c.MemTable == 0 {
		c.MemTable = 16 << 20
	}
	d := &Disk{fuse: fuse.New(c.Logger, "of chains", "restart the node"), open: map[chain.ID]bool{}, keepEntries: c.KeepEntries, keepBytes: c.KeepBytes, recent: c.Recent}
	if err := d.fuse.Run(func() error { return d.start(&c) }); err != nil {
		return nil, fmt.Errorf("cannot open the chains' database in %s: %w", c.Directory, damaged(err))
	}
	return d, nil
}

func (d *Disk) start(c *Config) (err error) {
	cache := pebble.NewCache(c.Cache)
	defer cache.Unref()
	fs := d.fuse.FS(c.FS)
	o := &pebble.Options{
		FS: fs, Logger: d.fuse, EventListener: d.fuse.Listener(), FormatMajorVersion: pebble.FormatNewest, Cache: cache,
		MemTableSize: c.MemTable, MemTableStopWritesThreshold: 4, L0CompactionThreshold: 4, L0StopWritesThreshold: 24, MaxOpenFiles: 512,
	}
	o.Experimental.ReadSamplingMultiplier = -1 // what is read asks for no compaction, which whoever closes an iterator would have to wait for
	o.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	if d.db, err = pebble.Open(c.Directory, o); err != nil {
		return err
	}
	if err := d.begin(); err != nil {
		return errors.Join(err, d.db.Close())
	}
	fs.Arm()
	return nil
}

func (d *Disk) begin() error {
	version, err := get(d.db, []byte{spaceVersion})
	switch {
	case err != nil:
		return err
	case version == nil, len(version) == 1 && version[0] == 1:
		return d.db.Set([]byte{spaceVersion}, []byte{formatVersion}, pebble.Sync)
	case len(version) != 1 || version[0] != formatVersion:
		return fmt.Errorf("%w: its format is %v and this program's is %d", ErrFormat, version, formatVersion)
	}
	return nil
}

// Close closes the database; its stores are not used any more. One that failed is left alone: Pebble would wait for work that ended.
func (d *Disk) Close() error {
	if d.fuse.Blown() {
		return nil
	}
	return d.fuse.Guard(d.db.Close)
}

// List names the chains that have a store, in order.
func (d *Disk) List() ([]chain.ID, error) {
	it, err := d.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceChain}, UpperBound: []byte{spaceChain + 1}})
	if err != nil {
		return nil, err
	}
	var ids []chain.ID
	for it.First(); it.Valid(); it.Next() {
		if len(it.Key()) == 9 {
			ids = append(ids, chain.ID(binary.BigEndian.Uint64(it.Key()[1:])))
		}
	}
	return ids, ended(it)
}

// Remove deletes a chain's store, which must not be open.
func (d *Disk) Remove(id chain.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[id] {
		return fmt.Errorf("chain %d is in use", id)
	}
	b := d.db.NewBatch()
	start, end := between(number([]byte{spaceData}, uint64(id)))
	if err := errors.Join(b.DeleteRange(start, end, nil), b.Delete(number([]byte{spaceChain}, uint64(id)), nil)); err != nil {
		return errors.Join(err, b.Close())
	}
	return d.commit(b, pebble.Sync)
}

// get returns a copy of a key's value; nil if there is none.
func get(from pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, damaged(err)
	}
	return append([]byte{}, v...), closer.Close()
}

func number(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

// between are the bounds of the keys with a prefix, which does not end in 0xff.
func between(prefix []byte) (start, end []byte) {
	end = append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return prefix, end[:i+1]
		}
	}
	return prefix, nil
}

// damaged names what was read and is not what was written.
func damaged(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, chain.ErrCorrupt) {
		return fmt.Errorf("%w: %w", chain.ErrCorrupt, err)
	}
	return err
}

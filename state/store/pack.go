package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
)

const (
	packMagic   = "ORRPACK\x01"
	packEnd     = "ORRPEND\x01"
	packTrailer = 8 + 32 + int64(len(packEnd))
	packSuffix  = ".pack"
	// Packs of imports are not pruned for a while, so that what was imported can be adopted.
	importPrefix = "import-"
	savePrefix   = "save-"
	writeBuffer  = 256 << 10
	// syncEvery is how much is written before it is made durable, in bytes. Programs that sync their own files
	// meanwhile wait for the disk that long, and not for the whole pack.
	syncEvery = 16 << 20
)

// pack is the index of a pack file, sorted by name.
type pack struct {
	name    string
	size    int64
	entries []entry
	dead    []byte // see deadObjects
	broken  error  // why its index cannot be used
	damaged error  // why the copy of its index is used
}

func (p *pack) find(name digest) *entry {
	i, ok := slices.BinarySearchFunc(p.entries, name, func(e entry, name digest) int {
		return bytes.Compare(e.name[:], name[:])
	})
	if !ok || p.dies(i) {
		return nil
	}
	return &p.entries[i]
}

// packWriter writes objects into a file that becomes a pack when it is committed.
type packWriter struct {
	store   *Store
	prefix  string
	temp    string
	file    file
	buffer  []byte
	offset  int64
	synced  int64 // the offset up to which the file is durable
	entries []entry
	names   map[digest]int
}

func (s *Store) newPack(prefix string) *packWriter {
	return &packWriter{store: s, prefix: prefix, names: map[digest]int{}}
}

// add writes an object. The file comes into being with the first one.
func (w *packWriter) add(e entry, content []byte) error {
	if w.file == nil {
		temp := w.store.temporary()
		f, err := w.store.files.Create(temp)
		if err != nil {
			return err
		}
		w.temp, w.file = temp, f
		if err := w.write([]byte(packMagic)); err != nil {
			return err
		}
	}
	e.offset, e.stored = w.offset, int64(len(content))
	w.names[e.name] = len(w.entries)
	w.entries = append(w.entries, e)
	return w.write(content)
}

func (w *packWriter) find(name digest) *entry {
	if i, ok := w.names[name]; ok {
		return &w.entries[i]
	}
	return nil
}

func (w *packWriter) write(b []byte) error {
	w.offset += int64(len(b))
	w.buffer = append(w.buffer, b...)
	if len(w.buffer) < writeBuffer {
		return nil
	}
	return w.flush()
}

func (w *packWriter) flush() error {
	_, err := w.file.Write(w.buffer)
	w.buffer = w.buffer[:0]
	if err != nil || w.offset-w.synced < syncEvery {
		return err
	}
	w.synced = w.offset
	return w.file.Pace()
}

// commit makes the objects part of the store. An empty writer adds nothing.
func (w *packWriter) commit() (size int64, err error) {
	if w.file == nil {
		return 0, nil
	}
	if err := w.write(w.index()); err != nil {
		return 0, errors.Join(err, w.abort())
	}
	if err := errors.Join(w.flush(), w.file.Sync()); err != nil {
		return 0, errors.Join(err, w.abort())
	}
	f := w.file
	w.file = nil
	if err := f.Close(); err != nil {
		return 0, errors.Join(err, w.store.files.Remove(w.temp))
	}
	return w.offset, w.store.publish(w.temp, filepath.Join(w.store.packs(), w.prefix+random()+packSuffix))
}

// index is the end of a pack: the sorted entries, their length, their checksum; all that twice, for it is what the
// rest cannot be read without.
func (w *packWriter) index() []byte {
	sorted := slices.Clone(w.entries)
	slices.SortFunc(sorted, func(a, b entry) int { return bytes.Compare(a.name[:], b.name[:]) })
	b := binary.AppendUvarint(nil, uint64(len(sorted)))
	for i := range sorted {
		b = sorted[i].append(b)
	}
	check := sum(b, free)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(b)))
	b = append(append(b, check[:]...), packEnd...)
	return append(b, b...)
}

// abort leaves nothing behind. It may follow a commit.
func (w *packWriter) abort() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return errors.Join(err, w.store.files.Remove(w.temp))
}

// readPack reads a pack's index. What is wrong with it is kept in broken: the other packs serve on.
func (s *Store) readPack(name string, size int64) (*pack, error) {
	p := &pack{name: name, size: size}
	var err error
	if p.entries, err = decodeTail(s.cache.get(name), size); err == nil {
		return p, nil
	}
	f, err := s.files.Open(filepath.Join(s.packs(), name))
	if err != nil {
		return nil, err
	}
	tail, err := readTail(f.ReadAt, size)
	if err == nil {
		p.entries, err = decodeTail(tail, size)
	}
	if err == nil {
		s.cache.put(name, tail)
	} else {
		err = fmt.Errorf("pack %s: %w", filepath.Join(s.packs(), name), err)
		if p.entries, p.damaged = salvageIndex(f.ReadAt, size), err; p.entries == nil {
			p.broken = err
		}
	}
	return p, f.Close()
}

func decodeIndex(readAt func([]byte, int64) (int, error), size int64) ([]entry, error) {
	tail, err := readTail(readAt, size)
	if err != nil {
		return nil, err
	}
	return decodeTail(tail, size)
}

// readTail reads what a pack has behind its objects.
func readTail(readAt func([]byte, int64) (int, error), size int64) ([]byte, error) {
	if size < int64(len(packMagic))+packTrailer {
		return nil, fmt.Errorf("%w: shorter than a pack can be", state.ErrCorrupt)
	}
	var trailer [packTrailer]byte
	if _, err := readAt(trailer[:], size-packTrailer); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint64(trailer[:]) & (1<<63 - 1))
	var magic [len(packMagic)]byte
	if _, err := readAt(magic[:], 0); err != nil {
		return nil, err
	}
	if string(trailer[40:]) != packEnd || string(magic[:]) != packMagic || length > size-packTrailer-int64(len(packMagic)) {
		return nil, fmt.Errorf("%w: not a pack of version 1", state.ErrCorrupt)
	}
	tail := make([]byte, length+packTrailer)
	_, err := readAt(tail, size-int64(len(tail)))
	return tail, err
}

// decodeTail decodes the index and what follows it, of a pack of the given size.
func decodeTail(tail []byte, size int64) ([]entry, error) {
	length := int64(len(tail)) - packTrailer
	if length < 0 || size < int64(len(tail)) {
		return nil, fmt.Errorf("%w: not the end of a pack", state.ErrCorrupt)
	}
	index, trailer := tail[:length], tail[length:]
	if int64(binary.LittleEndian.Uint64(trailer)) != length || string(trailer[40:]) != packEnd {
		return nil, fmt.Errorf("%w: not a pack of version 1", state.ErrCorrupt)
	}
	if sum(index, free) != digest(trailer[8:40]) {
		return nil, fmt.Errorf("%w: checksum of the index differs", state.ErrCorrupt)
	}
	return decodeEntries(index, size-int64(len(tail)))
}

// decodeEntries decodes a pack's index, whose objects end before end.
func decodeEntries(index []byte, end int64) ([]entry, error) {
	d := decoder{b: index}
	entries := make([]entry, d.uvarint(int64(len(index))/36))
	for i := range entries {
		e, err := d.entry()
		if err != nil {
			return nil, err
		}
		if e.offset+e.stored > end || (i > 0 && bytes.Compare(entries[i-1].name[:], e.name[:]) >= 0) {
			return nil, fmt.Errorf("%w: objects out of place", state.ErrCorrupt)
		}
		entries[i] = e
	}
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: malformed index", state.ErrCorrupt)
	}
	return entries, nil
}

// indexes returns the indexes of all packs that exist now.
func (s *Store) indexes() ([]*pack, error) {
	listed, err := s.files.ReadDir(s.packs())
	if err != nil {
		return nil, err
	}
	dead, err := s.readDead()
	if err != nil && !errors.Is(err, state.ErrCorrupt) {
		return nil, err
	}
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	now := make(map[string]*pack, len(listed))
	all := make([]*pack, 0, len(listed))
	for _, l := range listed {
		if !strings.HasSuffix(l.Name(), packSuffix) {
			continue
		}
		p := known[l.Name()]
		if p == nil || p.broken != nil || p.size != l.Size() {
			p, err = s.readPack(l.Name(), l.Size())
			if errors.Is(err, fs.ErrNotExist) {
				continue // pruned meanwhile
			}
			if err != nil {
				return nil, err
			}
		}
		all = append(all, p)
	}
	if dead == nil { // never pruned, or the list is damaged or gone
		dead = orphans(all)
	}
	for i, p := range all {
		p = p.with(dead[p.name])
		all[i], now[p.name] = p, p
	}
	s.mu.Lock()
	s.forget(now)
	s.known = now
	s.mu.Unlock()
	s.cache.keep(now)
	return all, nil
}

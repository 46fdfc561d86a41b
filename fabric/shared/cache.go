package shared

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"orrery/fabric"
	"orrery/fabric/table/kv"
)

// cache is the file of what a node knows. It is a hint, so it is not synced with each change; what is cut short or damaged is left out, with what follows.
//
//	magic, then frames: length of the content and its CRC-32C, 4 bytes each, big endian; content
//	content: revision, count (unsigned varints); of each key: 1 (written) or 0 (deleted), its revision, and lengths of key and value (unsigned varints), key, value
type cache struct {
	path string
	file *os.File
	size int64 // of the file
	full int64 // of the file when it had no old keys
}

const (
	cacheMagic = "orrery shared keys 1\n"
	frameHead  = 8
	// maxFrame is more than the largest content: a table that is full, and what is around its keys.
	maxFrame = 2 * kv.MaxSize
	// spare is how much of old keys a file may have at any rate.
	spare = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openCache opens a file, or makes it, and returns what is in it.
func openCache(path string) (*cache, fabric.Change, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fabric.Change{}, err
	}
	kept, size, err := readCache(bufio.NewReader(file))
	if err == nil {
		err = file.Truncate(size)
	}
	if err == nil {
		_, err = file.Seek(size, io.SeekStart)
	}
	if err == nil && size == 0 {
		size = int64(len(cacheMagic))
		_, err = file.WriteString(cacheMagic)
	}
	if err != nil {
		return nil, fabric.Change{}, errors.Join(err, file.Close())
	}
	return &cache{path: path, file: file, size: size, full: size}, kept, nil
}

// readCache reads frames up to the first that is not whole, and returns how many bytes were good.
func readCache(r io.Reader) (kept fabric.Change, size int64, err error) {
	magic := make([]byte, len(cacheMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != cacheMagic {
		return kept, 0, ignoreShort(err)
	}
	size = int64(len(magic))
	entries := map[string]fabric.Entry{}
	for {
		content, err := readFrame(r)
		if err != nil || content == nil {
			return collect(entries, kept.Revision), size, err
		}
		change, ok := decodeChange(content)
		if !ok {
			return collect(entries, kept.Revision), size, nil
		}
		for _, e := range change.Entries {
			if entries[e.Key] = e; e.Value == nil {
				delete(entries, e.Key)
			}
		}
		kept.Revision = change.Revision
		size += frameHead + int64(len(content))
	}
}

func collect(entries map[string]fabric.Entry, revision uint64) fabric.Change {
	c := fabric.Change{Revision: revision}
	for _, e := range entries {
		c.Entries = append(c.Entries, e)
	}
	return c
}

// readFrame returns the next frame's content; nil if there is no whole one.
func readFrame(r io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, ignoreShort(err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 || length > maxFrame {
		return nil, nil
	}
	content, err := io.ReadAll(io.LimitReader(r, int64(length))) // it grows with what is there: the length may be wrong
	if err != nil || len(content) < int(length) || crc32.Checksum(content, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, err
	}
	return content, nil
}

func ignoreShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func encodeChange(c fabric.Change) []byte {
	b := append([]byte{}, make([]byte, frameHead)...) // filled in below
	b = binary.AppendUvarint(b, c.Revision)
	b = binary.AppendUvarint(b, uint64(len(c.Entries)))
	for _, e := range c.Entries {
		written := byte(1)
		if e.Value == nil {
			written = 0
		}
		b = append(b, written)
		b = binary.AppendUvarint(b, e.Revision)
		b = binary.AppendUvarint(b, uint64(len(e.Key)))
		b = binary.AppendUvarint(b, uint64(len(e.Value)))
		b = append(append(b, e.Key...), e.Value...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-frameHead)) //nolint:gosec // at most maxFrame, see the table's limits
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[frameHead:], castagnoli))
	return b
}

func decodeChange(b []byte) (c fabric.Change, ok bool) {
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b, n = nil, 0
			ok = false
		}
		b = b[n:]
		return v
	}
	ok = true
	c.Revision = number()
	for count := number(); count > 0 && ok; count-- {
		if len(b) == 0 || b[0] > 1 {
			return fabric.Change{}, false
		}
		written := b[0] == 1
		b = b[1:]
		e := fabric.Entry{Revision: number()}
		key, value := number(), number()
		if !ok || key > uint64(len(b)) || value > uint64(len(b))-key || !written && value > 0 {
			return fabric.Change{}, false
		}
		e.Key = string(b[:key])
		if written {
			e.Value = append([]byte{}, b[key:key+value]...)
		}
		b = b[key+value:]
		c.Entries = append(c.Entries, e)
	}
	return c, ok && len(b) == 0
}

// append adds a change. When much of the file is old it is written anew.
func (c *cache) append(change fabric.Change, everything func() fabric.Change) error {
	if c == nil || c.file == nil {
		return nil
	}
	b := encodeChange(change)
	n, err := c.file.Write(b)
	c.size += int64(n)
	if err != nil {
		return c.give(err)
	}
	if c.size > 2*c.full+spare {
		return c.reset(everything())
	}
	return nil
}

// reset writes the file anew.
func (c *cache) reset(all fabric.Change) error {
	if c == nil || c.file == nil {
		return nil
	}
	next, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+".*")
	if err != nil {
		return c.give(err)
	}
	content := append([]byte(cacheMagic), encodeChange(all)...)
	_, err = next.Write(content)
	if err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(next.Name(), c.path)
	}
	if err != nil {
		return c.give(errors.Join(err, next.Close(), os.Remove(next.Name())))
	}
	old := c.file
	c.file, c.size, c.full = next, int64(len(content)), int64(len(content))
	return old.Close()
}

// give stops using the file: it keeps what it has, which gets old.
func (c *cache) give(err error) error {
	file := c.file
	c.file = nil
	return fmt.Errorf("cannot write %s: %w", c.path, errors.Join(err, file.Close()))
}

func (c *cache) close() error {
	if c == nil || c.file == nil {
		return nil
	}
	file := c.file
	c.file = nil
	return file.Close()
}

package git

import (
	"bufio"
	"compress/zlib"
	"context"
	"crypto/sha1" //nolint:gosec // what Git names objects by
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"orrery/internal/command"
	"orrery/state"
)

// packType are Git's numbers for the types of objects.
var packType = map[string]byte{"commit": 1, "tree": 2, "blob": 3, "tag": 4}

// store has git index-pack take the objects, from a pack in which each is whole. It finds their ids itself.
func (s *stream) store(ctx context.Context, side, format string) error {
	first, err := s.r.Peek(len("objects 0\n"))
	if err == nil && string(first) == "objects 0\n" {
		return s.each(nil)
	}
	err = feed(ctx, side, func(w io.Writer) error { return s.pack(w, format) }, "index-pack", "--stdin")
	if failure, ok := errors.AsType[*command.Failure](err); ok {
		return fmt.Errorf("%w: %w", state.ErrCorrupt, failure)
	}
	return err
}

// packSum is what a pack ends with a sum by.
func packSum(format string) hash.Hash {
	if format == "sha256" {
		return sha256.New()
	}
	return sha1.New() //nolint:gosec // it is Git's
}

// pack writes a pack of version 2.
func (s *stream) pack(w io.Writer, format string) error {
	sum := packSum(format)
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	compress, err := zlib.NewWriterLevel(out, zlib.BestSpeed)
	if err != nil {
		return err
	}
	begun := false
	err = s.each(func(kind string, size int64, content io.Reader) error {
		if !begun {
			begun = true
			head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(s.objects)) //nolint:gosec // number saw to it
			if _, err := out.Write(head); err != nil {
				return err
			}
		}
		if _, err := out.Write(entryHead(packType[kind], uint64(size))); err != nil { //nolint:gosec // not negative
			return err
		}
		compress.Reset(out)
		if _, err := io.Copy(compress, content); err != nil {
			return err
		}
		return compress.Close()
	})
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// entryHead is an object's type and size as a pack has them.
func entryHead(kind byte, size uint64) []byte {
	b := kind<<4 | byte(size&0xf)
	size >>= 4
	var head []byte
	for size > 0 {
		head = append(head, b|0x80)
		b = byte(size & 0x7f)
		size >>= 7
	}
	return append(head, b)
}

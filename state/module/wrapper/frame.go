package wrapper

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"orrery/state"
)

// A snapshot is what the program wrote, in a frame by which a shorter or another one shows:
//
//	"ORRERY-WRAPPER-1\n", blocks, a block of length 0, the SHA-256 of the content
//
// A block is its length (4 bytes, big-endian) and its bytes; all but the last are of blockSize bytes, so that the same
// content always has the same frame.
const (
	magic     = "ORRERY-WRAPPER-1\n"
	blockSize = 64 << 10
)

// framer writes a frame. Close ends it, and does not close what it writes to.
type framer struct {
	w      io.Writer
	block  []byte
	sum    hash.Hash
	begun  bool
	length [4]byte
}

func newFramer(w io.Writer) *framer {
	return &framer{w: w, block: make([]byte, 0, blockSize), sum: sha256.New()}
}

func (f *framer) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 {
		n := min(len(b), blockSize-len(f.block))
		f.block = append(f.block, b[:n]...)
		b = b[n:]
		if len(f.block) == blockSize {
			if err := f.flush(); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

func (f *framer) flush() error {
	if !f.begun {
		f.begun = true
		if _, err := io.WriteString(f.w, magic); err != nil {
			return err
		}
	}
	binary.BigEndian.PutUint32(f.length[:], uint32(len(f.block))) //nolint:gosec // at most blockSize
	if _, err := f.w.Write(f.length[:]); err != nil {
		return err
	}
	_, err := f.w.Write(f.block)
	f.sum.Write(f.block)
	f.block = f.block[:0]
	return err
}

// Close writes the end.
func (f *framer) Close() error {
	if len(f.block) > 0 {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if err := f.flush(); err != nil { // the block of length 0
		return err
	}
	_, err := f.w.Write(f.sum.Sum(nil))
	return err
}

// unframe writes the content of a frame, and fails with state.ErrCorrupt if it is not whole.
func unframe(r io.Reader, w io.Writer) error {
	in := bufio.NewReaderSize(r, blockSize)
	head := make([]byte, len(magic))
	if err := full(in, head); err != nil {
		return err
	}
	if string(head) != magic {
		return fmt.Errorf("%w: not a snapshot of a wrapper", state.ErrCorrupt)
	}
	sum, block, last := sha256.New(), make([]byte, blockSize), false
	for {
		var length [4]byte
		if err := full(in, length[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(length[:])
		if n == 0 {
			break
		}
		if n > blockSize || last {
			return fmt.Errorf("%w: block of %d bytes", state.ErrCorrupt, n)
		}
		last = n < blockSize
		if err := full(in, block[:n]); err != nil {
			return err
		}
		sum.Write(block[:n])
		if _, err := w.Write(block[:n]); err != nil {
			return err
		}
	}
	end := make([]byte, sha256.Size)
	if err := full(in, end); err != nil {
		return err
	}
	if string(end) != string(sum.Sum(nil)) {
		return fmt.Errorf("%w: the content is not what was written", state.ErrCorrupt)
	}
	switch _, err := in.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: something follows the end", state.ErrCorrupt)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func full(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the snapshot ends early", state.ErrCorrupt)
	}
	return err
}

package external

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"orrery/state"
)

// A snapshot is what the program wrote, in chunks, and its hash: a stream that was cut short is known as such before
// the program sees any of it. docs/formats/module-protocol.md has the format.
const (
	seal     = "Orrery module stream 1\n"
	maxChunk = 1 << 20
)

// sealing writes a sealed stream.
type sealing struct {
	w      io.Writer
	hash   hash.Hash
	buffer []byte // what is not written yet, behind room for a length
	err    error
}

func newSealing(w io.Writer) *sealing {
	s := &sealing{w: w, hash: sha256.New(), buffer: make([]byte, 4, 4+maxChunk)}
	_, s.err = io.WriteString(w, seal)
	return s
}

// Write implements io.Writer.
func (s *sealing) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && s.err == nil; {
		n := min(len(rest), 4+maxChunk-len(s.buffer))
		s.buffer = append(s.buffer, rest[:n]...)
		rest = rest[n:]
		if len(s.buffer) == 4+maxChunk {
			s.flush()
		}
	}
	return len(p), s.err
}

func (s *sealing) flush() {
	if s.err != nil || len(s.buffer) == 4 {
		return
	}
	s.hash.Write(s.buffer[4:])
	binary.BigEndian.PutUint32(s.buffer, uint32(len(s.buffer)-4)) //nolint:gosec // at most maxChunk
	_, s.err = s.w.Write(s.buffer)
	s.buffer = s.buffer[:4]
}

// finish says that the stream is complete.
func (s *sealing) finish() error {
	s.flush()
	if s.err == nil {
		_, s.err = s.w.Write(append(make([]byte, 4), s.hash.Sum(nil)...))
	}
	return s.err
}

// unsealing reads what was sealed. Its io.EOF says that all of it was read and is right.
type unsealing struct {
	r     io.Reader
	hash  hash.Hash
	left  int // of the chunk
	begun bool
	err   error
}

func newUnsealing(r io.Reader) *unsealing { return &unsealing{r: r, hash: sha256.New()} }

// Read implements io.Reader.
func (u *unsealing) Read(p []byte) (int, error) {
	if u.err == nil && u.left == 0 {
		u.err = u.next()
	}
	if u.err != nil || len(p) == 0 {
		return 0, u.err
	}
	n, err := u.r.Read(p[:min(len(p), u.left)])
	u.hash.Write(p[:n])
	u.left -= n
	if err != nil && (u.left > 0 || !errors.Is(err, io.EOF)) {
		u.err = broken(err)
	}
	return n, u.err
}

// next begins a chunk, or ends the stream.
func (u *unsealing) next() error {
	if !u.begun {
		begin := make([]byte, len(seal))
		if _, err := io.ReadFull(u.r, begin); err != nil {
			return broken(err)
		}
		if string(begin) != seal {
			return fmt.Errorf("%w: it is no snapshot of an external module", state.ErrCorrupt)
		}
		u.begun = true
	}
	var length [4]byte
	if _, err := io.ReadFull(u.r, length[:]); err != nil {
		return broken(err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxChunk {
		return fmt.Errorf("%w: a chunk of %d bytes", state.ErrCorrupt, n)
	}
	if u.left = int(n); n > 0 {
		return nil
	}
	return u.end()
}

func (u *unsealing) end() error {
	var sum [sha256.Size + 1]byte
	n, err := io.ReadFull(u.r, sum[:])
	switch {
	case n == len(sum):
		return fmt.Errorf("%w: there is more behind its end", state.ErrCorrupt)
	case n < sha256.Size || !errors.Is(err, io.ErrUnexpectedEOF):
		return broken(err)
	case string(sum[:n]) != string(u.hash.Sum(nil)):
		return fmt.Errorf("%w: its hash is another", state.ErrCorrupt)
	}
	return io.EOF
}

func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", state.ErrCorrupt)
	}
	return err
}

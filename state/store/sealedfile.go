package store

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"orrery/state"
	"orrery/state/vault"
)

const (
	pieceSize = vault.PieceSize + vault.Overhead
	// batch is how many pieces are read or written at once.
	batch = 32
)

// scratch is memory for pieces as they are in the file.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, batch*pieceSize); return &b }}

// reader reads an encrypted file of the given length.
func (s *sealed) reader(f file, length int64) (*sealedReader, error) {
	size, ok := vault.PlainSize(length)
	if !ok {
		return nil, fmt.Errorf("%w: no encrypted file has %d bytes", state.ErrCorrupt, length)
	}
	b := make([]byte, vault.HeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head, err := vault.ParseHeader(b)
	if err != nil {
		return nil, err
	}
	return &sealedReader{file: f, cipher: s.cipher, head: head, size: size, number: -1}, nil
}

// sealedReader decrypts a file. It keeps the piece that it read last, for objects are often smaller. Like the
// catalog that has it, it is not safe for concurrent use.
type sealedReader struct {
	file
	cipher *vault.Cipher
	head   vault.Header
	size   int64 // of the content
	number int64 // of the piece in piece; -1: none
	piece  []byte
}

func (r *sealedReader) ReadAt(b []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(b) {
		at := offset + int64(n)
		if at >= r.size {
			return n, io.EOF
		}
		if number := at / vault.PieceSize; number == r.number {
			n += copy(b[n:], r.piece[at%vault.PieceSize:])
			continue
		}
		k, err := r.pieces(b[n:], at)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// pieces reads some pieces from the one that holds the byte at offset, as far as b needs them.
func (r *sealedReader) pieces(b []byte, offset int64) (n int, err error) {
	first := offset / vault.PieceSize
	end := min(offset+int64(len(b)), r.size)
	last := min((end-1)/vault.PieceSize, first+batch-1)
	final := (r.size - 1) / vault.PieceSize
	length := (last - first + 1) * pieceSize
	if last == final {
		length -= (final+1)*vault.PieceSize - r.size
	}
	memory, _ := scratch.Get().(*[]byte)
	defer scratch.Put(memory)
	packed := grow(*memory, int(length))
	if _, err := r.file.ReadAt(packed, int64(vault.HeaderSize)+first*pieceSize); errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%w: the file is cut off", state.ErrCorrupt)
	} else if err != nil {
		return 0, err
	}
	for number := first; number <= last; number++ {
		one := packed[:min(pieceSize, len(packed))]
		packed = packed[len(one):]
		r.number = -1
		if r.piece, err = r.cipher.Open(r.piece[:0], r.head, uint64(number), number == final, one); err != nil {
			return n, err
		}
		r.number = number
		n += copy(b[n:], r.piece[(offset+int64(n))%vault.PieceSize:])
	}
	return n, nil
}

// sealedWriter encrypts a new file. What is not yet a whole piece stays in memory until Sync.
type sealedWriter struct {
	file
	cipher  *vault.Cipher
	head    vault.Header
	number  int64 // of the next piece, which pending begins
	pending []byte
	started bool // the header is written
	ended   bool
}

func (s *sealed) Create(name string) (file, error) {
	f, err := s.files.Create(name)
	if err != nil {
		return nil, err
	}
	return &sealedWriter{file: f, cipher: s.cipher, head: vault.NewHeader()}, nil
}

func (w *sealedWriter) Write(b []byte) (int, error) {
	if w.ended {
		return 0, errors.New("write to an encrypted file that has ended")
	}
	for n := 0; n < len(b); {
		part := b[n:min(len(b), n+(batch-1)*vault.PieceSize)]
		w.pending = append(w.pending, part...)
		n += len(part)
		if err := w.drain(); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// drain writes the pieces that are whole and not the last.
func (w *sealedWriter) drain() error {
	memory, _ := scratch.Get().(*[]byte)
	defer scratch.Put(memory)
	packed := w.begin((*memory)[:0])
	at := 0
	for ; len(w.pending)-at > vault.PieceSize; at += vault.PieceSize {
		packed = w.cipher.Seal(packed, w.head, uint64(w.number), false, w.pending[at:at+vault.PieceSize])
		w.number++
	}
	if at == 0 {
		return nil
	}
	w.pending = w.pending[:copy(w.pending, w.pending[at:])]
	return w.put(packed)
}

// begin puts the header in front of the first piece.
func (w *sealedWriter) begin(packed []byte) []byte {
	if w.started {
		return packed
	}
	return append(packed, w.head[:]...)
}

// put writes. After an error the file is good for nothing: its pieces' numbers are used up.
func (w *sealedWriter) put(packed []byte) error {
	w.started = true
	_, err := w.file.Write(packed)
	w.ended = w.ended || err != nil
	return err
}

// Sync writes the last piece.
func (w *sealedWriter) Sync() error {
	if err := w.end(); err != nil {
		return err
	}
	return w.file.Sync()
}

// Close writes it too: not every file is made durable.
func (w *sealedWriter) Close() error { return errors.Join(w.end(), w.file.Close()) }

func (w *sealedWriter) end() error {
	if w.ended {
		return nil
	}
	w.ended = true
	return w.put(w.cipher.Seal(w.begin(nil), w.head, uint64(w.number), true, w.pending))
}

// ReadAt reads what was written so far.
func (w *sealedWriter) ReadAt(b []byte, offset int64) (n int, err error) {
	kept := w.number * vault.PieceSize
	r := sealedReader{file: w.file, cipher: w.cipher, head: w.head, size: kept + vault.PieceSize, number: -1}
	for n < len(b) {
		at := offset + int64(n)
		if at >= kept {
			k := copy(b[n:], w.pending[min(at-kept, int64(len(w.pending))):])
			if n += k; n < len(b) {
				return n, io.EOF
			}
			return n, nil
		}
		k, err := r.ReadAt(b[n:min(int64(len(b)), int64(n)+kept-at)], at)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	magic      = "orrlog1\n"
	frameHead  = 8
	recordHead = 1 + 8 + 8 + 4
	maxFrame   = 64 << 20
)

var (
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	errNoSegment = errors.New("not a segment")
	errTorn      = errors.New("torn")
)

// segment is one file.
type segment struct {
	path  string
	file  *os.File
	id    [8]byte
	first uint64
	size  int64
	begun time.Time
	last  time.Time // when its last record was appended
	torn  bool      // its end was cut off
}

// createSegment makes a file with its state. A crash in the middle leaves a file that Open takes for none.
func createSegment(dir string, first uint64, id [8]byte, state []byte) (*segment, error) {
	path := filepath.Join(dir, fmt.Sprintf("%016x%s", first, suffix))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{path: path, file: file, id: id, first: first}
	content := append([]byte{'S'}, id[:]...)
	if err := s.write(appendFrame([]byte(magic), append(content, state...))); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write to %s: %w", path, err), file.Close(), os.Remove(path))
	}
	return s, nil
}

func (s *segment) write(content []byte) error {
	if _, err := s.file.WriteAt(content, s.size); err != nil {
		return err
	}
	s.size += int64(len(content))
	return nil
}

// cut takes away what an interrupted write left.
func (s *segment) cut() error { return s.file.Truncate(s.size) }

func (s *segment) read(offset, size int64) ([]byte, error) {
	b := make([]byte, size)
	_, err := s.file.ReadAt(b, offset)
	return b, err
}

func (s *segment) close() error {
	if s == nil || s.file == nil {
		return nil
	}
	if err := s.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (s *segment) remove() error { return errors.Join(s.close(), os.Remove(s.path)) }

func appendFrame(b, content []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(content))) //nolint:gosec // at most maxFrame
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(content, castagnoli))
	return append(b, content...)
}

func appendRecord(b []byte, r Record, body []byte) []byte {
	content := make([]byte, 0, recordHead+len(r.Head)+len(body))
	content = append(content, 'R')
	content = binary.LittleEndian.AppendUint64(content, r.Position)
	content = binary.LittleEndian.AppendUint64(content, uint64(r.Time.UnixMilli())) //nolint:gosec // not before 1970
	content = binary.LittleEndian.AppendUint32(content, uint32(len(r.Head)))        //nolint:gosec // at most maxFrame
	content = append(append(content, r.Head...), body...)
	return appendFrame(b, content)
}

// loadSegment reads a file, and cuts off what is torn. The segment is nil where the file is none.
func loadSegment(path string) (s *segment, state []byte, records []Record, err error) {
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), suffix), 16, 64)
	if err != nil || first == 0 {
		return nil, nil, nil, errNoSegment
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	s = &segment{path: path, file: file, first: first}
	state, records, err = s.scan()
	if err == nil && s.torn {
		err = s.cut()
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, file.Close())
	}
	return s, state, records, nil
}

// scan reads a segment from its beginning to its end, or to where it is torn.
func (s *segment) scan() (state []byte, records []Record, err error) {
	in := bufio.NewReaderSize(s.file, 256<<10)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(in, head); err != nil || string(head) != magic {
		return nil, nil, errNoSegment
	}
	content, err := readFrame(in)
	if err != nil || len(content) < 9 || content[0] != 'S' {
		return nil, nil, errNoSegment
	}
	copy(s.id[:], content[1:])
	state = content[9:]
	s.size = int64(len(magic) + frameHead + len(content))
	for next := s.first; ; next++ {
		content, err := readFrame(in)
		if errors.Is(err, io.EOF) {
			return state, records, nil
		}
		var r Record
		if err == nil {
			r, err = decodeRecord(content)
		}
		if errors.Is(err, errTorn) || err == nil && r.Position != next {
			s.torn = true
			return state, records, nil
		}
		if err != nil {
			return nil, nil, err
		}
		s.size += int64(frameHead + len(content))
		r.offset = s.size - r.size
		if s.begun.IsZero() {
			s.begun = r.Time
		}
		records = append(records, r)
	}
}

// readFrame returns the next content; io.EOF at the end, errTorn where there is no sound frame.
func readFrame(in io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errTorn
		}
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, errTorn
	}
	content, err := io.ReadAll(io.LimitReader(in, int64(size))) // it grows with what is there
	if err != nil {
		return nil, err
	}
	if len(content) != int(size) || crc32.Checksum(content, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return content, nil
}

// decodeRecord takes a frame's content apart. The head is copied, the body left out.
func decodeRecord(content []byte) (Record, error) {
	if len(content) < recordHead || content[0] != 'R' {
		return Record{}, errTorn
	}
	length := int64(binary.LittleEndian.Uint32(content[17:]))
	rest := content[recordHead:]
	if length > int64(len(rest)) {
		return Record{}, errTorn
	}
	return Record{
		Position: binary.LittleEndian.Uint64(content[1:]),
		Time:     time.UnixMilli(int64(binary.LittleEndian.Uint64(content[9:]))), //nolint:gosec // any will do
		Head:     append([]byte(nil), rest[:length]...),
		size:     int64(len(rest)) - length,
	}, nil
}

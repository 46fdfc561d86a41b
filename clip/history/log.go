package history

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"orrery/clip"
)

const (
	magic      = "orrery-clip\x00"
	version    = 1
	maxHeader  = 64 << 10
	maxRecord  = 1 << 20 // bytes of a body
	maxInline  = 32 << 10
	maxInlines = 256 << 10 // bytes of contents that are in a record
	maxApp     = 256
	maxFile    = 64
)

// A frame is: begin, length of the body, ordinal, checksum of ordinal and body, body.
const (
	frameBegin = 0xC11B
	frameSize  = 2 + 4 + 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is the beginning of a log, in JSON.
type header struct {
	Version int    `json:"version"`
	ID      []byte `json:"id"`             // of this file, 16 random bytes
	Keys    []Slot `json:"keys,omitempty"` // present: the log is encrypted
}

func (h *header) encode() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil || len(text) > maxHeader {
		return nil, errors.Join(err, fmt.Errorf("header of %d bytes is too large", len(text)))
	}
	b := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(text)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(text, castagnoli))
	return append(b, text...), nil
}

// readHeader reads the beginning of a log, and says how long that is.
func readHeader(r io.Reader) (*header, int64, error) {
	var fixed [len(magic) + 8]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return nil, 0, fmt.Errorf("%w: no header: %v", clip.ErrCorrupt, err)
	}
	if string(fixed[:len(magic)]) != magic {
		return nil, 0, fmt.Errorf("%w: not a history", clip.ErrCorrupt)
	}
	size := binary.LittleEndian.Uint32(fixed[len(magic):])
	if size > maxHeader {
		return nil, 0, fmt.Errorf("%w: header of %d bytes", clip.ErrCorrupt, size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, 0, fmt.Errorf("%w: header: %v", clip.ErrCorrupt, err)
	}
	if crc32.Checksum(text, castagnoli) != binary.LittleEndian.Uint32(fixed[len(magic)+4:]) {
		return nil, 0, fmt.Errorf("%w: checksum of the header", clip.ErrCorrupt)
	}
	h := new(header)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, 0, fmt.Errorf("%w: header: %v", clip.ErrCorrupt, err)
	}
	if h.Version != version {
		return nil, 0, fmt.Errorf("history has format version %d, and this program knows %d (update it)", h.Version, version)
	}
	return h, int64(len(fixed)) + int64(size), nil
}

// log is an open file of records.
type log struct {
	file    *os.File
	header  *header
	seal    *seal  // nil: not encrypted
	end     int64  // where the next record begins
	ordinal uint64 // of the next record
	broken  error  // set once the file's end is not known any more
}

// append writes records and syncs them: all of them are there afterwards, or, after an error, none. It returns where each begins.
func (l *log) append(bodies ...[]byte) ([]int64, error) {
	if l.broken != nil {
		return nil, l.broken
	}
	var buffer []byte
	offsets := make([]int64, 0, len(bodies))
	for i, body := range bodies {
		offsets = append(offsets, l.end+int64(len(buffer)))
		framed, err := l.frame(buffer, l.ordinal+uint64(i), body) //nolint:gosec // not negative
		if err != nil {
			return nil, err
		}
		buffer = framed
	}
	_, err := l.file.WriteAt(buffer, l.end)
	if err == nil {
		err = sync(l.file)
	}
	if err != nil {
		// What was written must not be found later, when it was said to have failed.
		if cut := errors.Join(l.file.Truncate(l.end), sync(l.file)); cut != nil {
			l.broken = fmt.Errorf("the history cannot be written any more (start the recorder again): %w", cut)
		}
		return nil, fmt.Errorf("cannot write to the history: %w", err)
	}
	l.end += int64(len(buffer))
	l.ordinal += uint64(len(bodies))
	return offsets, nil
}

func (l *log) frame(b []byte, ordinal uint64, body []byte) ([]byte, error) {
	if l.seal != nil {
		body = l.seal.close(nil, body, l.additional(ordinal))
	}
	if len(body) > maxRecord {
		return nil, fmt.Errorf("record of %d bytes: %w", len(body), clip.ErrTooLarge)
	}
	b = binary.LittleEndian.AppendUint16(b, frameBegin)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, ordinal)
	sum := crc32.Update(crc32.Checksum(b[at:], castagnoli), castagnoli, body)
	return append(binary.LittleEndian.AppendUint32(b, sum), body...), nil
}

// additional binds a sealed record to its file and place.
func (l *log) additional(ordinal uint64) []byte {
	return binary.LittleEndian.AppendUint64(append([]byte(nil), l.header.ID...), ordinal)
}

// frameAt reads the frame that begins b: the body and the length of the whole. ok is false where no sound frame begins.
func frameAt(b []byte) (ordinal uint64, body []byte, size int, ok bool) {
	if len(b) < frameSize || binary.LittleEndian.Uint16(b) != frameBegin {
		return 0, nil, 0, false
	}
	n := binary.LittleEndian.Uint32(b[2:])
	if n > maxRecord || uint64(len(b)) < frameSize+uint64(n) {
		return 0, nil, 0, false
	}
	size = frameSize + int(n)
	body = b[frameSize:size:size]
	sum := crc32.Update(crc32.Checksum(b[6:14], castagnoli), castagnoli, body)
	return binary.LittleEndian.Uint64(b[6:]), body, size, sum == binary.LittleEndian.Uint32(b[14:])
}

// readAt reads the record that begins at an offset.
func (l *log) readAt(offset int64) (any, error) {
	// Most records are short: one read has all of it.
	b := make([]byte, min(4<<10, l.end-offset))
	if _, err := l.file.ReadAt(b, offset); err != nil {
		return nil, err
	}
	if len(b) >= frameSize {
		if n := int64(frameSize) + int64(binary.LittleEndian.Uint32(b[2:])); n > int64(len(b)) && n <= min(frameSize+maxRecord, l.end-offset) {
			b = make([]byte, n)
			if _, err := l.file.ReadAt(b, offset); err != nil {
				return nil, err
			}
		}
	}
	ordinal, body, _, ok := frameAt(b)
	if !ok {
		return nil, fmt.Errorf("history at byte %d: %w", offset, clip.ErrCorrupt)
	}
	return l.open(ordinal, body)
}

func (l *log) open(ordinal uint64, body []byte) (any, error) {
	if l.seal != nil {
		opened, err := l.seal.open(body, l.additional(ordinal))
		if err != nil {
			return nil, err
		}
		body = opened
	}
	return decode(body)
}

// scan calls each with every sound record. damage counts the bytes in the middle that are none; what is not sound at the end was never finished, and
// counts as torn.
func (l *log) scan(from, size int64, each func(offset int64, record any)) (damage, torn int64, err error) {
	buffer := make([]byte, 0, 256<<10)
	at := from // of buffer[0]
	bad := int64(0)
	for {
		for len(buffer) > 0 {
			ordinal, body, n, ok := frameAt(buffer)
			if !ok && at+int64(len(buffer)) < size && needsMore(buffer) {
				break
			}
			var record any
			if ok {
				if record, err = l.open(ordinal, body); err != nil {
					ok = false
				}
			}
			if !ok {
				n = skip(buffer)
				bad += int64(n)
			} else {
				damage += bad
				if ordinal != l.ordinal && bad == 0 { // somebody took records out
					damage++
				}
				bad = 0
				each(at, record)
				l.ordinal, l.end = ordinal+1, at+int64(n)
			}
			buffer, at = buffer[n:], at+int64(n)
		}
		have := len(buffer)
		left := size - at - int64(have)
		if left <= 0 && have == 0 {
			return damage, bad, nil
		}
		next := make([]byte, int64(have)+min(left, max(256<<10, int64(frameSize+maxRecord)-int64(have))))
		copy(next, buffer)
		if _, err := l.file.ReadAt(next[have:], at+int64(have)); err != nil {
			return damage, bad, err
		}
		buffer = next
	}
}

// needsMore says that a frame may begin here of which the end is not in the buffer.
func needsMore(b []byte) bool {
	if len(b) < frameSize {
		return true
	}
	n := binary.LittleEndian.Uint32(b[2:])
	return binary.LittleEndian.Uint16(b) == frameBegin && n <= maxRecord && uint64(len(b)) < frameSize+uint64(n)
}

// skip is how many bytes there are to where the next frame may begin.
func skip(b []byte) int {
	for i := 1; i+1 < len(b); i++ {
		if b[i] == frameBegin&0xff && b[i+1] == frameBegin>>8 {
			return i
		}
	}
	return max(1, len(b)-1)
}

// sync makes a file durable.
func sync(f *os.File) error { return f.Sync() }

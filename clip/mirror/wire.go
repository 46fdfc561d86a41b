package mirror

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"orrery/clip"
	"orrery/clip/pair"
	"orrery/clip/replica"
)

// The types of frames.
const (
	typeHello   = 1
	typeChanges = 2
	typeHeard   = 3
	typeNew     = 4
	typeWant    = 5
	typeItem    = 6
	typeChunk   = 7
	typeLack    = 8
	typeCancel  = 9
	typeBye     = 10
	typeAlive   = 11
	typeHave    = 12
)

const (
	version    = 1
	maxFrame   = 1 << 20
	maxChunk   = 64 << 10
	maxChanges = 256 << 10 // bytes after which changes are sent
	maxWants   = 2         // at a time
	maxReason  = 64
)

// errProtocol says that a machine does not keep to the protocol.
var errProtocol = errors.New("the other machine does not keep to the protocol")

func malformed(what string) error { return fmt.Errorf("%w: %s", errProtocol, what) }

// frame is what is sent.
type frame struct {
	kind byte
	body []byte
}

func (f frame) writeTo(w io.Writer) error {
	head := append(make([]byte, 0, 5), f.kind)
	head = binary.BigEndian.AppendUint32(head, uint32(len(f.body))) //nolint:gosec // bounded by maxFrame
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(f.body)
	return err
}

func readFrame(r io.Reader) (f frame, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return f, malformed(fmt.Sprintf("a frame of %d bytes", n))
	}
	f = frame{head[0], make([]byte, n)}
	_, err = io.ReadFull(r, f.body)
	return f, err
}

// hello is the first frame.
type hello struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Port    uint16 `json:"port"`
	Send    bool   `json:"send"`
	Receive bool   `json:"receive"`

	heard replica.Vector
}

func (h hello) frame() (frame, error) {
	text, err := json.Marshal(h)
	return frame{typeHello, h.heard.Append(append(text, 0))}, err
}

func decodeHello(body []byte) (h hello, err error) {
	text, rest, ok := bytes.Cut(body, []byte{0})
	if !ok || json.Unmarshal(text, &h) != nil {
		return h, malformed("a hello that is none")
	}
	h.Name = pair.CleanName(h.Name)
	if h.heard, err = replica.DecodeVector(rest); err != nil {
		err = malformed("a hello without what was heard")
	}
	return h, err
}

func appendChange(b []byte, c replica.Change) []byte {
	e := c.Entry.Append(nil)
	b = append(b, c.Key[:]...)
	return append(binary.AppendUvarint(b, uint64(len(e))), e...)
}

func decodeChanges(b []byte) (changes []replica.Change, err error) {
	for len(b) > 0 {
		var c replica.Change
		if len(b) < len(c.Key) {
			return nil, malformed("a change that is cut short")
		}
		n := copy(c.Key[:], b)
		size, used := binary.Uvarint(b[n:])
		if used <= 0 || size > uint64(len(b)-n-used) {
			return nil, malformed("a change that is cut short")
		}
		b = b[n+used:]
		if c.Entry, err = replica.Decode(b[:size]); err != nil {
			return nil, fmt.Errorf("%w: %w", errProtocol, err)
		}
		b = b[size:]
		changes = append(changes, c)
	}
	return changes, nil
}

func decodeKey(b []byte) (k replica.Key, err error) {
	if copy(k[:], b) != len(k) || len(b) != len(k) {
		return k, malformed("a key that is none")
	}
	return k, nil
}

// want asks for contents.
type want struct {
	number uint32
	key    replica.Key
	offset int64
	kept   replica.Stamp // of the entry here
}

func (w want) frame() frame {
	b := binary.BigEndian.AppendUint32(nil, w.number)
	b = append(b, w.key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(w.offset)) //nolint:gosec // not negative
	b = binary.BigEndian.AppendUint64(b, uint64(w.kept.At))
	return frame{typeWant, append(b, w.kept.By[:]...)}
}

func decodeWant(b []byte) (w want, err error) {
	if len(b) != 4+len(w.key)+8+8+len(w.kept.By) {
		return w, malformed("a wish that is none")
	}
	w.number = binary.BigEndian.Uint32(b)
	copy(w.key[:], b[4:])
	offset := binary.BigEndian.Uint64(b[4+len(w.key):])
	if offset > clip.MaxItem {
		return w, malformed("a wish beyond all items")
	}
	w.offset = int64(offset)
	w.kept.At = replica.Time(binary.BigEndian.Uint64(b[len(b)-16:]))
	copy(w.kept.By[:], b[len(b)-8:])
	return w, nil
}

// head is the beginning of an item's contents.
type head struct {
	App      string  `json:"app,omitempty"`
	Created  int64   `json:"created,omitempty"` // milliseconds since 1970
	Contents []sized `json:"contents"`

	number uint32
	offset int64
	entry  replica.Entry
}

type sized struct {
	Type string `json:"type"`
	Size int64  `json:"size"`
}

// size is that of all contents.
func (h *head) size() (n int64) {
	for _, c := range h.Contents {
		n += c.Size
	}
	return n
}

func (h *head) frame() (frame, error) {
	text, err := json.Marshal(h)
	b := binary.BigEndian.AppendUint32(nil, h.number)
	b = binary.BigEndian.AppendUint64(b, uint64(h.offset)) //nolint:gosec // not negative
	b = append(append(b, text...), 0)
	return frame{typeItem, h.entry.Append(b)}, err
}

func decodeHead(b []byte) (h head, err error) {
	if len(b) < 12 {
		return h, malformed("an item that is cut short")
	}
	text, entry, ok := bytes.Cut(b[12:], []byte{0})
	if !ok || json.Unmarshal(text, &h) != nil || len(h.Contents) > clip.MaxTypes {
		return h, malformed("an item that is none")
	}
	for _, c := range h.Contents {
		if c.Size < 0 || c.Size > clip.MaxItem {
			return h, malformed("contents of a size that cannot be")
		}
	}
	h.number = binary.BigEndian.Uint32(b)
	offset := binary.BigEndian.Uint64(b[4:])
	if size := h.size(); size > clip.MaxItem || offset > uint64(size) { //nolint:gosec // not negative
		return h, malformed("an item of a size that cannot be")
	}
	h.offset = int64(offset) //nolint:gosec // bounded above
	if h.entry, err = replica.Decode(entry); err != nil {
		return h, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return h, nil
}

// numbered are frames that begin with a wish's number.
func numbered(kind byte, number uint32, rest ...byte) frame {
	return frame{kind, append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(rest)), number), rest...)}
}

func decodeNumber(b []byte) (number uint32, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, malformed("a frame that is cut short")
	}
	return binary.BigEndian.Uint32(b), b[4:], nil
}

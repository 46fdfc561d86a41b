package rpc

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// maxFrame is the size of the frames that begin a stream.
const maxFrame = 64 << 10

// opening is the opener's frame.
type opening struct {
	Kind   string          `json:"kind"`
	Header json.RawMessage `json:"header,omitempty"`
}

// verdict is the far side's frame: nothing in it means that the stream is accepted.
type verdict struct {
	Error string   `json:"error,omitempty"`
	Names []string `json:"names,omitempty"`
}

func writeFrame(w io.Writer, content any) error {
	encoded, err := json.Marshal(content)
	if err != nil {
		return err
	}
	if len(encoded) > maxFrame {
		return fmt.Errorf("stream header has %d bytes, and at most %d are sent", len(encoded), maxFrame)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(encoded)), uint32(len(encoded)))
	_, err = w.Write(append(frame, encoded...))
	return err
}

func readFrame(r io.Reader, into any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return fmt.Errorf("stream header has %d bytes, and at most %d are read", n, maxFrame)
	}
	encoded := make([]byte, n)
	if _, err := io.ReadFull(r, encoded); err != nil {
		return err
	}
	if err := json.Unmarshal(encoded, into); err != nil {
		return fmt.Errorf("stream header: %w", err)
	}
	return nil
}

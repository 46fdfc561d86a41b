package tunnel

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Every stream begins with one header and one reply. Each is a frame: the length of what follows as two bytes, big-endian,
// and that many bytes of JSON. After a reply without an error the stream is the connection that was asked for.

// MaxFrame bounds a frame's JSON in bytes.
const MaxFrame = 4096

const version = 1

// The kinds of streams.
const (
	kindDial = "dial" // node to developer: connect to Address on your machine
	kindCall = "call" // developer to node: connect to Service through your router
)

var (
	// ErrBadFrame says that the other side sent something that is not of this protocol.
	ErrBadFrame = errors.New("not a frame of the tunnel protocol")
	// ErrRefused says that the other side did not connect; its reason follows.
	ErrRefused = errors.New("refused by the other side")
)

type header struct {
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Address string `json:"address,omitempty"`
	Service string `json:"service,omitempty"`
}

type reply struct {
	Error string `json:"error,omitempty"`
}

func writeFrame(w io.Writer, v any) error {
	encoded, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(encoded) > MaxFrame {
		return fmt.Errorf("%w: %d bytes", ErrBadFrame, len(encoded))
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(encoded)), uint16(len(encoded)))
	_, err = w.Write(append(frame, encoded...))
	return err
}

// readFrame reads exactly one frame, and not a byte after it.
func readFrame(r io.Reader, v any) error {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n == 0 || n > MaxFrame {
		return fmt.Errorf("%w: %d bytes announced", ErrBadFrame, n)
	}
	encoded := make([]byte, n)
	if _, err := io.ReadFull(r, encoded); err != nil {
		return err
	}
	if err := json.Unmarshal(encoded, v); err != nil {
		return fmt.Errorf("%w: %w", ErrBadFrame, err)
	}
	return nil
}

func readHeader(r io.Reader, want string) (header, error) {
	var h header
	if err := readFrame(r, &h); err != nil {
		return header{}, err
	}
	if h.Version != version || h.Kind != want {
		return header{}, fmt.Errorf("%w: version %d, kind %.20q", ErrBadFrame, h.Version, h.Kind)
	}
	return h, nil
}

// WriteReply tells the other side whether it is connected.
func WriteReply(w io.Writer, problem error) error {
	var r reply
	if problem != nil {
		r.Error = problem.Error()
		r.Error = r.Error[:min(len(r.Error), 512)]
	}
	return writeFrame(w, r)
}

// ReadReply returns what the other side's WriteReply says. ErrRefused.
func ReadReply(r io.Reader) error {
	var got reply
	if err := readFrame(r, &got); err != nil {
		return err
	}
	if got.Error != "" {
		return fmt.Errorf("%w: %s", ErrRefused, got.Error)
	}
	return nil
}

// Join copies both ways between two connections until both directions ended, and closes both.
func Join(a, b io.ReadWriteCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		pipe(a, b)
	}()
	pipe(b, a)
	<-done
	_ = a.Close()
	_ = b.Close()
}

// pipe passes the end of a direction on; where that is not possible both connections end.
func pipe(to, from io.ReadWriteCloser) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err == nil && ok && half.CloseWrite() == nil {
		return
	}
	_ = to.Close()
	_ = from.Close()
}

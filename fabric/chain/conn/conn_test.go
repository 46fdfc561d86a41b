package conn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var framing = Framing{Head: 4, Size: func(head []byte) (int, error) {
	n := int(binary.BigEndian.Uint32(head))
	if n > 16<<20 {
		return 0, errors.New("too large")
	}
	return 4 + n, nil
}}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...) //nolint:gosec // small
}

func pair(t *testing.T, config Config) (a, b *Conn) {
	t.Helper()
	config.Framing = framing
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	x, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = New(x, config), New(y, config)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// Frames of all sizes from many goroutines arrive whole, and those of one goroutine in its order.
func TestManyWriters(t *testing.T) {
	a, b := pair(t, Config{Room: 4 << 10})
	const writers, each = 8, 200
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for i := range each {
				if err := a.Write(frame(append([]byte{byte(w), byte(i)}, bytes.Repeat([]byte{byte(w + i)}, w*i*13)...))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var next [writers]int
	for range writers * each {
		f, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		w, i := int(f[4]), int(f[5])
		if i != next[w] || !bytes.Equal(f[6:], bytes.Repeat([]byte{byte(w + i)}, w*i*13)) {
			t.Fatalf("frame %d of %d: got number %d, %d bytes", next[w], w, i, len(f))
		}
		next[w]++
	}
	work.Wait()
}

// What is held back is written by Release, and before that if there is no room.
func TestHold(t *testing.T) {
	a, b := pair(t, Config{Room: 1 << 10})
	a.Hold()
	for range 100 {
		if err := a.Write(frame(make([]byte, 100))); err != nil {
			t.Fatal(err)
		}
	}
	a.Release()
	for range 100 {
		if f, err := b.Read(); err != nil || len(f) != 104 {
			t.Fatal(len(f), err)
		}
	}
	if b.More() {
		t.Error("more than was sent")
	}
}

// A far side that takes nothing stops who writes; the end of the connection frees it.
func TestFull(t *testing.T) {
	a, b := pair(t, Config{Room: 1 << 10})
	stuck := make(chan error)
	go func() {
		for {
			if err := a.Write(frame(make([]byte, 64<<10))); err != nil {
				stuck <- err
				return
			}
		}
	}()
	for {
		if full, err := a.TryWrite(nil); err != nil {
			t.Fatal(err)
		} else if full {
			break
		}
	}
	a.End(io.ErrClosedPipe)
	if err := <-stuck; !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
	_ = b
}

func TestBadFrames(t *testing.T) {
	for _, c := range []struct {
		sent []byte
		want error
	}{
		{nil, io.EOF},
		{[]byte{0, 0}, io.ErrUnexpectedEOF},
		{[]byte{0, 0, 0, 9, 1}, io.ErrUnexpectedEOF},
		{[]byte{0, 20, 0, 0, 1}, io.ErrUnexpectedEOF},
		{[]byte{255, 0, 0, 0}, nil},
	} {
		x, y := net.Pipe()
		b := New(y, Config{Framing: framing})
		go func() {
			_, _ = x.Write(c.sent)
			_ = x.Close()
		}()
		if _, err := b.Read(); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.sent, err)
		}
		if b.Err() == nil {
			t.Errorf("%v: the connection goes on", c.sent)
		}
		_ = b.Close()
	}
}

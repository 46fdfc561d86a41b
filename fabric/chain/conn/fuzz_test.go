package conn

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/iotest"
)

// received is a connection on which everything has been received already, byte by byte.
type received struct {
	net.Conn
	content io.Reader
}

func (r *received) Read(b []byte) (int, error) { return r.content.Read(b) }
func (r *received) Close() error               { return nil }

// The frames that are read are the bytes that came, in order, whatever these are, and they end where a frame is no frame or cut short.
func FuzzRead(f *testing.F) {
	f.Add(append(frame([]byte("one")), frame(nil)...))
	f.Add(append(frame([]byte("one")), 0, 0, 1))
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Add(frame(bytes.Repeat([]byte("large"), readBuffer)))
	f.Fuzz(func(t *testing.T, content []byte) {
		c := New(&received{content: iotest.OneByteReader(bytes.NewReader(content))}, Config{Framing: framing})
		defer func() { _ = c.Close() }()
		rest := content
		for {
			more := c.More() // and what it says is true
			got, err := c.Read()
			if err != nil {
				if more && c.config.Framing.Head <= len(rest) {
					if _, bad := framing.Size(rest); bad == nil {
						t.Errorf("there was to be another frame, and there was %v", err)
					}
				}
				break
			}
			if !bytes.HasPrefix(rest, got) {
				t.Fatalf("frame %q is not at the begin of %q", got, rest)
			}
			rest = rest[len(got):]
		}
		if len(rest) >= framing.Head {
			if n, err := framing.Size(rest); err == nil && len(rest) >= n {
				t.Errorf("a whole frame was left: %q", rest)
			}
		}
	})
}

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pair is both ends of a connection.
func pair(tb testing.TB) (a, b *Conn) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var conns []*Conn
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket") //nolint:gosec // a descriptor is not negative
		c, err := net.FileConn(f)
		if err != nil {
			tb.Fatal(err)
		}
		_ = f.Close()
		conn := NewConn(c.(*net.UnixConn))
		tb.Cleanup(func() {
			_ = conn.Close()
			conn.Drop()
		})
		conns = append(conns, conn)
	}
	return conns[0], conns[1]
}

func TestMessages(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	texts := []string{"", "a", "abc", "abcd", "Größe", strings.Repeat("x", 60_000)}
	sent := make(chan error, 1)
	go func() {
		for i, text := range texts {
			if err := a.Write(7, uint16(i), Uint(1<<31), String(text), Int(-5), FD(to.Fd()), (*Object)(nil)); err != nil { //nolint:gosec // a few
				sent <- err
				return
			}
		}
		sent <- to.Close()
	}()
	var fds []int
	for i, text := range texts {
		m, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		n, s, k, fd, none := m.Uint(), m.String(), m.Int(), m.FD(), m.Uint()
		if m.Err() != nil || m.Object != 7 || int(m.Opcode) != i || n != 1<<31 || s != text || k != -5 || none != 0 {
			t.Errorf("%d: %d, %d bytes, %d, %d, %v", i, n, len(s), k, none, m.Err())
		}
		fds = append(fds, fd)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.Write(fds[3], []byte("through")); err != nil {
		t.Error(err)
	}
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
	if got, err := io.ReadAll(from); string(got) != "through" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := a.Write(1, 0, String("zero\x00byte")); err == nil {
		t.Error("a zero byte was sent")
	}
	if err := a.Write(1, 0, String(strings.Repeat("x", 1<<16))); err == nil {
		t.Error("too long a message was sent")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// TestBroken: what is no message, or ends in the middle of one.
func TestBroken(t *testing.T) {
	t.Parallel()
	head := func(size uint32) []byte {
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 1), size<<16)
	}
	for name, raw := range map[string][]byte{"small": head(4), "none": head(0), "odd": head(13), "cut": head(16), "shorter": {1, 0, 0}} {
		a, b := pair(t)
		if _, err := a.socket.Write(raw); err != nil {
			t.Fatal(err)
		}
		_ = a.Close()
		if _, err := b.Read(); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPieces: a message that arrives byte by byte.
func TestPieces(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	m, err := encode(3, 4, 0, []Arg{String("slowly"), Uint(9)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for range 2 {
			for _, c := range m.bytes {
				if _, err := a.socket.Write([]byte{c}); err != nil {
					done <- err
					return
				}
			}
		}
		done <- nil
	}()
	for range 2 {
		got, err := b.Read()
		if err != nil {
			t.Fatal(err)
		}
		if s, n := got.String(), got.Uint(); s != "slowly" || n != 9 || got.Err() != nil {
			t.Errorf("%q, %d, %v", s, n, got.Err())
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSilentCompositor: who takes a connection and says nothing does not hold a program up.
func TestSilentCompositor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "wayland-0")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Dial(path, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestAddress(t *testing.T) {
	for _, c := range []struct{ folder, variable, display, want string }{
		{"/run/user/1", "", "", "/run/user/1/wayland-0"},
		{"/run/user/1", "wayland-1", "", "/run/user/1/wayland-1"},
		{"/run/user/1", "wayland-1", "other", "/run/user/1/other"},
		{"", "/tmp/socket", "", "/tmp/socket"},
		{"", "wayland-1", "", ""},
	} {
		t.Setenv("XDG_RUNTIME_DIR", c.folder)
		t.Setenv("WAYLAND_DISPLAY", c.variable)
		if got, err := Address(c.display); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}

// FuzzMessage: whatever arrives is a message, an error, or not enough; arguments stay within it, and what is encoded reads back.
func FuzzMessage(f *testing.F) {
	m, err := encode(3, 4, 0, []Arg{Uint(1), String("text/plain"), Int(-1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.bytes, "uss")
	f.Add([]byte{1, 0, 0, 0, 0, 0, 12, 0, 255, 255, 255, 255}, "sua")
	f.Add(bytes.Repeat([]byte{0xff}, 64), "hhhh")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, raw []byte, arguments string) {
		m, size, err := parse(raw)
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
			return
		}
		if size == 0 {
			return
		}
		if size > len(raw) || size%4 != 0 {
			t.Fatalf("size %d of %d bytes", size, len(raw))
		}
		files := []int{42}
		m.files = &files
		var again []Arg
		for _, a := range arguments {
			switch a {
			case 'u':
				again = append(again, Uint(m.Uint()))
			case 's':
				again = append(again, String(m.String()))
			case 'a':
				_ = m.Array()
			case 'h':
				if fd := m.FD(); fd != 42 && (fd != -1 || m.Err() == nil) {
					t.Fatal(fd)
				}
			}
		}
		if m.Err() != nil {
			if !errors.Is(m.Err(), ErrProtocol) {
				t.Fatal(m.Err())
			}
			return
		}
		out, err := encode(m.Object, m.Opcode, 0, again)
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := parse(out.bytes)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range again {
			switch a := a.(type) {
			case Uint:
				if back.Uint() != uint32(a) {
					t.Fatal("another number")
				}
			case String:
				if back.String() != string(a) {
					t.Fatal("another text")
				}
			}
		}
	})
}

// FuzzConn: a connection survives any bytes, with descriptors in between, and leaves none open.
func FuzzConn(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 0, 12, 0, 255, 255, 255, 255}, uint8(2))
	f.Add(bytes.Repeat([]byte{0}, 100), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, n uint8) {
		a, b := pair(t)
		rights := syscall.UnixRights(slices.Repeat([]int{0}, int(n%16))...)
		if len(raw) > 0 && len(raw) < 1<<16 {
			if _, _, err := a.socket.WriteMsgUnix(raw, rights, nil); err != nil {
				t.Fatal(err)
			}
		}
		_ = a.Close()
		for {
			m, err := b.Read()
			if err != nil {
				break
			}
			_ = m.String()
			if fd := m.FD(); fd >= 0 {
				_ = syscall.Close(fd)
			}
		}
		b.Drop()
	})
}

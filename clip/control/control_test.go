package control_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/clip"
	"orrery/clip/cliptest"
	"orrery/clip/control"
	"orrery/clip/history"
	"orrery/clip/recorder"
)

func start(t *testing.T) control.Client {
	t.Helper()
	h, err := history.Open(history.Config{Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "folder", "socket")
	l, err := control.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &control.Server{Recorder: recorder.New(recorder.Config{Display: cliptest.New(), History: h}), History: h, Display: "memory"}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-done, h.Close()); err != nil {
			t.Error(err)
		}
	})
	return control.Client{Socket: socket}
}

func TestAddAndShow(t *testing.T) {
	t.Parallel()
	c := start(t)
	picture := make([]byte, 3<<20)
	_, _ = rand.Read(picture)
	contents := []clip.Content{{Type: "text/plain", Data: []byte("text")}, {Type: "image/png", Data: picture}, {Type: "text/html"}}
	r, _, err := c.Do(t.Context(), control.Request{Op: control.OpAdd, Mark: &clip.Mark{Tags: []string{"a"}}}, contents...)
	if err != nil {
		t.Fatal(err)
	}
	r, got, err := c.Do(t.Context(), control.Request{Op: control.OpShow, IDs: []clip.ID{r.Summary.ID}})
	if err != nil || len(got) != 3 || !bytes.Equal(got[1].Data, picture) || r.Summary.Tags[0] != "a" {
		t.Errorf("%+v, %v", r, err)
	}
	if _, _, err := c.Do(t.Context(), control.Request{Op: control.OpShow, IDs: []clip.ID{9}}); !errors.Is(err, clip.ErrNotFound) {
		t.Error(err)
	}
	if _, _, err := c.Do(t.Context(), control.Request{Op: "dance", IDs: []clip.ID{1}}); err == nil || !strings.Contains(err.Error(), `"dance" is unknown`) {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := start(t)
	if _, _, err := c.Do(t.Context(), control.Request{Op: control.OpAdd}, clip.Content{Type: "text/plain", Data: []byte("a\tb")}); err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]string{control.FormatTSV: "1\ta b\n", control.FormatNUL: "1\ta b\x00"} {
		lines, err := c.Lines(t.Context(), control.Request{Op: control.OpList, Format: format})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(lines); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
		if err := lines.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Lines(t.Context(), control.Request{Op: control.OpList, Format: "odd"}); err == nil {
		t.Error("an odd format")
	}
	ctx, cancel := context.WithCancel(t.Context())
	lines, err := c.Lines(ctx, control.Request{Op: control.OpWatch})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(lines); err == nil {
		t.Error("a watch that was called off went on")
	}
}

// TestGarbage: whoever does not speak the protocol is not served, and nobody else is hurt.
func TestGarbage(t *testing.T) {
	t.Parallel()
	c := start(t)
	huge := binary.LittleEndian.AppendUint32(nil, 1<<31)
	for _, sent := range [][]byte{nil, {1}, huge, []byte("\x02\x00\x00\x00{}"), []byte("\x04\x00\x00\x00null"), []byte("GET / HTTP/1.1\r\n\r\n"), message(`{"version":1,"op":"add","contents":[{"type":"x","size":-1}]}`), message(`{"version":1,"op":"add","contents":[{"type":"x","size":900000000000}]}`), message(`{"version":9,"op":"status"}`)} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(sent); err != nil {
			t.Error(err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			t.Error(err)
		}
		_, _ = io.ReadAll(conn)
		_ = conn.Close()
	}
	if _, _, err := c.Do(t.Context(), control.Request{Op: control.OpStatus}); err != nil {
		t.Error(err)
	}
}

func message(text string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func TestSocket(t *testing.T) {
	t.Parallel()
	c := start(t)
	info, err := os.Stat(c.Socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := control.Listen(t.Context(), c.Socket); !errors.Is(err, clip.ErrInUse) {
		t.Error(err)
	}
	nobody := control.Client{Socket: filepath.Join(t.TempDir(), "none")}
	if _, _, err := nobody.Do(t.Context(), control.Request{Op: control.OpStatus}); !errors.Is(err, control.ErrNoRecorder) {
		t.Error(err)
	}
}

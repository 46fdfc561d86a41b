package wayland_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/wayland"
	"orrery/internal/testenv"
)

// real is a display on a compositor that people use.
type real struct {
	t       *testing.T
	address string
	d       *wayland.Display
}

func sway(t *testing.T, c wayland.Config) *real {
	t.Helper()
	for _, program := range []string{"wl-copy", "wl-paste"} {
		testenv.Need(t, program, "apt-get install wl-clipboard")
	}
	r := &real{t: t}
	r.address, _ = testenv.Sway(t)
	c.Name = r.address
	r.d = open(t, c)
	return r
}

func (r *real) command(in []byte, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "WAYLAND_DISPLAY="+r.address, "XDG_RUNTIME_DIR="+filepath.Dir(r.address))
	cmd.Stdin = bytes.NewReader(in)
	return cmd
}

// copy copies with a program in the foreground, which is killed at the end of the test.
func (r *real) copy(in []byte, args ...string) *exec.Cmd {
	r.t.Helper()
	cmd := r.command(in, "wl-copy", append([]string{"--foreground"}, args...)...)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func (r *real) paste(args ...string) []byte {
	r.t.Helper()
	out, err := r.command(nil, "wl-paste", append([]string{"--no-newline"}, args...)...).Output()
	if err != nil {
		r.t.Fatalf("wl-paste %v: %v", args, err)
	}
	return out
}

// next is the next offer that has types.
func (r *real) next() clip.Offer {
	r.t.Helper()
	for {
		if o := next(r.t, r.d); len(o.Types()) > 0 {
			return o
		}
	}
}

// TestSwayRead: what wl-copy copies, in both selections.
func TestSwayRead(t *testing.T) {
	t.Parallel()
	r := sway(t, wayland.Config{Selections: both})
	for _, c := range []struct {
		in        []byte
		kind      string
		selection clip.Selection
		args      []string
	}{
		{[]byte("small"), "text/plain;charset=utf-8", clip.Clipboard, nil},
		{[]byte("marked"), "UTF8_STRING", clip.Primary, []string{"--primary"}},
		{[]byte(strings.Repeat("line of text\n", 800_000)), "text/plain;charset=utf-8", clip.Clipboard, nil},
		{random(5_079_495), "image/png", clip.Clipboard, []string{"--type", "image/png"}},
	} {
		r.copy(c.in, c.args...)
		o := r.next()
		if o.Selection() != c.selection || o.Own() || !slices.Contains(o.Types(), c.kind) {
			t.Errorf("%v: %v of %v", c.args, o.Types(), o.Selection())
		}
		if got := read(t, o, c.kind); !bytes.Equal(got, c.in) {
			t.Errorf("%v: %d bytes, not the %d that were copied", c.args, len(got), len(c.in))
		}
	}
}

// TestSwayOffer: what this process offers, pasted by wl-paste; and an owner that is killed.
func TestSwayOffer(t *testing.T) {
	t.Parallel()
	r := sway(t, wayland.Config{Selections: both})
	owner := r.copy([]byte("treasure"))
	o := r.next()
	if got := read(t, o, "text/plain"); string(got) != "treasure" {
		t.Errorf("%q", got)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if gone := next(t, r.d); len(gone.Types()) != 0 || gone.Cleared() {
		t.Errorf("%v", gone.Types())
	}
	if _, err := o.Read(t.Context(), "text/plain", 100); !errors.Is(err, clip.ErrGone) {
		t.Error(err)
	}
	picture, text := random(5_079_495), []byte(strings.Repeat("Größe\n", 200_000))
	contents := []clip.Content{{Type: "image/png", Data: picture}, {Type: "text/plain;charset=utf-8", Data: text}}
	for s, args := range map[clip.Selection][]string{clip.Clipboard: nil, clip.Primary: {"--primary"}} {
		if err := r.d.Offer(s, contents); err != nil {
			t.Fatal(err)
		}
		if o := r.next(); !o.Own() {
			t.Error("own offer is not known as such")
		}
		for _, c := range contents {
			if got := r.paste(append(args, "--type", c.Type)...); !bytes.Equal(got, c.Data) {
				t.Errorf("%s: %d bytes", c.Type, len(got))
			}
		}
		if got := r.paste(args...); !bytes.Equal(got, text) {
			t.Errorf("%d bytes", len(got))
		}
	}
	if err := r.command(nil, "wl-copy", "--clear").Run(); err != nil {
		t.Fatal(err)
	}
	if o := next(t, r.d); len(o.Types()) != 0 || !o.Cleared() {
		t.Errorf("%v", o.Types())
	}
	if err := r.d.Clear(clip.Primary); err != nil {
		t.Fatal(err)
	}
	if o := next(t, r.d); o.Selection() != clip.Primary || !o.Cleared() {
		t.Errorf("%v", o.Types())
	}
}

// TestSwayOwnerEnds: an owner that ends in the middle of a transfer has given all or nothing.
func TestSwayOwnerEnds(t *testing.T) {
	t.Parallel()
	r := sway(t, wayland.Config{})
	data := random(8 << 20)
	for range 10 {
		other := open(t, wayland.Config{Name: r.address})
		if err := other.Offer(clip.Clipboard, []clip.Content{{Type: "image/png", Data: data}}); err != nil {
			t.Fatal(err)
		}
		o := r.next()
		ended := make(chan error, 1)
		go func() { ended <- other.Close() }()
		if got, err := o.Read(t.Context(), "image/png", 16<<20); !errors.Is(err, clip.ErrGone) && !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestSwayApplication: what is copied while a window has the focus is its application's.
func TestSwayApplication(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "foot", "apt-get install foot")
	r := sway(t, wayland.Config{})
	r.copy([]byte("no window"))
	if o := r.next(); o.App() != "" {
		t.Error(o.App())
	}
	terminal := r.command(nil, "foot", "--app-id=org.keepassxc.KeePassXC", "sleep", "1000")
	if err := terminal.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = terminal.Process.Kill()
		_ = terminal.Wait()
	}()
	other := open(t, wayland.Config{Name: r.address})
	testenv.Eventually(t, "it has the focus", func() bool {
		if err := other.Offer(clip.Clipboard, []clip.Content{{Type: "text/plain", Data: []byte("password")}}); err != nil {
			t.Fatal(err)
		}
		return r.next().App() == "org.keepassxc.KeePassXC"
	})
}

// TestSwayBurst: of many copies in a row the last is delivered.
func TestSwayBurst(t *testing.T) {
	t.Parallel()
	r := sway(t, wayland.Config{})
	other := open(t, wayland.Config{Name: r.address})
	for i := range 1000 {
		if err := other.Offer(clip.Clipboard, []clip.Content{{Type: "UTF8_STRING", Data: []byte(strconv.Itoa(i))}}); err != nil {
			t.Fatal(err)
		}
	}
	for last := ""; last != "999"; {
		b, err := r.next().Read(t.Context(), "UTF8_STRING", 100)
		if errors.Is(err, clip.ErrGone) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		last = string(b)
	}
}

// TestSwayGone: a compositor that ends is told, and nobody is left waiting.
func TestSwayGone(t *testing.T) {
	t.Parallel()
	address, server := testenv.Sway(t)
	d := open(t, wayland.Config{Name: address, Patience: time.Second})
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Next(t.Context()); err == nil {
		t.Error("no error")
	}
}

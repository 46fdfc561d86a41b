package x11_test

import (
	"bytes"
	"context"
	"crypto/rand"
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
	"orrery/clip/x11"
	"orrery/internal/testenv"
)

type rig struct {
	t       *testing.T
	display string
	d       *x11.Display
}

func start(t *testing.T, c x11.Config) *rig {
	t.Helper()
	for _, program := range []string{"xclip", "xsel"} {
		testenv.Need(t, program, "apt-get install "+program)
	}
	r := &rig{t: t}
	r.display, _ = testenv.XServer(t)
	c.Name = r.display
	r.d = r.open(c)
	return r
}

func (r *rig) open(c x11.Config) *x11.Display {
	r.t.Helper()
	d, err := x11.Open(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := d.Close(); err != nil {
			r.t.Error(err)
		}
	})
	return d
}

func (r *rig) command(in []byte, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+r.display, "HOME="+r.t.TempDir()) // xsel keeps a log at home
	cmd.Stdin = bytes.NewReader(in)
	return cmd
}

// run copies with a program that goes on in the background.
func (r *rig) run(in []byte, name string, args ...string) {
	r.t.Helper()
	said, err := os.Create(filepath.Join(r.t.TempDir(), "said")) // a file: the program that stays would hold a pipe open
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = said.Close() }()
	cmd := r.command(in, name, args...)
	cmd.Stderr = said
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		r.t.Fatalf("%s: %v: %s", name, err, text)
	}
}

func (r *rig) output(name string, args ...string) []byte {
	r.t.Helper()
	out, err := r.command(nil, name, args...).Output()
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	return out
}

func (r *rig) next() clip.Offer {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	o, err := r.d.Next(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

func (r *rig) read(o clip.Offer, kind string) []byte {
	r.t.Helper()
	b, err := o.Read(r.t.Context(), kind, clip.MaxItem)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TestRead: what xclip and xsel offer, in one piece and in many.
func TestRead(t *testing.T) {
	r := start(t, x11.Config{Selections: []clip.Selection{clip.Clipboard, clip.Primary}})
	large := []byte(strings.Repeat("line of text\n", 800_000))
	picture := random(5_079_495)
	for _, c := range []struct {
		in        []byte
		kind      string
		selection clip.Selection
		args      []string
	}{
		{[]byte("small"), "UTF8_STRING", clip.Clipboard, []string{"xclip", "-selection", "clipboard"}},
		{[]byte("marked"), "UTF8_STRING", clip.Primary, []string{"xclip", "-selection", "primary"}},
		{large, "UTF8_STRING", clip.Clipboard, []string{"xclip", "-selection", "clipboard"}},
		{large[:300_000], "UTF8_STRING", clip.Clipboard, []string{"xsel", "--clipboard", "--input"}},
		{picture, "image/png", clip.Clipboard, []string{"xclip", "-selection", "clipboard", "-t", "image/png"}},
		{nil, "UTF8_STRING", clip.Clipboard, []string{"xclip", "-selection", "clipboard"}},
	} {
		r.run(c.in, c.args[0], c.args[1:]...)
		o := r.next()
		for len(o.Types()) == 0 { // of the owner before, who has gone
			o = r.next()
		}
		if o.Selection() != c.selection || o.Own() || !slices.Contains(o.Types(), c.kind) || slices.Contains(o.Types(), "TARGETS") {
			t.Errorf("%v: %v of %v", c.args, o.Types(), o.Selection())
		}
		if got := r.read(o, c.kind); !bytes.Equal(got, c.in) {
			t.Errorf("%v: %d bytes, not the %d that were copied", c.args, len(got), len(c.in))
		}
	}
}

// TestOffer: what this process offers, read by xclip and xsel and by another display.
func TestOffer(t *testing.T) {
	r := start(t, x11.Config{})
	text := []byte(strings.Repeat("Größe\n", 400_000))
	picture := random(3 << 20)
	contents := []clip.Content{{Type: "image/png", Data: picture}, {Type: "text/html", Data: []byte("<b>x</b>")}, {Type: "text/plain;charset=utf-8", Data: text}}
	if err := r.d.Offer(clip.Clipboard, contents); err != nil {
		t.Fatal(err)
	}
	if o := r.next(); !o.Own() {
		t.Error("own offer is not known as such")
	}
	if got := r.output("xclip", "-selection", "clipboard", "-o"); !bytes.Equal(got, text) {
		t.Errorf("xclip: %d bytes", len(got))
	}
	if got := r.output("xsel", "--clipboard", "--output"); !bytes.Equal(got, text) {
		t.Errorf("xsel: %d bytes", len(got))
	}
	for _, c := range contents {
		if got := r.output("xclip", "-selection", "clipboard", "-o", "-t", c.Type); !bytes.Equal(got, c.Data) {
			t.Errorf("%s: %d bytes", c.Type, len(got))
		}
	}
	targets := strings.Fields(string(r.output("xclip", "-selection", "clipboard", "-o", "-t", "TARGETS")))
	for _, want := range []string{"TARGETS", "TIMESTAMP", "UTF8_STRING", "STRING", "image/png"} {
		if !slices.Contains(targets, want) {
			t.Errorf("%s is not offered: %v", want, targets)
		}
	}
	if err := r.command(nil, "xclip", "-selection", "clipboard", "-o", "-t", "image/gif").Run(); err == nil {
		t.Error("what is not there was given")
	}
	other := r.open(x11.Config{Name: r.display})
	o, err := other.Next(t.Context())
	if err != nil || o.Own() || o.Types()[0] != "image/png" {
		t.Errorf("%v, %v", o.Types(), err)
	}
	if got, err := o.Read(t.Context(), "image/png", clip.MaxItem); err != nil || !bytes.Equal(got, picture) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := o.Read(t.Context(), "image/png", 1<<20); !errors.Is(err, clip.ErrTooLarge) {
		t.Error(err)
	}
	if err := r.d.Clear(clip.Clipboard); err != nil {
		t.Fatal(err)
	}
	if o, err = other.Next(t.Context()); err != nil || len(o.Types()) != 0 {
		t.Errorf("%v, %v", o, err)
	}
}

// TestOwnerGone: an owner that is killed leaves an offer without types.
func TestOwnerGone(t *testing.T) {
	r := start(t, x11.Config{})
	owner := r.command([]byte("treasure"), "xclip", "-selection", "clipboard", "-quiet")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	o := r.next()
	if got := r.read(o, "UTF8_STRING"); string(got) != "treasure" {
		t.Errorf("%q", got)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	if next := r.next(); len(next.Types()) != 0 {
		t.Errorf("%v", next.Types())
	}
	if _, err := o.Read(t.Context(), "UTF8_STRING", 1<<20); !errors.Is(err, clip.ErrGone) {
		t.Error(err)
	}
}

// TestSilentOwner: an owner that is stopped costs its time-out, and the next one is heard.
func TestSilentOwner(t *testing.T) {
	r := start(t, x11.Config{Patience: 200 * time.Millisecond})
	owner := r.command([]byte("treasure"), "xclip", "-selection", "clipboard", "-quiet")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	o := r.next()
	if err := r.command(nil, "kill", "-STOP", strconv.Itoa(owner.Process.Pid)).Run(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := o.Read(t.Context(), "UTF8_STRING", 1<<20); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
	r.run([]byte("late"), "xsel", "--clipboard", "--input")
	if got := r.read(r.next(), "UTF8_STRING"); string(got) != "late" {
		t.Errorf("%q", got)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
}

// TestBurst: of many copies in a row the last is delivered.
func TestBurst(t *testing.T) {
	r := start(t, x11.Config{})
	other := r.open(x11.Config{Name: r.display})
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

func TestServerGone(t *testing.T) {
	display, server := testenv.XServer(t)
	d, err := x11.Open(x11.Config{Name: display})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Next(t.Context()); err == nil {
		t.Error("no error")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Offer(clip.Clipboard, []clip.Content{{Type: "text/plain"}}); err == nil { // until the recorder has connected again
		t.Error("offered to nobody")
	}
	// Not the same display: another test's server may have its number by now.
	if _, err := x11.Open(x11.Config{Name: ":54321"}); err == nil {
		t.Error("connected to nobody")
	}
}

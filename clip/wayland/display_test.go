package wayland_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/policy"
	"orrery/clip/wayland"
	"orrery/clip/wayland/waylandtest"
	"orrery/clip/wayland/wire"
	"orrery/internal/testenv"
)

// seat is the number of the seat's global in most tests.
const seat = 1

var both = []clip.Selection{clip.Clipboard, clip.Primary}

type rig struct {
	t *testing.T
	c *waylandtest.Compositor
	d *wayland.Display
}

func start(t *testing.T, c wayland.Config, globals ...wire.Global) *rig {
	t.Helper()
	if len(globals) == 0 {
		globals = []wire.Global{waylandtest.Seat, waylandtest.Other, waylandtest.Wlr, waylandtest.Ext}
	}
	r := &rig{t: t, c: waylandtest.Start(t, globals...)}
	c.Name = r.c.Path
	r.d = open(t, c)
	r.settle()
	return r
}

func open(t *testing.T, c wayland.Config) *wayland.Display {
	t.Helper()
	d, err := wayland.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// settle waits until the compositor knows the display's device.
func (r *rig) settle() {
	r.t.Helper()
	testenv.Eventually(r.t, "a device", func() bool {
		clients := r.c.Clients()
		return len(clients) > 0 && clients[len(clients)-1].Object("device") != 0
	})
}

func next(t *testing.T, d clip.Display) clip.Offer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	o, err := d.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (r *rig) next() clip.Offer {
	r.t.Helper()
	return next(r.t, r.d)
}

func read(t *testing.T, o clip.Offer, kind string) []byte {
	t.Helper()
	b, err := o.Read(t.Context(), kind, clip.MaxItem)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// gives is an application that has one content for all its types.
func gives(b []byte) func(kind string, to *os.File) {
	return func(_ string, to *os.File) {
		_, _ = to.Write(b)
		_ = to.Close()
	}
}

func (r *rig) paste(s clip.Selection, kind string) []byte {
	r.t.Helper()
	from, err := r.c.Paste(seat, s, kind)
	if err != nil {
		r.t.Fatal(err)
	}
	defer from.Close()
	b, err := io.ReadAll(from)
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

// TestRead: what is offered is told with its types, and read, by either protocol.
func TestRead(t *testing.T) {
	t.Parallel()
	for _, manager := range []wire.Global{waylandtest.Ext, waylandtest.Wlr} {
		r := start(t, wayland.Config{Selections: both}, waylandtest.Seat, manager)
		if !strings.HasPrefix(r.d.Name(), "Wayland, ") || strings.Contains(r.d.Name(), "ext") != (manager == waylandtest.Ext) {
			t.Error(r.d.Name())
		}
		picture := random(5_079_495)
		r.c.Copy(seat, clip.Clipboard, gives(picture), "image/png", policy.Hint)
		o := r.next()
		if o.Selection() != clip.Clipboard || o.Own() || o.Cleared() || !slices.Equal(o.Types(), []string{"image/png", policy.Hint}) {
			t.Errorf("%v of %s", o.Types(), o.Selection())
		}
		if got := read(t, o, "image/png"); !bytes.Equal(got, picture) {
			t.Errorf("%d bytes", len(got))
		}
		if _, err := o.Read(t.Context(), "image/png", 1<<20); !errors.Is(err, clip.ErrTooLarge) {
			t.Error(err)
		}
		if _, err := o.Read(t.Context(), "text/html", 1<<20); !errors.Is(err, clip.ErrNotFound) {
			t.Error(err)
		}
		r.c.Copy(seat, clip.Primary, nil, "text/plain")
		marked := r.next()
		if got := read(t, marked, "text/plain"); marked.Selection() != clip.Primary || string(got) != "text/plain" {
			t.Errorf("%s: %q", marked.Selection(), got)
		}
		r.c.Exit(seat, clip.Clipboard)
		if gone := r.next(); len(gone.Types()) != 0 || gone.Cleared() || gone.Selection() != clip.Clipboard {
			t.Errorf("%v", gone.Types())
		}
		if _, err := o.Read(t.Context(), "image/png", clip.MaxItem); !errors.Is(err, clip.ErrGone) {
			t.Error(err)
		}
		r.c.Exit(seat, clip.Primary)
		r.next()
		testenv.Eventually(t, "no offer is left", func() bool { return r.c.Clients()[0].Offers() == 0 })
	}
}

// TestBefore: what was copied before the display is opened counts, and what is not watched is not told.
func TestBefore(t *testing.T) {
	t.Parallel()
	c := waylandtest.Start(t, waylandtest.Seat, waylandtest.Ext)
	c.Copy(seat, clip.Primary, nil, "text/plain")
	c.Copy(seat, clip.Clipboard, nil, "text/html")
	d := open(t, wayland.Config{Name: c.Path})
	if o := next(t, d); o.Selection() != clip.Clipboard || string(read(t, o, "text/html")) != "text/html" {
		t.Errorf("%v", o.Types())
	}
	testenv.Eventually(t, "the other offer is let go", func() bool { return c.Clients()[0].Offers() == 1 })
	if err := d.Offer(clip.Primary, []clip.Content{{Type: "text/plain", Data: []byte("x")}}); err != nil { // what is not watched can be offered all the same
		t.Error(err)
	}
	if types := c.Types(seat, clip.Primary); len(types) == 0 || types[0] != "text/plain" {
		t.Errorf("%v", types)
	}
	c.Copy(seat, clip.Primary, nil, "text/plain")
	if err := d.Clear(clip.Primary); err != nil {
		t.Error(err)
	}
}

// TestOffer: what this process offers is taken by others and known as its own; when somebody clears it, that is on purpose.
func TestOffer(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{Selections: both})
	picture, text := random(3<<20), []byte(strings.Repeat("Größe\n", 100_000))
	contents := []clip.Content{{Type: "image/png", Data: picture}, {Type: "UTF8_STRING", Data: text}}
	for _, s := range both {
		if err := r.d.Offer(s, contents); err != nil {
			t.Fatal(err)
		}
		if o := r.next(); !o.Own() || o.Selection() != s {
			t.Error("own offer is not known as such")
		}
		types := r.c.Types(seat, s)
		if types[0] != "image/png" || !slices.Contains(types, "text/plain;charset=utf-8") {
			t.Errorf("%v", types)
		}
		for kind, want := range map[string][]byte{"image/png": picture, "UTF8_STRING": text, "text/plain;charset=utf-8": text, "text/plain": text, "image/gif": nil} {
			if got := r.paste(s, kind); !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes", kind, len(got))
			}
		}
	}
	if err := r.d.Offer(clip.Clipboard, contents[1:]); err != nil { // its own again, in place of its own
		t.Fatal(err)
	}
	if o := r.next(); !o.Own() {
		t.Error("own offer is not known as such")
	}
	// Somebody else offers the same, mark and all.
	r.c.Copy(seat, clip.Clipboard, nil, r.c.Types(seat, clip.Clipboard)...)
	if o := r.next(); o.Own() {
		t.Error("another's offer is taken for its own")
	}
	r.c.Exit(seat, clip.Clipboard)
	if o := r.next(); o.Cleared() {
		t.Error("the owner has exited, and it is taken for cleared")
	}
	r.c.Exit(seat, clip.Primary)
	if o := r.next(); !o.Cleared() {
		t.Error("it was cleared, and that is not told")
	}
	if err := r.d.Offer(clip.Clipboard, contents); err != nil {
		t.Fatal(err)
	}
	r.next()
	if err := r.d.Clear(clip.Clipboard); err != nil {
		t.Fatal(err)
	}
	if o := r.next(); !o.Cleared() || r.c.Types(seat, clip.Clipboard) != nil {
		t.Error("it is not cleared")
	}
	r.c.Copy(seat, clip.Clipboard, nil, "text/plain")
	if err := r.d.Clear(clip.Clipboard); err != nil || r.c.Types(seat, clip.Clipboard) == nil {
		t.Error("what another owns was cleared", err)
	}
}

// TestTwoDisplays: one offers, the other reads, and both live on.
func TestTwoDisplays(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	other := open(t, wayland.Config{Name: r.c.Path})
	data := random(1 << 20)
	for range 20 {
		if err := other.Offer(clip.Clipboard, []clip.Content{{Type: "image/png", Data: data}}); err != nil {
			t.Fatal(err)
		}
		if o := next(t, other); !o.Own() {
			t.Error("not own")
		}
		if got := read(t, r.next(), "image/png"); !bytes.Equal(got, data) {
			t.Errorf("%d bytes", len(got))
		}
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if o := r.next(); len(o.Types()) != 0 {
		t.Errorf("%v", o.Types())
	}
}

// TestSeats: each seat's clipboard is watched, also of one that comes later; one that goes takes its offer along. What is offered is offered at all.
func TestSeats(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	second := r.c.Announce(waylandtest.Seat)
	testenv.Eventually(t, "its device", func() bool {
		r.c.Copy(second, clip.Clipboard, gives([]byte("two")), "text/plain")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		o, err := r.d.Next(ctx)
		return err == nil && len(o.Types()) == 1
	})
	r.c.Copy(seat, clip.Clipboard, gives([]byte("one")), "text/plain")
	one := r.next()
	for len(one.Types()) == 0 || string(read(t, one, "text/plain")) != "one" {
		one = r.next()
	}
	if err := r.d.Offer(clip.Clipboard, []clip.Content{{Type: "text/html", Data: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o := r.next(); !o.Own() {
			t.Errorf("%v", o.Types())
		}
	}
	if r.c.Types(second, clip.Clipboard)[0] != "text/html" || r.c.Types(seat, clip.Clipboard)[0] != "text/html" {
		t.Error("not offered at both seats")
	}
	r.c.Copy(second, clip.Clipboard, nil, "text/plain")
	o := r.next()
	r.c.Remove(second)
	testenv.Eventually(t, "the end of its offer", func() bool {
		_, err := o.Read(t.Context(), "text/plain", 100)
		return errors.Is(err, clip.ErrGone)
	})
	r.c.Copy(seat, clip.Clipboard, nil, "text/plain")
	if got := read(t, r.next(), "text/plain"); string(got) != "text/plain" {
		t.Errorf("the first seat has %q", got)
	}
}

// TestUnsupported: the error says what to do.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	c := waylandtest.Start(t, waylandtest.Seat, waylandtest.Other)
	_, err := wayland.Open(wayland.Config{Name: c.Path})
	if !errors.Is(err, clip.ErrUnsupported) || !strings.Contains(err.Error(), "GNOME") {
		t.Error(err)
	}
	// The first version of wlr's has no primary selection.
	r := start(t, wayland.Config{Selections: both}, waylandtest.Seat, waylandtest.Wlr1)
	if err := r.d.Offer(clip.Primary, nil); err == nil {
		t.Error("offered what cannot be")
	}
	r.c.Copy(seat, clip.Clipboard, nil, "text/plain")
	if o := r.next(); o.Selection() != clip.Clipboard {
		t.Error(o.Selection())
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	if _, err := wayland.Open(wayland.Config{Name: filepath.Join(t.TempDir(), "wayland-7")}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestCompositorGone: Next says so, reads end, and Close does.
func TestCompositorGone(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	hang := make(chan *os.File, 1)
	r.c.Copy(seat, clip.Clipboard, func(_ string, to *os.File) { hang <- to }, "text/plain")
	o := r.next()
	failed := make(chan error, 1)
	go func() {
		_, err := o.Read(t.Context(), "text/plain", 100)
		failed <- err
	}()
	defer (<-hang).Close()
	r.c.Close()
	if err := <-failed; !errors.Is(err, wire.ErrClosed) {
		t.Error(err)
	}
	if _, err := r.d.Next(t.Context()); !errors.Is(err, wire.ErrClosed) {
		t.Error(err)
	}
	if err := r.d.Offer(clip.Clipboard, []clip.Content{{Type: "text/plain"}}); err == nil {
		t.Error("offered to nobody")
	}
}

// TestApplication: it is the one whose window has the focus when something is copied.
func TestApplication(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{}, waylandtest.Seat, waylandtest.Windows, waylandtest.Ext)
	client := r.c.Clients()[0]
	const editor, vault, active = waylandtest.Own, waylandtest.Own + 1, 2
	for i, step := range []struct {
		send func() error
		want string
	}{
		{func() error { return nil }, ""},
		{func() error {
			manager := client.Object(waylandtest.Windows.Interface)
			return errors.Join(
				client.Send(manager, 0, wire.Uint(editor)), client.Send(editor, 1, wire.String("editor")), client.Send(editor, 0, wire.String("a title")), client.Send(editor, 5),
				client.Send(manager, 0, wire.Uint(vault)), client.Send(vault, 1, wire.String("vault")), client.Send(vault, 4, wire.Uint(8), wire.Uint(0), wire.Uint(active)),
			)
		}, "vault"},
		{func() error { return client.Send(editor, 4, wire.Uint(4), wire.Uint(active)) }, "editor"},
		{func() error { return client.Send(vault, 4, wire.Uint(0)) }, "editor"},
		{func() error { return client.Send(editor, 4, wire.Uint(4), wire.Uint(0)) }, ""},
		{func() error { return client.Send(editor, 4, wire.Uint(4), wire.Uint(active)) }, "editor"},
		{func() error { return client.Send(editor, 6) }, ""},
		{func() error {
			return errors.Join(client.Send(vault, 1, wire.String(strings.Repeat("x", 1000))), client.Send(vault, 4, wire.Uint(4), wire.Uint(active)))
		}, ""},
	} {
		if err := step.send(); err != nil {
			t.Fatal(err)
		}
		r.c.Copy(seat, clip.Clipboard, nil, "text/plain")
		if o := r.next(); o.App() != step.want {
			t.Errorf("step %d: %q, want %q", i, o.App(), step.want)
		}
	}
	if err := client.Send(vault, 7); err != nil { // of a later version
		t.Fatal(err)
	}
	if _, err := r.d.Next(t.Context()); !errors.Is(err, wire.ErrProtocol) {
		t.Error(err)
	}
}

// TestBurst: of a thousand copies in a row the last is delivered, and no offer is left behind.
func TestBurst(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	for i := range 1000 {
		r.c.Copy(seat, clip.Clipboard, gives([]byte(strconv.Itoa(i))), "text/plain", "UTF8_STRING")
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
	testenv.Eventually(t, "one offer is left", func() bool { return r.c.Clients()[0].Offers() == 1 })
}

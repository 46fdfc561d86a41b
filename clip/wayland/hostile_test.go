package wayland_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/policy"
	"orrery/clip/wayland"
	"orrery/clip/wayland/waylandtest"
	"orrery/clip/wayland/wire"
	"orrery/internal/testenv"
)

// TestSilentOwner: it costs its time-out, and the next one is heard.
func TestSilentOwner(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{Patience: 500 * time.Millisecond})
	var hang []*os.File
	asked := make(chan *os.File, 3)
	r.c.Copy(seat, clip.Clipboard, func(_ string, to *os.File) {
		_, _ = to.WriteString("begin")
		asked <- to
	}, "text/plain")
	o := r.next()
	for range 3 {
		if _, err := o.Read(t.Context(), "text/plain", 1<<20); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		hang = append(hang, <-asked)
	}
	for _, f := range hang {
		if _, err := f.Write(make([]byte, 1<<20)); err == nil { // an EPIPE, and no signal
			t.Error("the pipe is still read")
		}
		_ = f.Close()
	}
	r.c.Copy(seat, clip.Clipboard, nil, "UTF8_STRING")
	if got := read(t, r.next(), "UTF8_STRING"); string(got) != "UTF8_STRING" {
		t.Errorf("%q", got)
	}
}

// TestSuperseded: a transfer ends when somebody else copies, or when its context does, and nothing of the old is taken for the new.
func TestSuperseded(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{Patience: time.Minute})
	asked := make(chan *os.File, 1)
	hang := func(_ string, to *os.File) {
		_, _ = to.WriteString("old")
		asked <- to
	}
	for _, then := range []struct {
		what string
		do   func(cancel func())
		want error
	}{
		{"another copies", func(func()) { r.c.Copy(seat, clip.Clipboard, nil, "text/plain") }, clip.ErrGone},
		{"the owner exits", func(func()) { r.c.Exit(seat, clip.Clipboard) }, clip.ErrGone},
		{"the context ends", func(cancel func()) { cancel() }, context.Canceled},
	} {
		r.c.Copy(seat, clip.Clipboard, hang, "text/plain")
		o := r.next()
		for len(o.Types()) == 0 {
			o = r.next()
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := o.Read(ctx, "text/plain", 1<<20)
			failed <- err
		}()
		to := <-asked
		then.do(cancel)
		if err := <-failed; !errors.Is(err, then.want) {
			t.Errorf("%s: %v", then.what, err)
		}
		_ = to.Close()
		cancel()
		if then.want == context.Canceled { //nolint:errorlint // it is a value of the table
			continue
		}
		r.next()
	}
}

// TestKilledInTheMiddle: what an owner that exits has sent so far is not taken for all.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	for range 50 {
		r.c.Copy(seat, clip.Clipboard, func(_ string, to *os.File) {
			_, _ = to.WriteString("half of")
			r.c.Exit(seat, clip.Clipboard) // the kernel closes a program's connection before its pipes
			_ = to.Close()
		}, "text/plain")
		o := r.next()
		for len(o.Types()) == 0 {
			o = r.next()
		}
		if got, err := o.Read(t.Context(), "text/plain", 1<<20); !errors.Is(err, clip.ErrGone) {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// TestEndless: an owner that never ends costs the limit in memory, and not more.
func TestEndless(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	sent := make(chan int, 1)
	r.c.Copy(seat, clip.Clipboard, func(_ string, to *os.File) {
		n, piece := 0, make([]byte, 1<<20)
		for n < 2<<30 {
			k, err := to.Write(piece)
			if n += k; err != nil {
				break
			}
		}
		_ = to.Close()
		sent <- n
	}, "text/plain")
	if _, err := r.next().Read(t.Context(), "text/plain", 8<<20); !errors.Is(err, clip.ErrTooLarge) {
		t.Error(err)
	}
	if n := <-sent; n > 16<<20 {
		t.Errorf("%d bytes were read", n)
	}
}

// TestManyTypes: a secret's mark is seen behind any number of others that an item may have; the rest is bounded.
func TestManyTypes(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{})
	var types []string
	for i := range 500 {
		types = append(types, "application/x-"+strconv.Itoa(i))
	}
	types = append(types, types[0], string(bytes.Repeat([]byte("x"), clip.MaxType+1)), policy.Hint)
	r.c.Copy(seat, clip.Clipboard, nil, types...)
	o := r.next()
	if got := o.Types(); len(got) != 501 || got[500] != policy.Hint {
		t.Errorf("%d types", len(got))
	}
	rules := policy.Rules{}
	if read, ask, _ := rules.Begin("", o.Types()); !ask || len(read) > clip.MaxTypes {
		t.Errorf("%d types are read, the mark %t", len(read), ask)
	}
	for i := range 5000 {
		types = append(types, "application/y-"+strconv.Itoa(i))
	}
	r.c.Copy(seat, clip.Clipboard, nil, types...)
	if got := r.next().Types(); len(got) > 1024 {
		t.Errorf("%d types", len(got))
	}
}

// TestPasteNeverTaken: programs that ask and do not read hold nobody up, and are let go; so are those that give what cannot be waited for.
func TestPasteNeverTaken(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{Patience: time.Second})
	data := random(1 << 20)
	if err := r.d.Offer(clip.Clipboard, []clip.Content{{Type: "image/png", Data: data}}); err != nil {
		t.Fatal(err)
	}
	r.next()
	var held []*os.File
	defer func() {
		for _, f := range held {
			_ = f.Close()
		}
	}()
	for range 200 { // more than are sent at a time
		f, err := r.c.Paste(seat, clip.Clipboard, "image/png")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, f)
	}
	if got := r.paste(clip.Clipboard, "image/png"); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
	gone, err := r.c.Paste(seat, clip.Clipboard, "image/png")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close() // writing to it is an EPIPE
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	client := r.c.Clients()[0]
	if err := client.Send(client.Object("source"), 0, wire.String("image/png"), wire.FD(file.Fd())); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	if got := r.paste(clip.Clipboard, "image/png"); !bytes.Equal(got, data) {
		t.Errorf("%d bytes", len(got))
	}
}

// TestHostileCompositor: what breaks the protocol ends the connection with an error that says what it was, and Close returns.
func TestHostileCompositor(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(c *waylandtest.Client) error{
		"unknown object":           func(c *waylandtest.Client) error { return c.Send(77, 0) },
		"unknown event of device":  func(c *waylandtest.Client) error { return c.Send(c.Object("device"), 9) },
		"unknown event of display": func(c *waylandtest.Client) error { return c.Send(1, 2) },
		"event of manager":         func(c *waylandtest.Client) error { return c.Send(c.Object("ext_data_control_manager_v1"), 0) },
		"event of source":          func(c *waylandtest.Client) error { return c.Send(c.Object("source"), 2) },
		"offer without number":     func(c *waylandtest.Client) error { return c.Send(c.Object("device"), 0) },
		"offer with our number":    func(c *waylandtest.Client) error { return c.Send(c.Object("device"), 0, wire.Uint(3)) },
		"offer twice": func(c *waylandtest.Client) error {
			return errors.Join(c.Send(c.Object("device"), 0, wire.Uint(0xff001000)), c.Send(c.Object("device"), 0, wire.Uint(0xff001000)))
		},
		"selection never announced": func(c *waylandtest.Client) error { return c.Send(c.Object("device"), 1, wire.Uint(0xff001000)) },
		"offers never selected": func(c *waylandtest.Client) error {
			var err error
			for i := range 64 {
				err = errors.Join(err, c.Send(c.Object("device"), 0, wire.Uint(0xff001000+i)))
			}
			return err
		},
		"event of offer": func(c *waylandtest.Client) error {
			return errors.Join(c.Send(c.Object("device"), 0, wire.Uint(0xff001000)), c.Send(0xff001000, 5))
		},
		"missing descriptor": func(c *waylandtest.Client) error { return c.Send(c.Object("source"), 0, wire.String("text/plain")) },
		"missing text":       func(c *waylandtest.Client) error { return c.Send(c.Object("source"), 0) },
		"text that is longer": func(c *waylandtest.Client) error {
			return c.Send(c.Object("source"), 0, wire.Uint(1<<31), wire.Uint(0))
		},
		"text without an end": func(c *waylandtest.Client) error {
			return c.Send(c.Object("source"), 0, wire.Uint(4), wire.Uint(0x41414141))
		},
		"error": func(c *waylandtest.Client) error {
			return c.Send(1, 0, wire.Uint(c.Object("device")), wire.Uint(1), wire.String("no more"))
		},
		"descriptors of nothing": func(c *waylandtest.Client) error {
			var fds []wire.Arg
			for range 200 {
				fds = append(fds, wire.FD(0))
			}
			return errors.Join(c.Send(c.Object("wl_seat"), 0, fds...), c.Send(c.Object("wl_seat"), 0, fds...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, wayland.Config{}, waylandtest.Seat, waylandtest.Ext)
			if err := r.d.Offer(clip.Clipboard, []clip.Content{{Type: "text/plain", Data: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
			r.next()
			_ = send(r.c.Clients()[0]) // the connection may be over before all is sent
			_, err := r.d.Next(t.Context())
			if name == "error" {
				if err == nil || errors.Is(err, wire.ErrProtocol) {
					t.Error(err)
				}
			} else if !errors.Is(err, wire.ErrProtocol) {
				t.Error(err)
			}
			t.Log(err)
		})
	}
}

// TestHarmlessOddities: what may come when both sides act at once breaks nothing.
func TestHarmlessOddities(t *testing.T) {
	t.Parallel()
	r := start(t, wayland.Config{}, waylandtest.Seat, waylandtest.Ext)
	client := r.c.Clients()[0]
	device := client.Object("device")
	if err := errors.Join(
		client.Send(0xff00abcd, 0, wire.String("of an offer that is gone")),
		client.Send(device, 1, wire.Uint(0)), client.Send(device, 3, wire.Uint(0)), // nobody had it, nobody has
		client.Send(1, 1, wire.Uint(999)), client.Send(1, 1, wire.Uint(1)), // numbers that were not used, or are
	); err != nil {
		t.Fatal(err)
	}
	r.c.Copy(seat, clip.Clipboard, nil, "text/plain")
	if got := read(t, r.next(), "text/plain"); string(got) != "text/plain" {
		t.Errorf("%q", got)
	}
	if err := client.Send(device, 2); err != nil { // finished: the seat's clipboard is not ours to watch any more
		t.Fatal(err)
	}
	testenv.Eventually(t, "the device is destroyed", func() bool { return client.Object("device") == 0 })
	if err := r.d.Offer(clip.Clipboard, []clip.Content{{Type: "text/plain"}}); err == nil {
		t.Error("offered where there is no clipboard")
	}
}

package waylandwindow_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/wayland/waylandtest"
	"orrery/clip/wayland/wire"
	"orrery/clip/window"
	"orrery/clip/window/waylandwindow"
	"orrery/clip/window/windowtest"
	"orrery/internal/testenv"
)

// rig is a picker in a window on a compositor that the test plays.
type rig struct {
	t          *testing.T
	compositor *waylandtest.Compositor
	client     *waylandtest.Client
	source     *windowtest.Source
	want       *windowtest.Expected
	ended      chan error
}

// run shows a picker on the compositor at an address.
func run(t *testing.T, address string, s *windowtest.Source) (ended chan error) {
	t.Helper()
	ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- window.Run(ctx, window.Config{Source: s, Actions: action.Defaults(), Open: func(ctx context.Context) (window.Screen, error) {
			screen, err := waylandwindow.Open(ctx, address)
			if err != nil {
				return nil, err
			}
			return screen, nil
		}})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ended
}

func base(more ...wire.Global) []wire.Global {
	return append([]wire.Global{waylandtest.Surfaces, waylandtest.Memory, waylandtest.Seat, waylandtest.Output}, more...)
}

func start(t *testing.T, s *windowtest.Source, scale int, globals ...wire.Global) *rig {
	t.Helper()
	r := &rig{t: t, source: s, compositor: waylandtest.Start(t, globals...)}
	r.compositor.Scaled(scale)
	r.ended = run(t, r.compositor.Path, s)
	testenv.Eventually(t, "a client comes", func() bool { return len(r.compositor.Clients()) == 1 })
	r.client = r.compositor.Clients()[0]
	r.want = windowtest.Expect(t, s, waylandtest.OutputWidth*scale, waylandtest.OutputHeight*scale, float64(scale))
	return r
}

func (r *rig) shows(name string) {
	r.t.Helper()
	r.want.Shows(name, r.client.Picture)
}

// send sends an event to the newest object of an interface, once there is one.
func (r *rig) send(name string, opcode uint16, args ...wire.Arg) {
	r.t.Helper()
	testenv.Eventually(r.t, "there is a "+name, func() bool { return r.client.Object(name) != 0 })
	if err := r.client.Send(r.client.Object(name), opcode, args...); err != nil {
		r.t.Fatal(err)
	}
}

// The operations of events that are sent here.
const (
	keymap, enter, leave, key, modifiers, repeatInfo = 0, 1, 2, 3, 4, 5
	pointerEnter, pointerButton, pointerAxis         = 0, 3, 4
)

// keymap sends a keymap, and gives the window the keyboard.
func (r *rig) keymap(text string) {
	r.t.Helper()
	f, err := os.CreateTemp(r.t.TempDir(), "keymap")
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text + "\x00"); err != nil {
		r.t.Fatal(err)
	}
	r.send("wl_keyboard", repeatInfo, wire.Int(0), wire.Int(0))                          // on a busy machine any key is held for long
	r.send("wl_keyboard", keymap, wire.Uint(1), wire.FD(f.Fd()), wire.Uint(len(text)+1)) //nolint:gosec // small
	r.send("wl_keyboard", enter, wire.Uint(1), wire.Uint(r.client.Object("wl_surface")), wire.Uint(0))
}

// press presses keys by the kernel's codes, and lets them go.
func (r *rig) press(codes ...uint32) {
	for _, code := range codes {
		for _, down := range []wire.Uint{1, 0} {
			r.send("wl_keyboard", key, wire.Uint(1), wire.Uint(0), wire.Uint(code), down)
		}
	}
}

func (r *rig) mods(mods, group uint32) {
	r.send("wl_keyboard", modifiers, wire.Uint(1), wire.Uint(mods), wire.Uint(0), wire.Uint(0), wire.Uint(group))
}

func (r *rig) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-r.t.Context().Done():
		return r.t.Context().Err()
	}
}

const (
	keyG, keyR, keyDown, keyEnter, keyLeftAlt, altMod = 34, 19, 108, 28, 56, 8
)

var fruits = []string{"grape, red", "banana", "great\nlines", "Größe", "ягода", "apple"} //nolint:gochecknoglobals // a constant

// TestPick: in a layer and as a window of xdg_shell, at several scales.
func TestPick(t *testing.T) {
	t.Parallel()
	text := windowtest.Keymap(t, "pc+us+ru:2+inet(evdev)")
	for name, c := range map[string]struct {
		scale   int
		globals []wire.Global
	}{
		"layer":    {1, base(waylandtest.Layers, waylandtest.Shell)},
		"shell":    {1, base(waylandtest.Shell)},
		"scaled":   {2, base(waylandtest.Layers)},
		"viewport": {2, base(waylandtest.Layers, waylandtest.Viewports, waylandtest.Fractions, waylandtest.Inputs, waylandtest.Cursors)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, windowtest.Texts(fruits...), c.scale, c.globals...)
			r.shows("all")
			r.keymap(text)
			r.press(keyG, keyR)
			r.want.Type("gr")
			r.shows("narrowed")
			r.press(keyDown)
			r.want.Key("down")
			r.shows("second")
			r.mods(altMod, 0)
			r.press(keyEnter)
			if err := r.end(); err != nil {
				t.Fatal(err)
			}
			if got := r.source.Given(); len(got) != 1 || got[0] != (windowtest.Given{ID: 4, Plain: true}) {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestFraction: a scale that is no whole number, which comes late.
func TestFraction(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts(fruits...), 1, base(waylandtest.Layers, waylandtest.Viewports, waylandtest.Fractions)...)
	r.shows("whole")
	r.send("wp_fractional_scale_v1", 0, wire.Uint(180))
	r.want = windowtest.Expect(t, r.source, waylandtest.OutputWidth*3/2, waylandtest.OutputHeight*3/2, 1.5)
	r.shows("fraction")
	r.send("zwlr_layer_surface_v1", 0, wire.Uint(7), wire.Uint(501), wire.Uint(301))
	r.want = windowtest.Expect(t, r.source, 752, 452, 1.5)
	r.shows("small")
}

// TestLayout: another layout, a key that is held, and one that another window has.
func TestLayout(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts(fruits...), 1, base(waylandtest.Layers)...)
	r.shows("all")
	r.keymap(windowtest.Keymap(t, "pc+us+ru:2+inet(evdev)"))
	r.mods(0, 1)
	const keyZ = 44
	r.press(keyZ)
	r.want.Type("я")
	r.shows("Russian")
	const keyBackspace = 14
	r.send("wl_keyboard", repeatInfo, wire.Int(100), wire.Int(10))
	r.mods(0, 0)
	r.press(keyBackspace)
	r.want.Key("backspace")
	r.shows("nothing")
	r.send("wl_keyboard", key, wire.Uint(1), wire.Uint(0), wire.Uint(keyDown), wire.Uint(1))
	for range len(fruits) {
		r.want.Key("down")
	}
	r.shows("the last, by repetition")
	r.send("wl_keyboard", leave, wire.Uint(2), wire.Uint(r.client.Object("wl_surface")))
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// TestMouse: the wheel and a click, at scale 2.
func TestMouse(t *testing.T) {
	t.Parallel()
	texts := strings.Fields(strings.Repeat("one two three ", 30))
	r := start(t, windowtest.Texts(texts...), 2, base(waylandtest.Layers, waylandtest.Cursors)...)
	r.shows("all")
	r.send("wl_pointer", pointerEnter, wire.Uint(9), wire.Uint(r.client.Object("wl_surface")), wire.Int(100*256), wire.Int(66*256))
	for range 6 {
		r.send("wl_pointer", pointerAxis, wire.Uint(0), wire.Uint(0), wire.Int(10*256))
		for range 3 {
			r.want.Key("down")
		}
	}
	r.shows("scrolled")
	if !r.client.Told("wp_cursor_shape_device_v1 1") {
		t.Error("the pointer has no shape")
	}
	top := r.want.State.Top
	if top == 0 {
		t.Fatal("it has not scrolled")
	}
	r.send("wl_pointer", pointerButton, wire.Uint(10), wire.Uint(0), wire.Uint(0x110), wire.Uint(1))
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if got := r.source.Given(); len(got) != 1 || got[0].ID != clip.ID(len(texts)-top) { //nolint:gosec // a few
		t.Errorf("%v from %d on", got, top)
	}
}

// TestInput: what an input method writes.
func TestInput(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts(fruits...), 1, base(waylandtest.Layers, waylandtest.Inputs)...)
	r.shows("all")
	const name = "zwp_text_input_v3"
	r.send(name, 0, wire.Uint(r.client.Object("wl_surface")))
	testenv.Eventually(t, "it is enabled", func() bool { return r.client.Told(name+" 1") && r.client.Told(name+" 7") })
	r.send(name, 2, wire.String("gros"), wire.Int(0), wire.Int(4))
	r.send(name, 5, wire.Uint(1))
	r.want.Composing = "gros"
	r.shows("composing")
	r.send(name, 3, wire.String("Größx"))
	r.send(name, 5, wire.Uint(1))
	r.want.Composing = ""
	r.want.Type("Größx")
	r.shows("written")
	r.send(name, 4, wire.Uint(1), wire.Uint(0))
	r.send(name, 3, wire.String("e"))
	r.send(name, 5, wire.Uint(1))
	r.want.Key("backspace")
	r.want.Type("e")
	r.shows("corrected")
	r.send("zwlr_layer_surface_v1", 1)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// TestXDGShell: pings are answered, sizes are taken, and the window is closed.
func TestXDGShell(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts(fruits...), 1, base(waylandtest.Shell)...)
	r.shows("all")
	r.send("xdg_wm_base", 0, wire.Uint(5))
	testenv.Eventually(t, "the ping is answered", func() bool { return r.client.Told("xdg_wm_base 3") })
	r.send("xdg_toplevel", 0, wire.Int(400), wire.Int(333), wire.Uint(0))
	r.send("xdg_surface", 0, wire.Uint(2))
	r.want = windowtest.Expect(t, r.source, 400, 333, 1)
	r.shows("small")
	for _, request := range []string{"xdg_toplevel 2", "xdg_toplevel 3", "xdg_surface 4"} {
		if !r.client.Told(request) {
			t.Errorf("no %s", request)
		}
	}
	r.send("xdg_toplevel", 1)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// TestUnsupported: a compositor on which no window can be opened.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	for _, globals := range [][]wire.Global{base(), {waylandtest.Surfaces, waylandtest.Layers}, {waylandtest.Memory, waylandtest.Layers}} {
		c := waylandtest.Start(t, globals...)
		if _, err := waylandwindow.Open(t.Context(), c.Path); !errors.Is(err, clip.ErrUnsupported) || !strings.Contains(err.Error(), "--terminal") {
			t.Errorf("%v", err)
		}
	}
}

// TestHostile: what no compositor should send ends the window, with an error, or is bounded.
func TestHostile(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 4000)
	for name, send := range map[string]func(r *rig){
		"size": func(r *rig) {
			r.send("zwlr_layer_surface_v1", 0, wire.Uint(1), wire.Uint(1<<31), wire.Uint(0xffffffff))
		},
		"unknown":  func(r *rig) { r.send("zwlr_layer_surface_v1", 77) },
		"keyboard": func(r *rig) { r.send("wl_keyboard", 99) },
		"cut":      func(r *rig) { r.send("wl_keyboard", key, wire.Uint(1)) },
		"keymap":   func(r *rig) { r.keymap("xkb_keymap { nonsense };") },
		"no file":  func(r *rig) { r.send("wl_keyboard", keymap, wire.Uint(1), wire.Uint(100)) },
		"a pipe": func(r *rig) {
			from, to, err := os.Pipe()
			if err != nil {
				r.t.Fatal(err)
			}
			defer from.Close()
			defer to.Close()
			r.send("wl_keyboard", keymap, wire.Uint(1), wire.FD(from.Fd()), wire.Uint(100))
		},
		"scale":   func(r *rig) { r.send("wl_output", 3, wire.Int(-1<<31)); r.send("wl_output", 99) },
		"release": func(r *rig) { r.send("wl_buffer", 9) },
		"input": func(r *rig) {
			r.send("zwp_text_input_v3", 2, wire.String(big+big), wire.Int(1<<30), wire.Int(-5))
			r.send("zwp_text_input_v3", 66)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, windowtest.Texts(fruits...), 1, base(waylandtest.Layers, waylandtest.Inputs)...)
			r.shows("all")
			send(r)
			if name == "size" { // as large as is possible
				r.client.Send(r.client.Object("zwlr_layer_surface_v1"), 1)
				if err := r.end(); err != nil {
					t.Error(err)
				}
				return
			}
			if err := r.end(); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestGone: a compositor that ends ends the picker.
func TestGone(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts("one"), 1, base(waylandtest.Layers)...)
	r.shows("one")
	r.compositor.Close()
	if err := r.end(); err == nil {
		t.Error("no error")
	}
	if _, err := waylandwindow.Open(t.Context(), r.compositor.Path); err == nil {
		t.Error("opened on nothing")
	}
}

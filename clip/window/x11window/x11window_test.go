package x11window_test

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"os"
	"os/exec"
	"testing"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/window"
	"orrery/clip/window/paint"
	"orrery/clip/window/windowtest"
	"orrery/clip/window/x11window"
	"orrery/internal/testenv"
)

// rig is a picker in a window on an X server, and another program that looks at it.
type rig struct {
	t       *testing.T
	display string
	x       *xgb.Conn
	root    xproto.Window
	source  *windowtest.Source
	ended   chan error
	want    *windowtest.Expected
	raw     []byte // of the last photograph
	last    *image.RGBA
}

func start(t *testing.T, s *windowtest.Source) *rig {
	t.Helper()
	testenv.Need(t, "xdotool", "apt-get install xdotool")
	r := &rig{t: t, source: s, ended: make(chan error, 1)}
	r.display, _ = testenv.XServer(t)
	var err error
	if r.x, err = xgb.NewConnDisplay(r.display); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.x.Close)
	r.root = xproto.Setup(r.x).DefaultScreen(r.x).Root
	r.run()
	return r
}

// run opens the picker's window.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.ended <- window.Run(ctx, window.Config{Source: r.source, Actions: action.Defaults(), Open: func(ctx context.Context) (window.Screen, error) { return x11window.Open(ctx, r.display) }})
	}()
	r.t.Cleanup(func() { cancel(); <-done })
	r.want = windowtest.Expect(r.t, r.source, paint.Width, paint.Height, 1)
}

func (r *rig) xdotool(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "xdotool", args...)
	cmd.Env = append(os.Environ(), "DISPLAY="+r.display)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("xdotool %v: %v: %s", args, err, out)
	}
}

// window is the picker's, if it is there.
func (r *rig) window() xproto.Window {
	tree, err := xproto.QueryTree(r.x, r.root).Reply()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, w := range tree.Children {
		name, err := xproto.GetProperty(r.x, false, w, xproto.AtomWmName, xproto.AtomString, 0, 64).Reply()
		if err == nil && string(name.Value) == window.Title {
			return w
		}
	}
	return 0
}

// photograph is what the picker's window shows; nil if it shows nothing.
func (r *rig) photograph() *image.RGBA {
	w := r.window()
	g, err := xproto.GetGeometry(r.x, xproto.Drawable(w)).Reply()
	if w == 0 || err != nil {
		return nil
	}
	shot, err := xproto.GetImage(r.x, xproto.ImageFormatZPixmap, xproto.Drawable(w), 0, 0, g.Width, g.Height, ^uint32(0)).Reply()
	if err != nil {
		return nil
	}
	if r.last != nil && bytes.Equal(shot.Data, r.raw) {
		return r.last
	}
	picture := image.NewRGBA(image.Rect(0, 0, int(g.Width), int(g.Height)))
	r.raw, r.last = shot.Data, picture
	for i := 0; i < len(picture.Pix); i += 4 {
		picture.Pix[i], picture.Pix[i+1], picture.Pix[i+2], picture.Pix[i+3] = shot.Data[i+2], shot.Data[i+1], shot.Data[i], 0xff
	}
	return picture
}

// shows waits until the window shows what it is to show.
func (r *rig) shows(name string) {
	r.t.Helper()
	r.want.Shows(name, r.photograph)
}

// focused waits until the window has the keyboard.
func (r *rig) focused() {
	r.t.Helper()
	testenv.Eventually(r.t, "the window has the keyboard", func() bool {
		focus, err := xproto.GetInputFocus(r.x).Reply()
		return err == nil && focus.Focus == r.window()
	})
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

// TestPick: what is typed narrows the list, arrows move in it, enter gives what the cursor is on.
func TestPick(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts("grape, red", "banana", "great\nlines\n\tof text", "Größe", "apple"))
	r.shows("all")
	r.focused()
	r.xdotool("type", "gr")
	r.want.Type("gr")
	r.shows("narrowed")
	r.xdotool("key", "Down")
	r.want.Key("down")
	r.shows("second")
	r.xdotool("key", "F1")
	r.want.Key("f1")
	r.shows("help")
	r.xdotool("key", "Escape")
	r.want.Key("esc")
	r.shows("list")
	r.xdotool("key", "alt+Return")
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if got := r.source.Given(); len(got) != 1 || got[0] != (windowtest.Given{ID: 3, Plain: true}) {
		t.Errorf("%v", got)
	}
	testenv.Eventually(t, "the window is gone", func() bool { return r.window() == 0 })
}

// TestMouse: the wheel scrolls, a click chooses.
func TestMouse(t *testing.T) {
	t.Parallel()
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = "item " + string(rune('a'+i%26))
	}
	r := start(t, windowtest.Texts(texts...))
	r.shows("all")
	for range 10 {
		r.xdotool("mousemove", "640", "300", "click", "5")
		for range 3 {
			r.want.Key("down")
		}
	}
	r.shows("scrolled")
	top := r.want.State.Top
	if top == 0 {
		t.Fatal("it has not scrolled")
	}
	r.xdotool("mousemove", "640", "190", "click", "1")
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if got := r.source.Given(); len(got) != 1 || got[0].ID != clip.ID(100-top) { //nolint:gosec // a few
		t.Errorf("%v from %d on", got, top)
	}
}

// TestLeave: the window ends when another has the keyboard, and by its window manager.
func TestLeave(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts("one"))
	r.shows("one")
	r.focused()
	if err := xproto.SetInputFocusChecked(r.x, xproto.InputFocusNone, xproto.InputFocusPointerRoot, xproto.TimeCurrentTime).Check(); err != nil {
		t.Fatal(err)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	r.run()
	r.shows("again")
	w := r.window()
	atom := func(name string) uint32 {
		a, err := xproto.InternAtom(r.x, false, uint16(len(name)), name).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return uint32(a.Atom)
	}
	message := xproto.ClientMessageEvent{Format: 32, Window: w, Type: xproto.Atom(atom("WM_PROTOCOLS")), Data: xproto.ClientMessageDataUnionData32New([]uint32{atom("WM_DELETE_WINDOW"), 0, 0, 0, 0})}
	if err := xproto.SendEventChecked(r.x, false, w, 0, string(message.Bytes())).Check(); err != nil {
		t.Fatal(err)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if got := r.source.Given(); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestResize: another size, as a window manager gives it, and what is drawn again after it was covered.
func TestResize(t *testing.T) {
	t.Parallel()
	r := start(t, windowtest.Texts("one", "two"))
	r.shows("one")
	if err := xproto.ConfigureWindowChecked(r.x, r.window(), xproto.ConfigWindowWidth|xproto.ConfigWindowHeight, []uint32{403, 301}).Check(); err != nil {
		t.Fatal(err)
	}
	r.want = windowtest.Expect(t, r.source, 403, 301, 1)
	r.shows("small")
	if err := xproto.ClearAreaChecked(r.x, true, r.window(), 0, 0, 0, 0).Check(); err != nil {
		t.Fatal(err)
	}
	r.shows("again")
}

// TestPicture: an image is shown as it is.
func TestPicture(t *testing.T) {
	t.Parallel()
	s := &windowtest.Source{}
	red := image.NewRGBA(image.Rect(0, 0, 50, 40))
	for i := range red.Pix {
		red.Pix[i] = []byte{0xee, 0x11, 0x22, 0xff}[i%4]
	}
	var file bytes.Buffer
	if err := png.Encode(&file, red); err != nil {
		t.Fatal(err)
	}
	s.Add(clip.Content{Type: "image/png", Data: file.Bytes()})
	r := start(t, s)
	testenv.Eventually(t, "the picture is there", func() bool {
		shot, n := r.photograph(), 0
		if shot == nil {
			return false
		}
		for i := 0; i < len(shot.Pix); i += 4 {
			if shot.Pix[i] == 0xee && shot.Pix[i+1] == 0x11 && shot.Pix[i+2] == 0x22 {
				n++
			}
		}
		return n == 50*40
	})
}

// TestGone: an X server that ends ends the picker.
func TestGone(t *testing.T) {
	t.Parallel()
	display, server := testenv.XServer(t)
	opened := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- window.Run(t.Context(), window.Config{Source: windowtest.Texts("one"), Open: func(ctx context.Context) (window.Screen, error) {
			defer close(opened)
			return x11window.Open(ctx, display)
		}})
	}()
	<-opened
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended // with an error or without
	// Not the same display: another test's server may have its number by now.
	if _, err := x11window.Open(t.Context(), ":54321"); err == nil {
		t.Error("opened on nothing")
	}
}

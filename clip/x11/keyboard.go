package x11

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"

	"orrery/clip"
)

// Keyboard is a clip.Keyboard by XTEST, with a connection of its own.
type Keyboard struct {
	x    *xgb.Conn
	root xproto.Window
}

var _ clip.Keyboard = (*Keyboard)(nil)

// Keysyms of what is pressed.
const (
	keyV       = 0x0076
	keyInsert  = 0xff63
	keyControl = 0xffe3
	keyShift   = 0xffe1
)

// handsOff is how long keys such as Alt, which a person may still hold, are waited for; then they are let go in their place.
const handsOff = 500 * time.Millisecond

// OpenKeyboard connects to a display; empty: $DISPLAY.
func OpenKeyboard(name string) (*Keyboard, error) {
	logOnce.Do(func() { xgb.Logger.SetOutput(io.Discard) })
	x, err := xgb.NewConnDisplay(name)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to X display %q: %w", name, err)
	}
	if err := xtest.Init(x); err != nil {
		x.Close()
		return nil, fmt.Errorf("display %q: nothing can be typed: %w: no XTEST", name, clip.ErrUnsupported)
	}
	return &Keyboard{x: x, root: xproto.Setup(x).DefaultScreen(x).Root}, nil
}

// Close is clip.Keyboard's.
func (k *Keyboard) Close() error {
	k.x.Close()
	return nil
}

// Focus is clip.Keyboard's: the window below the root that has the focus, with whatever a window manager put around it, and the class of what is in it.
func (k *Keyboard) Focus() (clip.Window, error) {
	focus, err := xproto.GetInputFocus(k.x).Reply()
	if err != nil {
		return clip.Window{}, err
	}
	w := focus.Focus
	if w == xproto.InputFocusPointerRoot || w == k.root { // the one below the pointer
		pointer, err := xproto.QueryPointer(k.x, k.root).Reply()
		if err != nil {
			return clip.Window{}, err
		}
		w = pointer.Child
	}
	if w == xproto.WindowNone {
		return clip.Window{}, nil
	}
	app := ""
	for range 32 {
		if app == "" {
			app = classOf(k.x, w)
		}
		tree, err := xproto.QueryTree(k.x, w).Reply()
		if err != nil {
			return clip.Window{}, nil //nolint:nilerr // it is gone
		}
		if tree.Parent == tree.Root || tree.Parent == xproto.WindowNone {
			break
		}
		w = tree.Parent
	}
	if app == "" {
		app = k.classWithin(w, 3)
	}
	return clip.Window{ID: uint64(w), App: app}, nil
}

// classWithin looks for a class in the windows inside one: a window manager may put the focus on its own.
func (k *Keyboard) classWithin(w xproto.Window, depth int) string {
	if app := classOf(k.x, w); app != "" || depth == 0 {
		return app
	}
	tree, err := xproto.QueryTree(k.x, w).Reply()
	if err != nil {
		return ""
	}
	for _, child := range tree.Children[:min(len(tree.Children), 32)] {
		if app := k.classWithin(child, depth-1); app != "" {
			return app
		}
	}
	return ""
}

// Press is clip.Keyboard's.
func (k *Keyboard) Press(ctx context.Context, c clip.Chord) error {
	w, err := k.Focus()
	if err != nil {
		return err
	}
	if w.ID == 0 {
		return errors.New("no window has the focus")
	}
	keys, err := k.keys(c)
	if err != nil {
		return err
	}
	if err := k.letGo(ctx, keys); err != nil {
		return err
	}
	pressed := 0
	for _, code := range keys {
		if err = k.fake(xproto.KeyPress, code); err != nil {
			break
		}
		pressed++
	}
	for _, code := range slices.Backward(keys[:pressed]) { // whatever happened: no key stays down
		err = errors.Join(err, k.fake(xproto.KeyRelease, code))
	}
	return err
}

func (k *Keyboard) fake(kind byte, code xproto.Keycode) error {
	return xtest.FakeInputChecked(k.x, kind, byte(code), 0, k.root, 0, 0, 0).Check()
}

// keys are the key codes of a chord, in the order in which they are pressed.
func (k *Keyboard) keys(c clip.Chord) ([]xproto.Keycode, error) {
	setup := xproto.Setup(k.x)
	mapping, err := xproto.GetKeyboardMapping(k.x, setup.MinKeycode, byte(setup.MaxKeycode-setup.MinKeycode+1)).Reply()
	if err != nil {
		return nil, err
	}
	var wanted []xproto.Keysym
	if c.Control {
		wanted = append(wanted, keyControl)
	}
	if c.Shift {
		wanted = append(wanted, keyShift)
	}
	if c.Insert {
		wanted = append(wanted, keyInsert)
	} else {
		wanted = append(wanted, keyV)
	}
	codes := make([]xproto.Keycode, 0, len(wanted))
	for _, sym := range wanted {
		at := place(mapping.Keysyms, int(mapping.KeysymsPerKeycode), sym)
		if at < 0 {
			return nil, fmt.Errorf("the keyboard has no key for %s", c)
		}
		codes = append(codes, setup.MinKeycode+xproto.Keycode(at)) //nolint:gosec // as many as there are key codes
	}
	return codes, nil
}

// place is the number of the key that gives a keysym, without others held down if there is one; -1: none.
func place(syms []xproto.Keysym, perKey int, sym xproto.Keysym) int {
	for level := range perKey {
		for at := 0; at*perKey+level < len(syms); at++ {
			if syms[at*perKey+level] == sym {
				return at
			}
		}
	}
	return -1
}

// letGo waits until no key is held that would change what the others mean, and lets go in a person's place what still is.
func (k *Keyboard) letGo(ctx context.Context, keys []xproto.Keycode) error {
	mods, err := xproto.GetModifierMapping(k.x).Reply()
	if err != nil {
		return err
	}
	until := time.Now().Add(handsOff)
	for {
		held, err := xproto.QueryKeymap(k.x).Reply()
		if err != nil {
			return err
		}
		var down []xproto.Keycode
		for code := range 256 {
			c := xproto.Keycode(code) //nolint:gosec // a byte
			if held.Keys[code/8]&(1<<(code%8)) != 0 && (slices.Contains(mods.Keycodes, c) || slices.Contains(keys, c)) {
				down = append(down, c)
			}
		}
		if len(down) == 0 {
			return nil
		}
		if time.Now().After(until) {
			for _, code := range down {
				if err := k.fake(xproto.KeyRelease, code); err != nil {
					return err
				}
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

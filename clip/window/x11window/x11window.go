// Package x11window is a window.Screen on an X server. Pictures are sent as they are, only the rows that have changed; keys are read by XKB, in all layouts
// and levels, with dead keys and Compose. Input methods of X (XIM) are not spoken.
package x11window

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"os"
	"sync"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/clip/window"
	"orrery/clip/window/keyboard"
)

// Screen is a window on an X server.
type Screen struct {
	x      *xgb.Conn
	window xproto.Window
	gc     xproto.Gcontext
	pixels format
	screen *xproto.ScreenInfo
	names  map[string]xproto.Atom
	major  byte // of XKEYBOARD
	keys   keyboard.State
	scale  float64
	events chan window.Event
	closed chan struct{}
	done   chan struct{} // closed when listen has ended
	end    func()
	work   sync.WaitGroup

	width, height int  // listen's
	focused       bool // listen's: it has had the keyboard

	mu    sync.Mutex
	shown *image.RGBA // what the server has; its rows are compared
	sent  []byte
}

var _ window.Screen = (*Screen)(nil)

var quiet sync.Once

// Open opens a window on a display; empty: $DISPLAY.
func Open(_ context.Context, display string) (*Screen, error) {
	quiet.Do(func() { xgb.Logger.SetOutput(io.Discard) })
	x, err := xgb.NewConnDisplay(display)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to X display %q: %w", display, err)
	}
	s := &Screen{x: x, screen: xproto.Setup(x).DefaultScreen(x), events: make(chan window.Event, 16), closed: make(chan struct{}), done: make(chan struct{})}
	s.end = sync.OnceFunc(func() { close(s.closed) })
	if err := s.setUp(); err != nil {
		x.Close()
		return nil, fmt.Errorf("display %q: %w", display, err)
	}
	s.work.Go(s.listen)
	return s, nil
}

func (s *Screen) setUp() (err error) {
	if s.pixels, err = formatOf(xproto.Setup(s.x), s.screen); err != nil {
		return err
	}
	if s.major, err = useXKB(s.x); err != nil {
		return err
	}
	if s.names, err = atoms(s.x); err != nil {
		return err
	}
	if s.keys.Keymap, err = readKeymap(s.x, s.major); err != nil {
		return err
	}
	s.keys.Compose = func() *keyboard.Compose { return keyboard.ReadCompose(os.Getenv, os.ReadFile) }
	s.scale = s.readScale()
	return s.create()
}

// Next is window.Screen's.
func (s *Screen) Next(ctx context.Context) (window.Event, error) {
	select {
	case e := <-s.events:
		return e, nil
	default:
	}
	select {
	case e := <-s.events:
		return e, nil
	case <-s.done:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close is window.Screen's.
func (s *Screen) Close() error {
	s.end()
	s.x.Close()
	s.work.Wait()
	return nil
}

// tell hands an event on.
func (s *Screen) tell(e window.Event) bool {
	select {
	case s.events <- e:
		return true
	case <-s.closed:
		return false
	}
}

// listen handles what the server says until the connection or the window ends.
func (s *Screen) listen() {
	defer close(s.done)
	for {
		event, problem := s.x.WaitForEvent()
		if event == nil && problem == nil {
			return
		}
		if event == nil || !s.handle(event) { // an error of a request without an answer costs that request
			if event != nil {
				return
			}
		}
	}
}

// handle takes an event in; false ends the window.
func (s *Screen) handle(event xgb.Event) bool {
	switch e := event.(type) {
	case xproto.ConfigureNotifyEvent:
		if w, h := int(e.Width), int(e.Height); w != s.width || h != s.height {
			s.width, s.height = w, h
			return s.tell(window.Resized{Width: w, Height: h, Scale: s.scale})
		}
	case xproto.MapNotifyEvent:
		s.takeFocus()
	case xproto.ExposeEvent:
		if e.Count == 0 {
			s.mu.Lock()
			s.shown = nil
			s.mu.Unlock()
			return s.tell(window.Exposed{})
		}
	case xproto.KeyPressEvent:
		return s.pressed(e)
	case xproto.ButtonPressEvent:
		return s.button(e)
	case xproto.MappingNotifyEvent:
		if k, err := readKeymap(s.x, s.major); err == nil { // else the old one goes on
			s.keys.Keymap = k
		}
	case xproto.FocusInEvent:
		s.focused = true
	case xproto.FocusOutEvent:
		grabbed := e.Mode == xproto.NotifyModeGrab || e.Mode == xproto.NotifyModeUngrab // by a hotkey, for a moment
		inside := e.Detail == xproto.NotifyDetailInferior || e.Detail == xproto.NotifyDetailPointer
		if s.focused && !grabbed && !inside {
			return s.tell(window.Left{})
		}
	case xproto.ClientMessageEvent:
		if e.Type == s.names["WM_PROTOCOLS"] && len(e.Data.Data32) > 0 && xproto.Atom(e.Data.Data32[0]) == s.names["WM_DELETE_WINDOW"] {
			return false
		}
	case xproto.DestroyNotifyEvent:
		return false
	}
	return true
}

func (s *Screen) pressed(e xproto.KeyPressEvent) bool {
	s.keys.Set(keyboard.Mods(e.State&0xff), int(e.State>>13&3))
	word, text := s.keys.Press(uint32(e.Detail))
	composing := s.keys.Composing()
	return s.tell(window.Pressed{Word: word, Text: text, Composing: composing})
}

// The buttons of the mouse.
const (
	buttonFirst = 1
	wheelUp     = 4
	wheelDown   = 5
	wheelRows   = 3
)

func (s *Screen) button(e xproto.ButtonPressEvent) bool {
	switch e.Detail {
	case buttonFirst:
		return s.tell(window.Clicked{X: int(e.EventX), Y: int(e.EventY)})
	case wheelUp:
		return s.tell(window.Scrolled{Rows: -wheelRows})
	case wheelDown:
		return s.tell(window.Scrolled{Rows: wheelRows})
	}
	return true
}

// Show is window.Screen's.
func (s *Screen) Show(picture *image.RGBA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return nil // Next says so
	default:
	}
	if s.shown == nil || s.shown.Rect != picture.Rect {
		s.shown = image.NewRGBA(picture.Rect)
		return s.put(picture, 0, picture.Rect.Dy(), true)
	}
	return s.put(picture, 0, picture.Rect.Dy(), false)
}

// maxRequest bounds the pixels of a request: one may have 262,140 bytes.
const maxRequest = 250_000

// put sends rows that have changed, or all.
func (s *Screen) put(picture *image.RGBA, from, to int, all bool) error {
	width := picture.Rect.Dx()
	row := s.pixels.rowSize(width)
	most := maxRequest / max(1, row)
	if most == 0 {
		return errors.New("the window is too wide")
	}
	for y := from; y < to; {
		same := func(y int) bool {
			a, b := picture.Pix[y*picture.Stride:][:4*width], s.shown.Pix[y*s.shown.Stride:][:4*width]
			return string(a) == string(b)
		}
		if !all && same(y) {
			y++
			continue
		}
		end := y + 1
		for end < to && end-y < most && (all || !same(end)) {
			end++
		}
		s.sent = s.sent[:0]
		for at := y; at < end; at++ {
			line := picture.Pix[at*picture.Stride:][:4*width]
			s.sent = s.pixels.row(s.sent, line)
			copy(s.shown.Pix[at*s.shown.Stride:], line)
		}
		xproto.PutImage(s.x, xproto.ImageFormatZPixmap, xproto.Drawable(s.window), s.gc, uint16(width), uint16(end-y), 0, int16(y), 0, s.screen.RootDepth, s.sent) //nolint:gosec // a screen's size
		y = end
	}
	return nil
}

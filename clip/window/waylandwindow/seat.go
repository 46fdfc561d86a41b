package waylandwindow

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"orrery/clip/wayland/wire"
	"orrery/clip/window"
	"orrery/clip/window/keyboard"
)

// Operations of wl_seat, wl_keyboard and wl_pointer.
const (
	seatPointer      = 0
	seatKeyboard     = 1
	seatCapabilities = 0
	hasPointer       = 1
	hasKeyboard      = 2

	keyboardKeymap    = 0
	keyboardEnter     = 1
	keyboardLeave     = 2
	keyboardKey       = 3
	keyboardModifiers = 4
	keyboardRepeat    = 5
	keyboardRelease   = 0

	pointerEnter   = 0
	pointerMotion  = 2
	pointerButton  = 3
	pointerAxis    = 4
	pointerEvents  = 11
	pointerRelease = 1

	shapesPointer = 1
	shapeSet      = 1
	shapeArrow    = 1

	buttonFirst = 0x110
	notch       = 10 // how far an axis goes by a notch of a wheel
	wheelRows   = 3
	evdev       = 8 // what a keymap's codes are more than the kernel's
)

// seat is a keyboard and a mouse. All is under the screen's lock.
type seat struct {
	screen            *Screen
	remote            *wire.Object
	keyboard, pointer *wire.Object
	shape             *wire.Object
	input             *input
	keys              keyboard.State
	focused           bool
	rate, delay       int // of keys that are held: how many a second, after how many milliseconds
	held              uint32
	repeat            *time.Timer
	x, y              int32   // of the pointer, in 256ths of the compositor's units
	turned            float64 // of the wheel, and not told yet
}

// join takes a seat in; the caller holds the lock.
func (s *Screen) join(g wire.Global) (err error) {
	seat := &seat{screen: s, rate: 25, delay: 600}
	seat.keys.Compose = func() *keyboard.Compose { return keyboard.ReadCompose(os.Getenv, os.ReadFile) }
	if seat.remote, err = s.client.Bind(g, min(5, g.Version), seat.event); err != nil {
		return err
	}
	s.seats[g.Name] = seat
	if s.inputs != nil {
		return seat.listen()
	}
	return nil
}

func (t *seat) event(m *wire.Message) (err error) {
	if m.Opcode != seatCapabilities {
		return nil // its name
	}
	has := m.Uint()
	s := t.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case has&hasKeyboard != 0 && t.keyboard == nil:
		t.keyboard, err = t.remote.Create("wl_keyboard", seatKeyboard, t.keyboardEvent, wire.New)
	case has&hasKeyboard == 0 && t.keyboard != nil:
		t.still()
		err, t.keyboard = t.keyboard.Destroy(keyboardRelease), nil
	}
	if err != nil {
		return err
	}
	switch {
	case has&hasPointer != 0 && t.pointer == nil:
		if t.pointer, err = t.remote.Create("wl_pointer", seatPointer, t.pointerEvent, wire.New); err == nil && s.shapes != nil {
			t.shape, err = s.shapes.Create("wp_cursor_shape_device_v1", shapesPointer, (*wire.Message).Unknown, wire.New, t.pointer)
		}
	case has&hasPointer == 0 && t.pointer != nil:
		err, t.pointer, t.shape = t.pointer.Destroy(pointerRelease), nil, nil
	}
	return err
}

func (t *seat) keyboardEvent(m *wire.Message) error {
	if m.Opcode == keyboardKeymap {
		return t.keymap(m)
	}
	s := t.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Opcode {
	case keyboardEnter:
		t.focused = true
	case keyboardLeave:
		t.still()
		if t.focused {
			t.focused = false
			s.tell(window.Left{})
		}
	case keyboardKey:
		_, _, code, state := m.Uint(), m.Uint(), m.Uint(), m.Uint()
		t.key(code+evdev, state != 0)
	case keyboardModifiers:
		_, down, latched, locked, group := m.Uint(), m.Uint(), m.Uint(), m.Uint(), m.Uint()
		t.keys.Set(keyboard.Mods((down|latched|locked)&0xff), int(group&0xff))
	case keyboardRepeat:
		t.rate, t.delay = int(min(max(m.Int(), 0), 200)), int(min(max(m.Int(), 1), 10_000))
	default:
		return m.Unknown()
	}
	return nil
}

// keymap reads what keys mean. One that cannot be read ends the window, which would keep the keyboard and know nothing of its keys.
func (t *seat) keymap(m *wire.Message) error {
	format, fd, size := m.Uint(), m.FD(), m.Uint()
	if fd < 0 {
		return nil // the message says so itself
	}
	defer unix.Close(fd) //nolint:errcheck // it was only read
	if format != 1 || size == 0 || size > keyboard.MaxKeymap {
		return nil
	}
	text := make([]byte, size)
	n, err := unix.Pread(fd, text, 0)
	if err != nil {
		return fmt.Errorf("the keymap cannot be read: %w", err)
	}
	k, err := keyboard.Parse(string(text[:n]))
	if err != nil {
		return err
	}
	t.screen.mu.Lock()
	defer t.screen.mu.Unlock()
	t.keys.Keymap = k
	return nil
}

// key takes a key in; the caller holds the lock.
func (t *seat) key(code uint32, down bool) {
	if !down {
		if code == t.held {
			t.still()
		}
		return
	}
	if !t.focused {
		return
	}
	t.press(code)
	if t.keys.Repeats(code) && t.rate > 0 {
		t.still()
		t.held = code
		t.after(time.Duration(t.delay) * time.Millisecond)
	}
}

func (t *seat) press(code uint32) {
	word, text := t.keys.Press(code)
	t.screen.tell(window.Pressed{Word: word, Text: text, Composing: t.keys.Composing()})
}

// still ends the repetition of a key; the caller holds the lock.
func (t *seat) still() {
	if t.repeat != nil {
		t.repeat.Stop()
	}
	t.repeat, t.held = nil, 0
}

// after repeats the key that is held.
func (t *seat) after(d time.Duration) {
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		t.screen.mu.Lock()
		defer t.screen.mu.Unlock()
		if t.repeat != timer || t.screen.ended != nil { // it was let go meanwhile
			return
		}
		if len(t.screen.events) < 8 { // else the picker is behind
			t.press(t.held)
		}
		t.after(time.Second / time.Duration(t.rate))
	})
	t.repeat = timer
}

func (t *seat) pointerEvent(m *wire.Message) error {
	s := t.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Opcode {
	case pointerEnter:
		serial, _ := m.Uint(), m.Uint()
		t.x, t.y = m.Int(), m.Int()
		if t.shape != nil {
			return t.shape.Request(shapeSet, wire.Uint(serial), wire.Uint(shapeArrow))
		}
	case pointerMotion:
		_ = m.Uint()
		t.x, t.y = m.Int(), m.Int()
	case pointerButton:
		_, _, button, state := m.Uint(), m.Uint(), m.Uint(), m.Uint()
		if button == buttonFirst && state != 0 {
			n := float64(s.scale.value()) / unit / 256
			s.tell(window.Clicked{X: int(float64(t.x) * n), Y: int(float64(t.y) * n)})
		}
	case pointerAxis:
		_, axis, value := m.Uint(), m.Uint(), m.Int()
		if axis != 0 {
			return nil
		}
		t.turned += float64(value) / 256 * wheelRows / notch
		if rows := int(t.turned); rows != 0 {
			t.turned -= float64(rows)
			s.tell(window.Scrolled{Rows: rows})
		}
	default:
		if m.Opcode >= pointerEvents {
			return m.Unknown()
		}
	}
	return nil
}

package wayland

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// Operations of virtual-keyboard-unstable-v1.
const (
	keyboardsInterface = "zwp_virtual_keyboard_manager_v1"
	keyboardsCreate    = 0

	keyboardKeymap    = 0
	keyboardKey       = 1
	keyboardModifiers = 2
	keyboardDestroy   = 3
	keymapXKB         = 1
	released          = 0
	pressed           = 1
)

// What the keys of keymap are: the kernel's numbers, and the bits of modifiers as every XKB keymap has them.
const (
	codeV      = 47
	codeInsert = 110
	bitShift   = 1 << 0
	bitControl = 1 << 2
)

// keymap has the keys that are pressed, where keyboards have them (XKB's numbers are the kernel's and 8).
const keymap = `xkb_keymap {
xkb_keycodes "clip" { minimum = 8; maximum = 255; <LCTL> = 37; <LFSH> = 50; <AB04> = 55; <INS> = 118; };
xkb_types "clip" { include "complete" };
xkb_compatibility "clip" { include "complete" };
xkb_symbols "clip" {
key <LCTL> { [ Control_L ] };
key <LFSH> { [ Shift_L ] };
key <AB04> { [ v, V ] };
key <INS> { [ Insert ] };
modifier_map Control { <LCTL> };
modifier_map Shift { <LFSH> };
};
};
`

// Keyboard is a clip.Keyboard by virtual-keyboard-unstable-v1, with a connection of its own.
type Keyboard struct {
	windows *Display // that only follows the focus
	remote  *wire.Object
	work    sync.WaitGroup
}

var _ clip.Keyboard = (*Keyboard)(nil)

// OpenKeyboard connects to a display; empty: $WAYLAND_DISPLAY.
func OpenKeyboard(name string) (*Keyboard, error) {
	address, err := wire.Address(name)
	if err != nil {
		return nil, err
	}
	const patience = 3 * time.Second
	client, err := wire.Dial(address, patience)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the compositor at %s: %w", address, err)
	}
	k := &Keyboard{windows: &Display{config: Config{Patience: patience}, client: client}}
	if err := k.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("compositor at %s: %w", address, err), client.Close())
	}
	k.work.Go(func() { _ = client.Run() }) // whoever waits for an answer is told why it ended
	if err := k.windows.sync(nil); err != nil {
		return nil, errors.Join(fmt.Errorf("compositor at %s: %w", address, err), k.Close())
	}
	return k, nil
}

func (k *Keyboard) setUp() error {
	globals := k.windows.client.Globals()
	bind := func(name string) (*wire.Object, error) {
		at := slices.IndexFunc(globals, func(g wire.Global) bool { return g.Interface == name })
		if at < 0 {
			return nil, nil
		}
		return k.windows.client.Bind(globals[at], 1, func(*wire.Message) error { return nil })
	}
	manager, err := bind(keyboardsInterface)
	if err != nil {
		return err
	}
	seat, err := bind(seatInterface)
	if err != nil {
		return err
	}
	if manager == nil || seat == nil {
		return fmt.Errorf("nothing can be typed: %w: it has no virtual-keyboard-unstable-v1 (GNOME and KDE have none; what is picked is in the clipboard all the same)", clip.ErrUnsupported)
	}
	if k.remote, err = manager.Create("virtual keyboard", keyboardsCreate, (*wire.Message).Unknown, seat, wire.New); err != nil {
		return err
	}
	if err := k.sendKeymap(); err != nil {
		return err
	}
	return k.windows.watchWindows(globals)
}

func (k *Keyboard) sendKeymap() error {
	fd, err := unix.MemfdCreate("keymap", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // the compositor has its own
	text := keymap + "\x00"
	if n, err := unix.Write(fd, []byte(text)); err != nil || n != len(text) {
		return fmt.Errorf("cannot write the keymap: %d of %d bytes: %w", n, len(text), err)
	}
	return k.remote.Request(keyboardKeymap, wire.Uint(keymapXKB), wire.FD(fd), wire.Uint(len(text))) //nolint:gosec // a constant's length
}

// Focus is clip.Keyboard's.
func (k *Keyboard) Focus() (clip.Window, error) {
	if err := k.windows.sync(nil); err != nil {
		return clip.Window{}, err
	}
	k.windows.mu.Lock()
	defer k.windows.mu.Unlock()
	if w := k.windows.focus; w != nil {
		return clip.Window{ID: uint64(w.remote.ID()), App: strings.TrimSpace(w.app)}, nil
	}
	return clip.Window{}, nil
}

// Press is clip.Keyboard's.
func (k *Keyboard) Press(ctx context.Context, c clip.Chord) error {
	var modifiers, code wire.Uint = 0, codeV
	if c.Control {
		modifiers |= bitControl
	}
	if c.Shift {
		modifiers |= bitShift
	}
	if c.Insert {
		code = codeInsert
	}
	now := wire.Uint(time.Now().UnixMilli() & 0xffffffff) //nolint:gosec // 32 bits
	none := wire.Uint(0)
	err := errors.Join(
		k.remote.Request(keyboardModifiers, modifiers, none, none, none),
		k.remote.Request(keyboardKey, now, code, wire.Uint(pressed)),
		k.remote.Request(keyboardKey, now+1, code, wire.Uint(released)),
		k.remote.Request(keyboardModifiers, none, none, none, none),
	)
	if err != nil {
		return err
	}
	return k.windows.sync(ctx.Done()) // else the compositor may see that the keyboard is gone first
}

// Close is clip.Keyboard's.
func (k *Keyboard) Close() error {
	err := k.remote.Destroy(keyboardDestroy)
	err = errors.Join(err, k.windows.client.Close())
	k.work.Wait()
	return err
}

package wayland

import (
	"encoding/binary"
	"slices"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// Operations of wlr-foreign-toplevel-management-unstable-v1, which tells of windows and which one has the focus.
const (
	windowsInterface = "zwlr_foreign_toplevel_manager_v1"
	windowsWindow    = 0
	windowsFinished  = 1

	windowDestroy   = 7
	windowApp       = 1
	windowState     = 4
	windowClosed    = 6
	windowEvents    = 7 // of the version that is bound
	windowActivated = 2
)

// window is one of any program, under the display's lock.
type window struct {
	remote *wire.Object
	app    string
	active bool
}

// watchWindows follows the focus if the compositor tells of it, because the data-control protocols do not say who copies: mostly who has the focus.
func (d *Display) watchWindows(globals []wire.Global) error {
	at := slices.IndexFunc(globals, func(g wire.Global) bool { return g.Interface == windowsInterface })
	if at < 0 {
		return nil
	}
	_, err := d.client.Bind(globals[at], 1, func(m *wire.Message) error {
		switch m.Opcode {
		case windowsWindow:
			return d.opened(m.Uint())
		case windowsFinished:
			return nil
		}
		return m.Unknown()
	})
	return err
}

func (d *Display) opened(id uint32) error {
	w := &window{}
	var err error
	w.remote, err = d.client.Adopt(id, "window", func(m *wire.Message) error { return d.changedWindow(w, m) })
	return err
}

func (d *Display) changedWindow(w *window, m *wire.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch m.Opcode {
	case windowApp:
		if w.app = m.String(); len(w.app) > clip.MaxType {
			w.app = ""
		}
	case windowState:
		w.active = false
		for state := range slices.Chunk(m.Array(), 4) {
			w.active = w.active || len(state) == 4 && binary.NativeEndian.Uint32(state) == windowActivated
		}
	case windowClosed:
		w.active = false
		if d.focus == w {
			d.focus = nil
		}
		return w.remote.Destroy(windowDestroy)
	default:
		if m.Opcode >= windowEvents {
			return m.Unknown()
		}
		return nil // its title and place
	}
	switch {
	case w.active:
		d.focus = w
	case d.focus == w:
		d.focus = nil
	}
	return nil
}

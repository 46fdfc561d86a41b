package waylandwindow

import (
	"image"
	"io"

	"orrery/clip/wayland/wire"
	"orrery/clip/window"
)

// Operations of zwlr_layer_shell_v1 and xdg_shell.
const (
	layerGet        = 0
	layerOverlay    = 3
	layerSize       = 0
	layerKeyboard   = 4
	layerAck        = 6
	layerExclusive  = 1
	layerConfigured = 0
	layerClosed     = 1
	shellSurface    = 2
	shellPong       = 3
	xdgToplevel     = 1
	xdgAck          = 4
	toplevelTitle   = 2
	toplevelApp     = 3
	toplevelSize    = 0
	toplevelClose   = 1
	toplevelEvents  = 4
)

// assign makes the surface a window; the caller holds the lock.
func (s *Screen) assign() (err error) {
	if s.layered {
		if s.role, err = s.shell.Create("zwlr_layer_surface_v1", layerGet, s.layer, wire.New, s.surface, (*wire.Object)(nil), wire.Uint(layerOverlay), wire.String(window.Application)); err != nil {
			return err
		}
		if err := s.role.Request(layerSize, wire.Uint(s.size.X), wire.Uint(s.size.Y)); err != nil { //nolint:gosec // a screen's size
			return err
		}
		return s.role.Request(layerKeyboard, wire.Uint(layerExclusive))
	}
	if s.role, err = s.shell.Create("xdg_surface", shellSurface, s.xdg, wire.New, s.surface); err != nil {
		return err
	}
	top, err := s.role.Create("xdg_toplevel", xdgToplevel, s.toplevel, wire.New)
	if err != nil {
		return err
	}
	if err := top.Request(toplevelTitle, wire.String(window.Title)); err != nil {
		return err
	}
	return top.Request(toplevelApp, wire.String(window.Application))
}

func (s *Screen) layer(m *wire.Message) error {
	switch m.Opcode {
	case layerConfigured:
		serial, width, height := m.Uint(), m.Uint(), m.Uint()
		return s.configured(layerAck, serial, width, height)
	case layerClosed:
		s.finish(io.EOF)
		return nil
	}
	return m.Unknown()
}

func (s *Screen) pinged(m *wire.Message) error {
	if m.Opcode != 0 {
		return m.Unknown()
	}
	return s.shell.Request(shellPong, wire.Uint(m.Uint()))
}

func (s *Screen) xdg(m *wire.Message) error {
	if m.Opcode != 0 {
		return m.Unknown()
	}
	return s.configured(xdgAck, m.Uint(), 0, 0)
}

func (s *Screen) toplevel(m *wire.Message) error {
	switch m.Opcode {
	case toplevelSize:
		width, height := m.Uint(), m.Uint()
		s.mu.Lock()
		s.give(width, height)
		s.mu.Unlock()
	case toplevelClose:
		s.finish(io.EOF)
	default:
		if m.Opcode >= toplevelEvents {
			return m.Unknown()
		}
	}
	return nil
}

// give takes the size that the compositor gives the window; 0 leaves it as it is.
func (s *Screen) give(width, height uint32) {
	if width > 0 && height > 0 {
		s.size = image.Pt(int(min(width, maxSide)), int(min(height, maxSide)))
	}
}

// configured is told that a size is to be shown.
func (s *Screen) configured(ack uint16, serial, width, height uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.give(width, height)
	if err := s.role.Request(ack, wire.Uint(serial)); err != nil {
		return err
	}
	if !s.shown {
		s.shown = true
		close(s.ready)
	}
	s.resize()
	return nil
}

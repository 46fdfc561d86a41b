package waylandtest

import (
	"errors"
	"fmt"
	"image"
	"os"
	"slices"

	"orrery/clip/wayland/wire"
)

// Globals of a compositor that shows windows.
var (
	Surfaces  = wire.Global{Interface: "wl_compositor", Version: 4}                  //nolint:gochecknoglobals // a constant
	Memory    = wire.Global{Interface: "wl_shm", Version: 1}                         //nolint:gochecknoglobals // a constant
	Output    = wire.Global{Interface: "wl_output", Version: 3}                      //nolint:gochecknoglobals // a constant
	Layers    = wire.Global{Interface: "zwlr_layer_shell_v1", Version: 4}            //nolint:gochecknoglobals // a constant
	Shell     = wire.Global{Interface: "xdg_wm_base", Version: 3}                    //nolint:gochecknoglobals // a constant
	Viewports = wire.Global{Interface: "wp_viewporter", Version: 1}                  //nolint:gochecknoglobals // a constant
	Fractions = wire.Global{Interface: "wp_fractional_scale_manager_v1", Version: 1} //nolint:gochecknoglobals // a constant
	Inputs    = wire.Global{Interface: "zwp_text_input_manager_v3", Version: 1}      //nolint:gochecknoglobals // a constant
	Cursors   = wire.Global{Interface: "wp_cursor_shape_manager_v1", Version: 1}     //nolint:gochecknoglobals // a constant
)

// screen is what a client shows; under the compositor's lock.
type screen struct {
	pools      map[uint32]*os.File
	buffers    map[uint32]buffer
	attached   uint32      // buffer
	role       uint32      // what the surface is for the shell
	layer      bool        // it is one of the layers
	size       image.Point // that was asked for
	configured bool
	raw        []byte      // of what is shown, in rows without gaps
	shown      image.Point // its size
	picture    *image.RGBA // likewise, once somebody has looked
	told       []string    // requests, by the name of their object and their number
}

// buffer is a place in shared memory.
type buffer struct {
	pool                          *os.File
	offset, width, height, stride int32
}

// Scaled says which scale the outputs have, of clients that come afterwards; 0 is 1.
func (c *Compositor) Scaled(scale int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scale = scale
}

// Picture is what the client shows; nil: nothing yet.
func (client *Client) Picture() *image.RGBA {
	client.compositor.mu.Lock()
	defer client.compositor.mu.Unlock()
	s := &client.shows
	if s.picture == nil && s.raw != nil {
		s.picture = image.NewRGBA(image.Rectangle{Max: s.shown})
		for i := 0; i < len(s.raw); i += 4 {
			from, to := s.raw[i:i+4:i+4], s.picture.Pix[i:i+4:i+4]
			to[0], to[1], to[2], to[3] = from[2], from[1], from[0], 0xff
		}
	}
	return s.picture
}

// The size of outputs, in units of the compositor. It is small, because tests compare pixels.
const (
	OutputWidth  = 480
	OutputHeight = 400
)

// Told says whether the client has made a request, such as "xdg_surface 4".
func (client *Client) Told(request string) bool {
	client.compositor.mu.Lock()
	defer client.compositor.mu.Unlock()
	return slices.Contains(client.shows.told, request)
}

// makes are the requests that make an object of another interface, whose number is their first argument.
var makes = map[string]string{ //nolint:gochecknoglobals // a table
	"wl_compositor 0": "wl_surface", "wl_seat 0": "wl_pointer", "wl_seat 1": "wl_keyboard", "xdg_surface 1": "xdg_toplevel", "wp_viewporter 1": "wp_viewport",
	"wp_fractional_scale_manager_v1 1": "wp_fractional_scale_v1", "zwp_text_input_manager_v3 1": "zwp_text_input_v3", "wp_cursor_shape_manager_v1 1": "wp_cursor_shape_device_v1",
	"zwlr_layer_shell_v1 0": "zwlr_layer_surface_v1", "xdg_wm_base 2": "xdg_surface",
}

// show carries out a request of a client that shows a window; false: it is none.
func (client *Client) show(name string, m *wire.Message) (bool, error) {
	s := &client.shows
	what := fmt.Sprintf("%s %d", name, m.Opcode)
	s.told = append(s.told, what)
	if made := makes[what]; made != "" {
		id := m.Uint()
		if made == "zwlr_layer_surface_v1" || made == "xdg_surface" {
			s.role, s.layer = id, made == "zwlr_layer_surface_v1"
		}
		return true, client.made(id, made)
	}
	switch what {
	case "wl_shm 0":
		id, fd, _ := m.Uint(), m.FD(), m.Uint()
		if fd < 0 {
			return true, errors.New("no memory")
		}
		if s.pools == nil {
			s.pools, s.buffers = map[uint32]*os.File{}, map[uint32]buffer{}
		}
		s.pools[id] = os.NewFile(uintptr(fd), "pool") //nolint:gosec // not negative
		return true, client.made(id, "wl_shm_pool")
	case "wl_shm_pool 0":
		id := m.Uint()
		s.buffers[id] = buffer{s.pools[m.Object], m.Int(), m.Int(), m.Int(), m.Int()}
		return true, client.made(id, "wl_buffer")
	case "wl_shm_pool 1", "wl_buffer 0", "wl_keyboard 0", "wl_pointer 1":
		delete(s.buffers, m.Object)
		return true, client.ended(m.Object)
	case "zwlr_layer_surface_v1 0":
		s.size = image.Pt(int(m.Uint()), int(m.Uint()))
	case "wl_surface 1":
		s.attached = m.Uint()
	case "wl_surface 6":
		return true, client.commit()
	}
	switch name {
	case "wl_surface", "wl_keyboard", "wl_pointer", "xdg_wm_base", "xdg_surface", "xdg_toplevel", "wp_viewport", "zwp_text_input_v3", "wp_cursor_shape_device_v1", "zwlr_layer_surface_v1":
		return true, nil
	}
	return false, nil
}

// commit configures a window that is new, and looks at what one shows.
func (client *Client) commit() error {
	s := &client.shows
	if s.attached == 0 {
		if s.configured {
			return nil
		}
		s.configured = true
		if s.layer {
			return client.Send(s.role, 0, wire.Uint(1), wire.Uint(uint32(s.size.X)), wire.Uint(uint32(s.size.Y))) //nolint:gosec // a test's
		}
		return client.Send(s.role, 0, wire.Uint(1))
	}
	if !s.configured {
		return errors.New("a picture before the window is configured")
	}
	b, ok := s.buffers[s.attached]
	if !ok {
		return errors.New("there is no such buffer")
	}
	if b.stride != 4*b.width || b.width <= 0 || b.height <= 0 {
		return fmt.Errorf("a buffer of %d by %d pixels in rows of %d bytes", b.width, b.height, b.stride)
	}
	s.raw, s.shown, s.picture = make([]byte, int(b.stride)*int(b.height)), image.Pt(int(b.width), int(b.height)), nil
	if _, err := b.pool.ReadAt(s.raw, int64(b.offset)); err != nil {
		return fmt.Errorf("the buffer is larger than its memory: %w", err)
	}
	return client.Send(s.attached, 0) // released
}

// forget closes what the client has shared.
func (s *screen) forget() {
	for _, pool := range s.pools {
		_ = pool.Close()
	}
}

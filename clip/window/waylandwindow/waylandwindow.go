// Package waylandwindow is a window.Screen on a Wayland compositor: by zwlr_layer_shell_v1, over other windows in the middle of the screen, or by xdg_shell as
// an ordinary window where the compositor has no layers. Pictures are in shared memory (wl_shm), drawn at the screen's scale, also a fractional one.
//
// Keys are read by the keymap that the compositor sends, with dead keys and Compose; input methods by text-input-v3. What the compositor sends is not trusted: sizes and
// keymaps are bounded.
package waylandwindow

import (
	"context"
	"errors"
	"fmt"
	"image"
	"slices"
	"sync"
	"time"

	"orrery/clip"
	"orrery/clip/wayland/wire"
	"orrery/clip/window"
)

const (
	// patience is how long the compositor may be silent before the window is there.
	patience = 3 * time.Second
	// maxEvents is how many events may wait.
	maxEvents = 4096
)

// Screen is a window on a compositor.
type Screen struct {
	client *wire.Client
	work   sync.WaitGroup
	news   chan struct{} // holds a token while there are events
	ready  chan struct{} // closed when the window's size is known

	// Globals, set before the connection runs.
	compositor, shm, shell *wire.Object
	viewporter, fractions  *wire.Object
	inputs, shapes         *wire.Object
	layered                bool // shell has layers

	mu       sync.Mutex
	events   []window.Event
	ended    error // why there will be no more; nil: there may be
	surface  *wire.Object
	role     *wire.Object // what the surface is for the shell
	viewport *wire.Object // nil: the scale is a whole number
	outputs  map[uint32]*output
	seats    map[uint32]*seat
	size     image.Point // in the compositor's units
	scale    scale
	shown    bool // it is configured
	told     window.Resized
	memory   memory
	waiting  *image.RGBA // a picture that no buffer was free for
	buffered int         // the scale that the compositor knows of buffers; 0: 1
}

var _ window.Screen = (*Screen)(nil)

// Operations of the interfaces that are used here.
const (
	compositorSurface = 0

	surfaceAttach    = 1
	surfaceDamage    = 2
	surfaceCommit    = 6
	surfaceScale     = 8
	surfaceEnter     = 0
	surfaceLeave     = 1
	surfacePreferred = 2 // whole scale, since version 6
	surfaceEvents    = 4

	outputMode   = 1
	outputScale  = 3
	outputEvents = 6

	viewporterGet   = 1
	viewportSize    = 2
	fractionsGet    = 1
	fractionPrefers = 0
)

// Open opens a window on the display of a name, or at a path; empty: $WAYLAND_DISPLAY. An error wraps clip.ErrUnsupported if the compositor lets no window be opened here.
func Open(ctx context.Context, name string) (*Screen, error) {
	address, err := wire.Address(name)
	if err != nil {
		return nil, err
	}
	client, err := wire.Dial(address, patience)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the compositor at %s: %w", address, err)
	}
	s := &Screen{client: client, news: make(chan struct{}, 1), ready: make(chan struct{}), outputs: map[uint32]*output{}, seats: map[uint32]*seat{}}
	if err := s.bind(); err != nil {
		return nil, errors.Join(fmt.Errorf("compositor at %s: %w", address, err), client.Close())
	}
	s.work.Go(func() {
		err := client.Run()
		s.finish(err)
	})
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("compositor at %s: %w", address, err), s.Close())
	}
	return s, nil
}

// bind takes what the compositor has.
func (s *Screen) bind() (err error) {
	ignore := func(*wire.Message) error { return nil }
	globals := s.client.Globals()
	take := func(into **wire.Object, name string, version uint32, handle wire.Handler) {
		at := slices.IndexFunc(globals, func(g wire.Global) bool { return g.Interface == name })
		if at < 0 || err != nil {
			return
		}
		*into, err = s.client.Bind(globals[at], min(version, globals[at].Version), handle)
	}
	take(&s.compositor, "wl_compositor", 6, (*wire.Message).Unknown)
	take(&s.shm, "wl_shm", 1, ignore)
	take(&s.shell, "zwlr_layer_shell_v1", 4, (*wire.Message).Unknown)
	if s.layered = s.shell != nil; !s.layered {
		take(&s.shell, "xdg_wm_base", 5, s.pinged)
	}
	take(&s.viewporter, "wp_viewporter", 1, (*wire.Message).Unknown)
	if s.viewporter != nil {
		take(&s.fractions, "wp_fractional_scale_manager_v1", 1, (*wire.Message).Unknown)
	}
	take(&s.inputs, "zwp_text_input_manager_v3", 1, (*wire.Message).Unknown)
	take(&s.shapes, "wp_cursor_shape_manager_v1", 1, (*wire.Message).Unknown)
	if err != nil {
		return err
	}
	for name, o := range map[string]*wire.Object{"wl_compositor": s.compositor, "wl_shm": s.shm, "zwlr_layer_shell_v1 or xdg_wm_base": s.shell} {
		if o == nil {
			return fmt.Errorf("no window can be opened: %w: it has no %s (use the picker in a terminal: --terminal)", clip.ErrUnsupported, name)
		}
	}
	s.client.Watch(s.announced)
	for _, g := range globals {
		if err := s.announced(g, false); err != nil {
			return err
		}
	}
	return nil
}

// announced is told of screens and seats that are there, or not any more.
func (s *Screen) announced(g wire.Global, gone bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case gone:
		delete(s.outputs, g.Name)
		if seat := s.seats[g.Name]; seat != nil {
			seat.still()
		}
		delete(s.seats, g.Name)
		return nil
	case g.Interface == "wl_output":
		o := &output{scale: 1}
		var err error
		if o.remote, err = s.client.Bind(g, min(2, g.Version), func(m *wire.Message) error { return s.outputEvent(o, m) }); err != nil {
			return err
		}
		s.outputs[g.Name] = o
	case g.Interface == "wl_seat":
		return s.join(g)
	}
	return nil
}

// open makes the window, and waits until the compositor says how large it is.
func (s *Screen) open(ctx context.Context) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	answered, err := s.client.Sync() // screens and seats are known afterwards
	if err != nil {
		return err
	}
	wait := func(c <-chan struct{}) error {
		select {
		case <-c:
			return nil
		case <-s.client.Done():
			return s.client.Err()
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("it has shown no window for %s", patience)
		}
	}
	if err := wait(answered); err != nil {
		return err
	}
	if err := s.create(); err != nil {
		return err
	}
	return wait(s.ready)
}

func (s *Screen) create() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scale.guess(s.outputs)
	s.size = s.room()
	if s.surface, err = s.compositor.Create("wl_surface", compositorSurface, s.surfaceEvent, wire.New); err != nil {
		return err
	}
	if s.viewporter != nil && s.fractions != nil {
		if s.viewport, err = s.viewporter.Create("wp_viewport", viewporterGet, (*wire.Message).Unknown, wire.New, s.surface); err != nil {
			return err
		}
		if _, err = s.fractions.Create("wp_fractional_scale_v1", fractionsGet, s.fraction, wire.New, s.surface); err != nil {
			return err
		}
	}
	if err := s.assign(); err != nil {
		return err
	}
	return s.surface.Request(surfaceCommit)
}

// Layered says whether it is in a layer, and thus no window that the compositor tells others of.
func (s *Screen) Layered() bool { return s.layered }

// Next is window.Screen's.
func (s *Screen) Next(ctx context.Context) (window.Event, error) {
	for {
		s.mu.Lock()
		if len(s.events) > 0 {
			e := s.events[0]
			s.events = s.events[1:]
			s.mu.Unlock()
			return e, nil
		}
		ended := s.ended
		s.mu.Unlock()
		if ended != nil {
			return nil, ended
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tell hands an event on; the caller holds the lock.
func (s *Screen) tell(e window.Event) {
	if len(s.events) < maxEvents {
		s.events = append(s.events, e)
	}
	s.wake()
}

func (s *Screen) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// finish says that there are no more events.
func (s *Screen) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(err)
	for _, seat := range s.seats {
		seat.still()
	}
}

// end is finish without the lock.
func (s *Screen) end(err error) {
	if s.ended == nil {
		s.ended = err
	}
	s.wake()
}

// Close is window.Screen's.
func (s *Screen) Close() error {
	err := s.client.Close()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seat := range s.seats {
		seat.still()
	}
	return errors.Join(err, s.memory.free())
}

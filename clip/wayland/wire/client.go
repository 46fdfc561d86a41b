package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Operations of the interfaces that every client uses.
const (
	displaySync        = 0
	displayGetRegistry = 1
	displayError       = 0
	displayDeleteID    = 1
	registryBind       = 0
	registryGlobal     = 0
	registryRemove     = 1
)

// maxObjects bounds the objects that a compositor makes, and maxGlobals what it announces.
const (
	maxObjects = 4096
	maxGlobals = 4096
)

// Handler is told of an object's event. An error ends the connection.
type Handler func(event *Message) error

// Object is one that the client and the compositor both know.
type Object struct {
	client    *Client
	id        uint32
	name      string // of its interface
	handle    Handler
	destroyed bool // under the connection's lock
}

// Global is what a compositor announces.
type Global struct {
	Name      uint32 // its number
	Interface string
	Version   uint32
}

// Client is a program's side of a connection.
type Client struct {
	conn     *Conn
	display  *Object
	registry *Object
	done     chan struct{} // closed when Run has ended
	err      error         // why; set before

	mu      sync.Mutex
	objects map[uint32]*Object
	made    int // of them by the compositor
	free    []uint32
	next    uint32
	globals []Global
	changed func(g Global, gone bool) error
}

// Address is where a display's socket is: an absolute path, or a name in $XDG_RUNTIME_DIR; empty: $WAYLAND_DISPLAY, or wayland-0.
func Address(display string) (string, error) {
	if display == "" {
		display = os.Getenv("WAYLAND_DISPLAY")
	}
	if display == "" {
		display = "wayland-0"
	}
	if filepath.IsAbs(display) {
		return display, nil
	}
	folder := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(folder) {
		return "", fmt.Errorf("display %q has no address: XDG_RUNTIME_DIR is no absolute path", display)
	}
	return filepath.Join(folder, display), nil
}

// Dial connects to the socket at an address, and learns what the compositor has. A compositor may be silent for as long as patience says.
func Dial(address string, patience time.Duration) (*Client, error) {
	socket, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	c := &Client{conn: NewConn(socket), done: make(chan struct{}), objects: map[uint32]*Object{}, next: 2}
	c.display = &Object{client: c, id: 1, name: "wl_display", handle: c.told}
	c.objects[1] = c.display
	silent := time.AfterFunc(patience, func() { _ = c.conn.Close() })
	err = c.setUp()
	if !silent.Stop() {
		err = fmt.Errorf("the compositor has not answered for %s: %w", patience, os.ErrDeadlineExceeded)
	}
	if err != nil {
		c.conn.Drop()
		return nil, err
	}
	return c, nil
}

func (c *Client) setUp() (err error) {
	if c.registry, err = c.display.Create("wl_registry", displayGetRegistry, c.announced, New); err != nil {
		return err
	}
	answered := false
	if _, err := c.display.Create("wl_callback", displaySync, func(*Message) error { answered = true; return nil }, New); err != nil {
		return err
	}
	for !answered {
		if err := c.dispatch(); err != nil {
			return over(err)
		}
	}
	return nil
}

// over says why a connection ended.
func over(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return ErrClosed
	}
	return err
}

// Globals are what the compositor announced, in its order.
func (c *Client) Globals() []Global {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.globals)
}

// Watch is told of changes of the globals from now on; call it before Run.
func (c *Client) Watch(changed func(g Global, gone bool) error) { c.changed = changed }

// Bind makes an object for a global.
func (c *Client) Bind(g Global, version uint32, handle Handler) (*Object, error) {
	return c.registry.Create(g.Interface, registryBind, handle, Uint(g.Name), String(g.Interface), Uint(version), New)
}

// Run hands events to their handlers until the connection ends, which is always an error.
func (c *Client) Run() error {
	defer close(c.done)
	defer c.conn.Drop()
	for {
		if err := c.dispatch(); err != nil {
			c.err = over(err)
			return c.err
		}
	}
}

// Done is closed when Run has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err says why the connection ended, once Done is closed.
func (c *Client) Err() error { return c.err }

// Close ends the connection, and Run.
func (c *Client) Close() error { return c.conn.Close() }

func (c *Client) dispatch() error {
	m, err := c.conn.Read()
	if err != nil {
		return err
	}
	c.mu.Lock()
	o := c.objects[m.Object]
	c.mu.Unlock()
	switch {
	case o != nil:
	case m.Object >= serverIDs:
		return nil // it was sent before the compositor heard that the object is destroyed
	default:
		return fmt.Errorf("%w: message %d of object %d, which does not exist", ErrProtocol, m.Opcode, m.Object)
	}
	err = o.handle(m)
	if m.Err() != nil { // whatever the handler made of arguments that are not there
		err = m.Err()
	}
	if err != nil && !c.conn.isBroken() { // else what the compositor has said before it closed the connection is more telling
		return fmt.Errorf("%s: %w", o.name, err)
	}
	return nil
}

// told handles the display's events.
func (c *Client) told(m *Message) error {
	switch m.Opcode {
	case displayError:
		id, code, text := m.Uint(), m.Uint(), m.String()
		name := "an object that is gone"
		c.mu.Lock()
		if o := c.objects[id]; o != nil {
			name = o.name
		}
		c.mu.Unlock()
		return fmt.Errorf("the compositor ended the connection: %s: %q (code %d)", name, text, code)
	case displayDeleteID:
		if id := m.Uint(); id > c.registry.id && id < serverIDs {
			c.forget(id)
		}
		return nil
	}
	return m.Unknown()
}

// announced handles the registry's events.
func (c *Client) announced(m *Message) error {
	switch m.Opcode {
	case registryGlobal:
		g := Global{Name: m.Uint(), Interface: m.String(), Version: m.Uint()}
		c.mu.Lock()
		c.globals = append(c.globals, g)
		n := len(c.globals)
		c.mu.Unlock()
		if n > maxGlobals {
			return fmt.Errorf("%w: more than %d globals", ErrProtocol, maxGlobals)
		}
		if c.changed != nil && m.Err() == nil {
			return c.changed(g, false)
		}
		return nil
	case registryRemove:
		name := m.Uint()
		c.mu.Lock()
		at := slices.IndexFunc(c.globals, func(g Global) bool { return g.Name == name })
		var g Global
		if at >= 0 {
			g = c.globals[at]
			c.globals = slices.Delete(c.globals, at, at+1)
		}
		c.mu.Unlock()
		if at < 0 || c.changed == nil {
			return nil
		}
		return c.changed(g, true)
	}
	return m.Unknown()
}

// Adopt gives an object that the compositor has made a handler; its number was in an event.
func (c *Client) Adopt(id uint32, name string, handle Handler) (*Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case id < serverIDs:
		return nil, fmt.Errorf("%w: the compositor makes an object with number %d, which is ours", ErrProtocol, id)
	case c.objects[id] != nil:
		return nil, fmt.Errorf("%w: the compositor makes object %d twice", ErrProtocol, id)
	case c.made >= maxObjects:
		return nil, fmt.Errorf("%w: the compositor makes more than %d objects", ErrProtocol, maxObjects)
	}
	o := &Object{client: c, id: id, name: name, handle: handle}
	c.objects[id] = o
	c.made++
	return o, nil
}

// Sync asks for an answer, which closes the channel once the compositor has done all that was asked before, and its events so far were handled.
func (c *Client) Sync() (answered <-chan struct{}, err error) {
	done := make(chan struct{})
	answer := sync.OnceFunc(func() { close(done) })
	_, err = c.display.Create("wl_callback", displaySync, func(*Message) error { answer(); return nil }, New)
	return done, err
}

// ID is the object's number.
func (o *Object) ID() uint32 { return o.id }

// Request asks an object for something.
func (o *Object) Request(opcode uint16, args ...Arg) error {
	conn := o.client.conn
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if o.destroyed {
		return fmt.Errorf("%s: %w", o.name, ErrDestroyed)
	}
	return conn.write(o.id, opcode, 0, args)
}

// Create asks an object for another one, whose number takes New's place.
func (o *Object) Create(name string, opcode uint16, handle Handler, args ...Arg) (*Object, error) {
	conn := o.client.conn
	conn.mu.Lock() // also because new numbers must arrive in their order
	defer conn.mu.Unlock()
	if o.destroyed {
		return nil, fmt.Errorf("%s: %w", o.name, ErrDestroyed)
	}
	made := o.client.add(name, handle)
	if err := conn.write(o.id, opcode, made.id, args); err != nil {
		o.client.forget(made.id)
		return nil, err
	}
	return made, nil
}

// add numbers an object.
func (c *Client) add(name string, handle Handler) *Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := &Object{client: c, name: name, handle: handle}
	if n := len(c.free); n > 0 {
		made.id, c.free = c.free[n-1], c.free[:n-1]
	} else {
		made.id = c.next
		c.next++
	}
	c.objects[made.id] = made
	return made
}

// forget makes a number free.
func (c *Client) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.objects[id]; ok {
		delete(c.objects, id)
		c.free = append(c.free, id)
	}
}

// Destroy sends the request that ends an object, once. Events that were sent before are still handled if the object is ours; requests to it are refused here, because a compositor
// ends the connection of who sends them.
func (o *Object) Destroy(opcode uint16) error {
	c := o.client
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	if o.destroyed {
		return nil
	}
	o.destroyed = true
	if o.id >= serverIDs {
		c.mu.Lock()
		delete(c.objects, o.id)
		c.made--
		c.mu.Unlock()
	}
	return c.conn.write(o.id, opcode, 0, nil)
}

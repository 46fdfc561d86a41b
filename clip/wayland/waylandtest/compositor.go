// Package waylandtest has a compositor without a screen, for tests of what watches clipboards: it carries selections between its clients and the
// applications that a test plays, and can be made to send whatever a test wants.
package waylandtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// Globals that a compositor may have.
var (
	Ext  = wire.Global{Interface: "ext_data_control_manager_v1", Version: 1}  //nolint:gochecknoglobals // a constant
	Wlr  = wire.Global{Interface: "zwlr_data_control_manager_v1", Version: 2} //nolint:gochecknoglobals // a constant
	Wlr1 = wire.Global{Interface: "zwlr_data_control_manager_v1", Version: 1} //nolint:gochecknoglobals // a constant
	Seat = wire.Global{Interface: "wl_seat", Version: 7}                      //nolint:gochecknoglobals // a constant
	// Windows tells of windows, which a test makes by itself.
	Windows = wire.Global{Interface: "zwlr_foreign_toplevel_manager_v1", Version: 3} //nolint:gochecknoglobals // a constant
	Other   = wire.Global{Interface: "wl_compositor", Version: 4}                    //nolint:gochecknoglobals // a constant
)

// Own is the first number of objects that a test makes by itself, by sending their events; requests to them are taken for good.
const Own = 0xff800000

// Compositor is one that runs.
type Compositor struct {
	Path string // of its socket

	tb       testing.TB
	listener *net.UnixListener
	work     sync.WaitGroup

	mu      sync.Mutex
	globals []wire.Global
	clients []*Client
	owners  map[place]*owner
	scale   int
}

// place is a selection of a seat, by the number of the seat's global.
type place struct {
	seat      uint32
	selection clip.Selection
}

// owner is who owns a selection.
type owner struct {
	types  []string
	send   func(kind string, to *os.File) // an application of the test, which closes to
	client *Client                        // or a client
	source uint32
}

// Client is a connection.
type Client struct {
	compositor *Compositor
	conn       *wire.Conn
	events     chan event // that are to be sent: a compositor does not wait for its clients
	// Under the compositor's lock.
	objects  map[uint32]string // interface by number
	registry uint32
	seats    map[uint32]uint32   // number of the seat's global by the object's
	devices  map[uint32]uint32   // likewise, by the device's
	sources  map[uint32][]string // types by number
	offers   map[uint32]*owner
	next     uint32
	free     []uint32 // numbers of offers that were destroyed: used again at once, as libwayland does
	shows    screen
}

// event is one that is to be sent.
type event struct {
	object uint32
	opcode uint16
	args   []wire.Arg
}

// maxEvents is how many may wait; a client that is as far behind is disconnected, as libwayland does.
const maxEvents = 1 << 16

// Start starts a compositor with these globals, numbered from 1.
func Start(tb testing.TB, globals ...wire.Global) *Compositor {
	tb.Helper()
	c := &Compositor{tb: tb, Path: filepath.Join(tb.TempDir(), "wayland-0"), owners: map[place]*owner{}}
	for i := range globals {
		globals[i].Name = uint32(i + 1) //nolint:gosec // a few
	}
	c.globals = globals
	var err error
	if c.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: c.Path, Net: "unix"}); err != nil {
		tb.Fatal(err)
	}
	c.work.Go(c.accept)
	tb.Cleanup(c.Close)
	return c
}

// Close ends it, and all its connections.
func (c *Compositor) Close() {
	_ = c.listener.Close()
	c.mu.Lock()
	for _, client := range c.clients {
		_ = client.conn.Close()
	}
	c.mu.Unlock()
	c.work.Wait()
}

func (c *Compositor) accept() {
	for {
		socket, err := c.listener.AcceptUnix()
		if err != nil {
			return
		}
		client := &Client{
			compositor: c, conn: wire.NewConn(socket), events: make(chan event, maxEvents), objects: map[uint32]string{1: "wl_display"}, seats: map[uint32]uint32{}, devices: map[uint32]uint32{},
			sources: map[uint32][]string{}, offers: map[uint32]*owner{}, next: 0xff000000,
		}
		c.mu.Lock()
		c.clients = append(c.clients, client)
		c.mu.Unlock()
		over, sent := make(chan struct{}), make(chan struct{})
		c.work.Go(func() {
			defer close(sent)
			client.write(over)
		})
		c.work.Go(func() {
			client.serve()
			close(over)
			<-sent
			client.leave()
		})
	}
}

// Clients are the connections so far.
func (c *Compositor) Clients() []*Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.clients)
}

// Send sends an event, of whatever object, and passes copies of descriptors on.
func (client *Client) Send(object uint32, opcode uint16, args ...wire.Arg) error {
	args = slices.Clone(args)
	for i, a := range args {
		if fd, ok := a.(wire.FD); ok {
			dup, err := syscall.Dup(int(fd))
			if err != nil {
				return err
			}
			args[i] = wire.FD(dup)
		}
	}
	select {
	case client.events <- event{object, opcode, args}:
		return nil
	default:
		return errors.Join(errors.New("too many events wait"), client.conn.Close())
	}
}

// write sends events until the connection is over, and there are no more.
func (client *Client) write(over <-chan struct{}) {
	for {
		select {
		case e := <-client.events:
			client.send(e)
			continue
		default:
		}
		select {
		case e := <-client.events:
			client.send(e)
		case <-over:
			return
		}
	}
}

func (client *Client) send(e event) {
	_ = client.conn.Write(e.object, e.opcode, e.args...) // serve says that the connection is over
	for _, a := range e.args {
		if fd, ok := a.(wire.FD); ok {
			_ = syscall.Close(int(fd))
		}
	}
}

// Object is the number of the newest object that the client has of an interface; 0: none.
func (client *Client) Object(name string) uint32 {
	client.compositor.mu.Lock()
	defer client.compositor.mu.Unlock()
	var newest uint32
	for id, n := range client.objects {
		if n == name {
			newest = max(newest, id)
		}
	}
	return newest
}

// Offers is how many offers the client has not destroyed.
func (client *Client) Offers() int {
	client.compositor.mu.Lock()
	defer client.compositor.mu.Unlock()
	return len(client.offers)
}

// Announce adds a global.
func (c *Compositor) Announce(g wire.Global) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	g.Name = uint32(len(c.globals) + 1) //nolint:gosec // a few
	c.globals = append(c.globals, g)
	for _, client := range c.clients {
		_ = client.Send(client.registry, 0, wire.Uint(g.Name), wire.String(g.Interface), wire.Uint(g.Version))
	}
	return g.Name
}

// Remove takes a global away.
func (c *Compositor) Remove(name uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		_ = client.Send(client.registry, 1, wire.Uint(name))
	}
}

// Copy makes an application of the test the owner of a selection. send is called on a goroutine of its own, and closes what it gets; nil gives the type's name.
func (c *Compositor) Copy(seat uint32, s clip.Selection, send func(kind string, to *os.File), types ...string) {
	if send == nil {
		send = func(kind string, to *os.File) {
			_, _ = to.WriteString(kind)
			_ = to.Close()
		}
	}
	c.own(place{seat, s}, &owner{types: types, send: send})
}

// Exit ends the owner of a selection.
func (c *Compositor) Exit(seat uint32, s clip.Selection) { c.own(place{seat, s}, nil) }

func (c *Compositor) own(at place, o *owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(at, o)
}

// set tells everybody of an owner; the caller holds the lock.
func (c *Compositor) set(at place, o *owner) {
	if before := c.owners[at]; before != nil && before.client != nil {
		_ = before.client.Send(before.source, 1) // cancelled
	}
	if c.owners[at] = o; o == nil {
		delete(c.owners, at)
	}
	for _, client := range c.clients {
		for device, seat := range client.devices {
			if seat == at.seat {
				client.tell(device, at.selection, o)
			}
		}
	}
}

// tell tells a client's device of a selection; the caller holds the lock.
func (client *Client) tell(device uint32, s clip.Selection, o *owner) {
	opcode := uint16(1)
	if s == clip.Primary {
		opcode = 3
	}
	if o == nil {
		_ = client.Send(device, opcode, wire.Uint(0))
		return
	}
	var id uint32
	if n := len(client.free); n > 0 {
		id, client.free = client.free[n-1], client.free[:n-1]
	} else {
		id = client.next
		client.next++
	}
	client.offers[id] = o
	_ = client.Send(device, 0, wire.Uint(id))
	for _, kind := range o.types {
		_ = client.Send(id, 0, wire.String(kind))
	}
	_ = client.Send(device, opcode, wire.Uint(id))
}

// Types is what a selection offers.
func (c *Compositor) Types(seat uint32, s clip.Selection) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.owners[place{seat, s}]; o != nil {
		return o.types
	}
	return nil
}

// Paste asks the owner of a selection for a type, and returns where it comes.
func (c *Compositor) Paste(seat uint32, s clip.Selection, kind string) (*os.File, error) {
	c.mu.Lock()
	o := c.owners[place{seat, s}]
	c.mu.Unlock()
	if o == nil {
		return nil, errors.New("nobody owns it")
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if o.client == nil {
		c.work.Go(func() { o.send(kind, to) })
		return from, nil
	}
	raw, err := to.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = o.client.Send(o.source, 0, wire.String(kind), wire.FD(fd)) }) //nolint:gosec // a descriptor is small
	}
	return from, errors.Join(err, to.Close())
}

// serve carries out a client's requests.
func (client *Client) serve() {
	for {
		m, err := client.conn.Read()
		if err == nil {
			err = client.request(m)
		}
		if err == nil {
			err = m.Err()
		}
		if err != nil {
			_ = client.Send(1, 0, wire.Uint(1), wire.Uint(0), wire.String(err.Error()))
			return
		}
	}
}

// leave ends a client's connection, and its ownerships.
func (client *Client) leave() {
	client.conn.Drop()
	c := client.compositor
	c.mu.Lock()
	defer c.mu.Unlock()
	client.shows.forget()
	c.clients = slices.DeleteFunc(c.clients, func(other *Client) bool { return other == client })
	for at, o := range c.owners {
		if o.client == client {
			c.set(at, nil)
		}
	}
}

func (client *Client) request(m *wire.Message) error {
	c := client.compositor
	c.mu.Lock()
	defer c.mu.Unlock()
	name := client.objects[m.Object]
	if o := client.offers[m.Object]; o != nil {
		return client.offer(m, o)
	}
	switch name {
	case "wl_display":
		return client.display(m)
	case "":
		if m.Object >= Own {
			return nil
		}
	case "wl_registry":
		return client.bind(m)
	case Ext.Interface, Wlr.Interface:
		return client.manager(m)
	case "device":
		return client.device(m)
	case "source":
		return client.source(m)
	}
	if ok, err := client.show(name, m); ok {
		return err
	}
	return fmt.Errorf("request %d to object %d (%s), which has none", m.Opcode, m.Object, name)
}

// made is told that the client has made an object.
func (client *Client) made(id uint32, name string) error {
	if _, ok := client.objects[id]; ok || id == 0 || id > uint32(len(client.objects)+64) { //nolint:gosec // a few
		return fmt.Errorf("object %d cannot be made", id)
	}
	client.objects[id] = name
	return nil
}

// ended is told that the client has destroyed an object.
func (client *Client) ended(id uint32) error {
	delete(client.objects, id)
	return client.Send(1, 1, wire.Uint(id))
}

func (client *Client) display(m *wire.Message) error {
	id := m.Uint()
	if m.Opcode == 0 {
		return errors.Join(client.Send(id, 0, wire.Uint(0)), client.Send(1, 1, wire.Uint(id)))
	}
	client.registry = id
	for _, g := range client.compositor.globals {
		_ = client.Send(id, 0, wire.Uint(g.Name), wire.String(g.Interface), wire.Uint(g.Version))
	}
	return client.made(id, "wl_registry")
}

func (client *Client) bind(m *wire.Message) error {
	global, name, version, id := m.Uint(), m.String(), m.Uint(), m.Uint()
	at := slices.IndexFunc(client.compositor.globals, func(g wire.Global) bool { return g.Name == global && g.Interface == name && version <= g.Version })
	if at < 0 {
		return fmt.Errorf("there is no global %d, %s, version %d", global, name, version)
	}
	switch name {
	case Seat.Interface:
		client.seats[id] = global
		_ = client.Send(id, 0, wire.Uint(3))
	case Output.Interface:
		n := max(1, client.compositor.scale)
		_ = client.Send(id, 1, wire.Uint(1), wire.Int(OutputWidth*n), wire.Int(OutputHeight*n), wire.Int(60_000)) //nolint:gosec // a test's
		_ = client.Send(id, 3, wire.Int(n))                                                                       //nolint:gosec // a test's
		_ = client.Send(id, 2)
	}
	return client.made(id, name)
}

func (client *Client) manager(m *wire.Message) error {
	id := m.Uint()
	if m.Opcode == 0 {
		client.sources[id] = nil
		return client.made(id, "source")
	}
	seat, ok := client.seats[m.Uint()]
	if !ok || m.Opcode != 1 {
		return m.Unknown()
	}
	client.devices[id] = seat
	for _, s := range []clip.Selection{clip.Clipboard, clip.Primary} {
		client.tell(id, s, client.compositor.owners[place{seat, s}])
	}
	return client.made(id, "device")
}

func (client *Client) device(m *wire.Message) error {
	at := place{client.devices[m.Object], clip.Clipboard}
	switch m.Opcode {
	case 2:
		at.selection = clip.Primary
		fallthrough
	case 0:
		source := m.Uint()
		if source == 0 {
			client.compositor.set(at, nil)
			return nil
		}
		types, ok := client.sources[source]
		if !ok {
			return fmt.Errorf("there is no source %d", source)
		}
		client.compositor.set(at, &owner{types: types, client: client, source: source})
		return nil
	case 1:
		delete(client.devices, m.Object)
		return client.ended(m.Object)
	}
	return m.Unknown()
}

func (client *Client) source(m *wire.Message) error {
	switch m.Opcode {
	case 0:
		client.sources[m.Object] = append(client.sources[m.Object], m.String())
		return nil
	case 1:
		for at, o := range client.compositor.owners {
			if o.client == client && o.source == m.Object {
				client.compositor.set(at, nil)
			}
		}
		delete(client.sources, m.Object)
		return client.ended(m.Object)
	}
	return m.Unknown()
}

func (client *Client) offer(m *wire.Message, o *owner) error {
	if m.Opcode == 1 {
		delete(client.offers, m.Object)
		client.free = append(client.free, m.Object)
		return nil
	}
	kind, fd := m.String(), m.FD()
	if m.Err() != nil {
		return nil
	}
	if o.client != nil {
		defer syscall.Close(fd) //nolint:errcheck // a copy went on
		return o.client.Send(o.source, 0, wire.String(kind), wire.FD(fd))
	}
	to := os.NewFile(uintptr(fd), kind) //nolint:gosec // a descriptor is not negative here
	client.compositor.work.Go(func() { o.send(kind, to) })
	return nil
}

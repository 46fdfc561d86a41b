package mirror

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"orrery/clip/pair"
	"orrery/clip/replica"
)

const (
	handshakeTime = 10 * time.Second
	dialTime      = 5 * time.Second
	firstWait     = time.Second
	lastWait      = time.Minute
	maxCallers    = 16 // connections at once that have not shown who they are
	maxSightings  = 4
	sayEvery      = time.Minute // that strangers were refused
)

// running is a node while it has machines.
type running struct {
	*Node
	id   *pair.Identity
	work sync.WaitGroup

	// Only the goroutine of serve uses these.
	announced string        // the address
	unfind    func()        // ends the search
	unfound   chan struct{} // closed when it has ended
}

// serve listens, finds and dials until there are no machines any more, or ctx ends.
func (r *running) serve(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer r.work.Wait()
	l, err := r.listen(ctx)
	if err != nil {
		end(nil)
		return err
	}
	defer func() {
		end(nil)
		_ = l.Close() // ends accept
		r.mu.Lock()
		r.listens = 0
		r.mu.Unlock()
	}()
	r.work.Go(func() {
		if err := r.accept(ctx, l); err != nil {
			end(err)
		}
	})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		r.observeLock()
		r.follow(ctx)
		r.dialDue(ctx)
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case <-r.reload:
			known, err := r.Book.Load()
			if err != nil {
				return err
			}
			r.setKnown(known)
			if !active(known) {
				r.partings()
				return nil
			}
		case <-r.wake:
		case <-tick.C:
		}
	}
}

// partings waits until machines that were removed have been told, or for a moment.
func (r *running) partings() {
	deadline := time.After(2 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		r.mu.Lock()
		left := len(r.sessions)
		r.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-deadline:
			return
		case <-tick.C:
		}
	}
}

// listen opens the port of the settings, or another one if that is taken.
func (r *running) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", r.Listen)
	if err != nil {
		host, _, bad := net.SplitHostPort(r.Listen)
		if bad != nil {
			return nil, fmt.Errorf("settings: sync.listen: %w", bad)
		}
		other, err2 := lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
		if err2 != nil {
			return nil, fmt.Errorf("cannot listen for paired machines: %w", errors.Join(err, err2))
		}
		r.Logger.WarnContext(ctx, "the port for paired machines is taken; another one is used, which they have to find", "wanted", r.Listen, "used", other.Addr().String(), "error", err)
		l = other
	}
	r.mu.Lock()
	r.listens = uint16(l.Addr().(*net.TCPAddr).Port) //nolint:gosec,forcetypeassert // of a TCP listener
	r.mu.Unlock()
	return l, nil
}

func (r *running) accept(ctx context.Context, l net.Listener) error {
	callers := make(chan struct{}, maxCallers)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				err = nil // it was told to end
			}
			return err
		}
		select {
		case callers <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		r.work.Go(func() {
			conn := tls.Server(c, r.id.TLS(r.judge))
			err := r.handshake(ctx, conn)
			<-callers
			if err != nil {
				r.stranger(ctx, c.RemoteAddr(), err)
				_ = c.Close()
				return
			}
			_ = r.session(ctx, conn, false)
		})
	}
}

func (r *running) handshake(ctx context.Context, c *tls.Conn) error {
	ctx, stop := context.WithTimeout(ctx, handshakeTime)
	defer stop()
	return c.HandshakeContext(ctx)
}

// stranger logs, once in a while, that a connection was refused.
func (r *running) stranger(ctx context.Context, from net.Addr, err error) {
	r.mu.Lock()
	say := time.Since(r.said) > sayEvery
	if say {
		r.said = time.Now()
	}
	r.mu.Unlock()
	if say && ctx.Err() == nil {
		r.Logger.WarnContext(ctx, "a connection was refused", "from", from.String(), "error", err)
	}
}

// session speaks over a connection whose handshake is done, and closes it.
func (r *running) session(ctx context.Context, conn *tls.Conn, dialled bool) error {
	defer conn.Close() //nolint:errcheck // all was said
	key, err := pair.PeerKey(conn.ConnectionState())
	if err != nil {
		return err
	}
	s := r.newSession(conn, r.id.Public(), key, dialled)
	if reason := r.admit(s); reason != "" {
		return errors.Join(&byeError{reason: reason}, dismiss(conn, reason))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.NetConn().Close() })
	defer stop()
	err = s.run(ctx)
	r.leave(s, err)
	var bye *byeError
	if errors.As(err, &bye) && bye.there && bye.reason == byeRemoved {
		r.left(ctx, s)
	}
	if errors.Is(err, errProtocol) && ctx.Err() == nil {
		r.Logger.WarnContext(ctx, "a machine was disconnected", "machine", r.nameOf(key), "error", err)
	} else {
		r.Logger.DebugContext(ctx, "a connection has ended", "machine", r.nameOf(key), "error", err)
	}
	poke(r.wake)
	return err
}

// dismiss says bye, and waits until the other side has read it.
func dismiss(conn *tls.Conn, reason string) error {
	if err := conn.SetDeadline(time.Now().Add(dialTime)); err != nil {
		return err
	}
	if err := (frame{typeBye, []byte(reason)}).writeTo(conn); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, conn, maxFrame)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (r *running) nameOf(key ed25519.PublicKey) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.known.Find(key); m != nil {
		return m.Name
	}
	return pair.DeviceOf(key).String()
}

// left notes that the other machine does not trust this one any more.
func (r *running) left(ctx context.Context, s *session) {
	r.Logger.WarnContext(ctx, "a machine was unpaired on its side (clip pair remove it, or pair again)", "machine", r.nameOf(s.key))
	if err := r.Book.Note(s.key, func(m *pair.Machine) { m.Left = true }); err != nil {
		r.Logger.WarnContext(ctx, "that a machine has left is not kept", "error", err)
	}
	r.Reload()
}

// follow announces this machine anew when its address is another one, as that of a laptop is elsewhere.
func (r *running) follow(ctx context.Context) {
	if r.Find == nil {
		return
	}
	address := r.Own(r.port())
	if address == r.announced {
		return
	}
	before := r.unfound
	if r.unfind != nil {
		r.unfind()
	}
	searching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	r.announced, r.unfind, r.unfound = address, stop, done
	r.work.Go(func() {
		defer close(done)
		defer stop()
		if before != nil {
			<-before // it says goodbye first
		}
		r.find(searching, address)
	})
}

// find announces this machine and hears of others.
func (r *running) find(ctx context.Context, address string) {
	own := pair.Sighting{ID: r.id.Device().String(), Name: r.Name, Address: address}
	err := r.Find(ctx, Group, own, func(o pair.Sighting) {
		var d replica.Device
		if d.UnmarshalText([]byte(o.ID)) != nil {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		p := r.peers[d]
		if p == nil || slices.Contains(p.sightings, o.Address) {
			return
		}
		p.sightings = slices.Insert(p.sightings, 0, o.Address)
		p.sightings = p.sightings[:min(len(p.sightings), maxSightings)]
		p.due, p.wait = time.Time{}, 0
		poke(r.wake)
	})
	if err != nil && ctx.Err() == nil {
		r.Logger.WarnContext(ctx, "paired machines cannot be found by the network; they are dialled where they were met", "error", err)
	}
}

// dialDue dials machines that are away and due.
func (r *running) dialDue(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isPaused() || r.locked || ctx.Err() != nil {
		return
	}
	now := time.Now()
	r.dropPartials(now)
	for _, m := range r.known.Machines {
		p := r.peer(m.Device())
		if m.Left || p.dialling || r.sessions[m.Device()] != nil || now.Before(p.due) {
			continue
		}
		addresses := slices.Concat(p.sightings, m.Addresses)
		if len(addresses) == 0 {
			continue
		}
		p.dialling = true
		r.work.Go(func() { r.dial(ctx, m, addresses) })
	}
}

// dial speaks with a machine at the first of the addresses where it is.
func (r *running) dial(ctx context.Context, m pair.Machine, addresses []string) {
	met := false
	var err error
	for i, a := range addresses {
		if slices.Contains(addresses[:i], a) || ctx.Err() != nil {
			continue
		}
		var conn *tls.Conn
		if conn, err = r.call(ctx, m, a); err == nil {
			met = true
			err = r.session(ctx, conn, true)
			break
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.peer(m.Device())
	p.dialling = false
	if err != nil && ctx.Err() == nil && r.sessions[m.Device()] == nil {
		p.err = away(err)
	}
	if met && time.Since(p.since) > lastWait {
		p.wait = 0
	}
	p.wait = min(max(2*p.wait, firstWait), lastWait)
	p.due = time.Now().Add(p.wait/2 + rand.N(p.wait))
}

// call connects to a machine at an address.
func (r *running) call(ctx context.Context, m pair.Machine, address string) (*tls.Conn, error) {
	d := net.Dialer{Timeout: dialTime}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(c, r.id.TLS(func(key ed25519.PublicKey) error {
		if !key.Equal(ed25519.PublicKey(m.Key)) {
			return fmt.Errorf("at %s is another machine than %s", address, m.Name)
		}
		return nil
	}))
	if err := r.handshake(ctx, conn); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return conn, nil
}

// away says why a machine is not connected. Who is refused by the other side hears so only when it reads.
func away(err error) string {
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" {
		return "it does not know this machine any more (clip pair remove it, and pair again)"
	}
	return err.Error()
}

// State is how a machine is connected.
type State string

// The states.
const (
	Connected State = "connected"
	Away      State = "away"
	Left      State = "left" // it removed this machine
)

// Peer is a paired machine.
type Peer struct {
	Name    string    `json:"name"`
	Device  string    `json:"device"`
	State   State     `json:"state"`
	Address string    `json:"address,omitempty"` // where it is, or was met last
	Since   time.Time `json:"since,omitzero"`    // of the connection
	Met     time.Time `json:"met,omitzero"`
	Why     string    `json:"why,omitempty"` // it is away
	Counts
}

// Status is how it is.
type Status struct {
	Device   string    `json:"device,omitempty"`
	Port     uint16    `json:"port,omitempty"` // where it listens; 0: it does not
	Paused   bool      `json:"paused"`
	Locked   bool      `json:"locked"`         // the history is, and all waits
	Until    time.Time `json:"until,omitzero"` // it is paused until then
	Missing  int       `json:"missing"`        // items that are still to be fetched
	Refused  int       `json:"refused"`        // connections of strangers
	Problem  string    `json:"problem,omitempty"`
	Machines []Peer    `json:"machines"`
}

// Status is how it is.
func (n *Node) Status() Status {
	missing, locked := n.History.Missing(), n.History.Locked()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := Status{Paused: n.isPaused(), Locked: locked, Missing: missing, Refused: n.refusals, Problem: n.problem, Machines: []Peer{}}
	if active(n.known) {
		s.Device, s.Port = n.own.String(), n.listens
	}
	if s.Paused && !n.forever {
		s.Until = n.paused
	}
	for _, m := range n.known.Machines {
		p := n.peer(m.Device())
		state := Peer{Name: m.Name, Device: m.Device().String(), State: Away, Met: m.Met, Why: p.err, Counts: p.counts}
		if len(m.Addresses) > 0 {
			state.Address = m.Addresses[0]
		}
		switch session := n.sessions[m.Device()]; {
		case session != nil:
			state.State, state.Since, state.Address, state.Why = Connected, p.since, session.conn.RemoteAddr().String(), ""
		case m.Left:
			state.State, state.Why = Left, ""
		}
		s.Machines = append(s.Machines, state)
	}
	return s
}

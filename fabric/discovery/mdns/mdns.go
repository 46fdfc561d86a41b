// Package mdns lets nodes find each other by DNS-SD over multicast DNS, on all interfaces that have multicast, by IPv4 and IPv6.
//
// It shares port 5353 with other responders of the machine, such as Avahi, and answers for its own node only. It is bound to the groups, so
// no unicast datagram reaches it. Announcements are sent when it starts and when an interface comes; when it ends, a goodbye. Answers are limited per
// interface; what is no message of multicast DNS is dropped and counted. It does not probe for its names: they hold the node's id.
package mdns

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"orrery/fabric"
	"orrery/fabric/discovery/dnssd"
)

// Via is how beacons of this package come.
const Via = "mdns"

const (
	port      = 5353
	firstAsk  = time.Second
	lastAsk   = 20 * time.Second
	look      = 3 * time.Second // for interfaces that come and go
	maxHeard  = 500             // datagrams a second that a socket reads
	maxAnswer = 20              // answers a second on an interface
)

var (
	group4 = netip.MustParseAddr("224.0.0.251")
	group6 = netip.MustParseAddr("ff02::fb")
)

// ErrNoMulticast says that no interface takes multicast.
var ErrNoMulticast = errors.New("no interface takes multicast")

// Way finds and announces nodes. The zero value is ready.
type Way struct {
	Logger  *slog.Logger // nil discards
	Service string       // what is announced and looked for; empty: dnssd.Type

	dropped atomic.Uint64
}

// Name is what the way is called in settings, and in a beacon's Via.
func (w *Way) Name() string { return Via }

// Dropped counts the datagrams that were malformed or too many.
func (w *Way) Dropped() uint64 { return w.dropped.Load() }

// Run announces own, if it is not nil, and reports what it hears until ctx ends; nil then. It returns ErrNoMulticast, with reasons, if
// there is no interface for it. found may be called by several goroutines at once.
func (w *Way) Run(ctx context.Context, own *fabric.Beacon, found func(fabric.Beacon)) error {
	service := cmp.Or(w.Service, dnssd.Type)
	r := &run{way: w, found: found, links: map[key]*link{}, log: w.Logger, browser: dnssd.Browser{Service: service}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if own != nil {
		if r.own, err = dnssd.AnnounceAs(service, *own); err != nil {
			return err
		}
	}
	if r.browse, err = dnssd.BrowseFor(service); err != nil {
		return err
	}
	defer r.close()
	if err := r.refresh(ctx); len(r.links) == 0 {
		return errors.Join(ErrNoMulticast, err)
	}
	return r.loop(ctx)
}

// run is one call of Run.
type run struct {
	way    *Way
	own    *dnssd.Announcement
	browse []byte
	found  func(fabric.Beacon)
	log    *slog.Logger
	work   sync.WaitGroup

	links  map[key]*link // of the goroutine of Run
	failed map[key]bool

	mu      sync.Mutex
	browser dnssd.Browser
}

// key is one family of one interface.
type key struct {
	index int
	six   bool
}

type link struct {
	name      string
	socket    net.PacketConn
	to        *net.UDPAddr
	addresses atomic.Pointer[[]netip.Addr]
	hellos    int // that are still to be sent: RFC 6762, 8.3 wants two

	sent  atomic.Uint64 // datagrams
	heard atomic.Bool   // anything; what is sent comes back, too
	quiet int           // looks at which nothing was heard yet
}

// patience is how many looks a link may be quiet.
const patience = 2

func (r *run) loop(ctx context.Context) error {
	ask, again, wait := time.NewTimer(0), time.NewTicker(look), firstAsk
	hello := time.NewTimer(0)
	defer ask.Stop()
	defer again.Stop()
	defer hello.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hello.C:
			if r.greet() {
				hello.Reset(time.Second)
			}
		case <-ask.C:
			for _, l := range r.links {
				l.send(r.browse)
			}
			ask.Reset(wait/2 + rand.N(wait))
			wait = min(2*wait, lastAsk)
		case <-again.C:
			if err := r.refresh(ctx); err == nil && len(r.links) == 0 {
				return ErrNoMulticast // it is tried again, and said once
			}
			hello.Reset(0)
			r.listened(ctx)
		}
	}
}

// listened says of an interface once that it is deaf: a firewall that drops multicast reports nothing, but one hears one's own messages otherwise.
func (r *run) listened(ctx context.Context) {
	for k, l := range r.links {
		if l.heard.Load() {
			if l.quiet >= patience {
				r.log.InfoContext(ctx, "multicast DNS is heard now", "interface", l.name, "ipv6", k.six)
			}
			l.quiet = 0
		} else if l.sent.Load() > 0 && l.quiet < patience {
			if l.quiet++; l.quiet == patience {
				r.log.WarnContext(ctx, "multicast DNS is sent and not even heard here (does a firewall drop UDP port 5353?); other ways of discovery go on",
					"interface", l.name, "ipv6", k.six)
			}
		}
	}
}

// greet sends what announcements are due, and says whether more are.
func (r *run) greet() (more bool) {
	if r.own == nil {
		return false
	}
	for _, l := range r.links {
		if l.hellos == 0 {
			continue
		}
		if m, err := r.own.Hello(*l.addresses.Load()); err == nil {
			l.send(m)
		}
		l.hellos--
		more = more || l.hellos > 0
	}
	return more
}

// refresh opens sockets on interfaces that came, closes those of interfaces that went, and announces anew what changed. Its
// error says which interfaces cannot be used.
func (r *run) refresh(ctx context.Context) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	var errs []error
	now := map[key]bool{}
	failed := map[key]bool{}
	for _, i := range all {
		const need = net.FlagUp | net.FlagMulticast
		if i.Flags&need != need || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		four, six := addressesOf(i)
		for _, k := range []key{{i.Index, false}, {i.Index, true}} {
			if len(four) == 0 && !k.six || len(six) == 0 && k.six {
				continue
			}
			now[k] = true
			if err := r.use(ctx, k, i, append(slices.Clip(four), six...)); err != nil {
				errs = append(errs, err)
				failed[k] = true
				if !r.failed[k] {
					r.log.WarnContext(ctx, "interface is not used for multicast DNS", "interface", i.Name, "error", err)
				}
			}
		}
	}
	r.failed = failed
	for k, l := range r.links {
		if !now[k] {
			_ = l.socket.Close()
			delete(r.links, k)
		}
	}
	return errors.Join(errs...)
}

func (r *run) use(ctx context.Context, k key, i net.Interface, addresses []netip.Addr) error {
	l := r.links[k]
	if l == nil {
		group := group4
		if k.six {
			group = group6
		}
		socket, err := listen(group, i)
		if err != nil {
			return err
		}
		l = &link{name: i.Name, socket: socket, to: net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, port))}
		if k.six {
			l.to.Zone = i.Name
		}
		l.addresses.Store(&addresses)
		l.hellos = 2
		r.links[k] = l
		r.work.Go(func() { r.listen(ctx, l) })
		l.send(r.browse)
		return nil
	}
	if !equal(*l.addresses.Load(), addresses) {
		l.addresses.Store(&addresses)
		l.hellos = 2
	}
	return nil
}

func equal(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// addressesOf are the addresses of an interface, by family.
func addressesOf(i net.Interface) (four, six []netip.Addr) {
	all, err := i.Addrs()
	if err != nil {
		return nil, nil
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		switch {
		case err != nil:
		case p.Addr().Unmap().Is4():
			four = append(four, p.Addr().Unmap())
		default:
			six = append(six, p.Addr())
		}
	}
	return four, six
}

// send sends to the group. What does not get through is asked for or sent again.
func (l *link) send(content []byte) {
	if _, err := l.socket.WriteTo(content, l.to); err == nil {
		l.sent.Add(1)
	}
}

// listen reads a socket until it is closed.
func (r *run) listen(ctx context.Context, l *link) {
	heard, answers := rate.NewLimiter(maxHeard, maxHeard), rate.NewLimiter(maxAnswer, 2*maxAnswer)
	buffer := make([]byte, dnssd.MaxMessage+1)
	for {
		n, from, err := l.socket.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // of a datagram: a port that was unreachable
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		l.heard.Store(true)
		if !heard.Allow() || !r.take(l, buffer[:n], from.(*net.UDPAddr), answers) {
			r.way.dropped.Add(1)
		}
	}
}

// take takes a datagram in; false: it is dropped.
func (r *run) take(l *link, content []byte, from *net.UDPAddr, answers *rate.Limiter) bool {
	m, err := dnssd.Parse(content)
	if err != nil {
		return false
	}
	if !m.Response {
		return r.answer(l, func() ([]byte, error) {
			return r.own.Answer(m, *l.addresses.Load(), from.Port != port)
		}, from, answers)
	}
	if from.Port != port { // RFC 6762, 6: not by a responder
		return false
	}
	r.mu.Lock()
	beacons, ask, err := r.browser.Take(m)
	r.mu.Unlock()
	for _, b := range beacons {
		b.Via = Via
		r.found(b)
	}
	if err != nil {
		return false
	}
	if ask != nil && answers.Allow() {
		l.send(ask)
	}
	return true
}

func (r *run) answer(l *link, make func() ([]byte, error), from *net.UDPAddr, answers *rate.Limiter) bool {
	if r.own == nil {
		return true
	}
	reply, err := make()
	if err != nil || reply == nil {
		return err == nil
	}
	if !answers.Allow() {
		return false
	}
	if from.Port == port {
		l.send(reply)
	} else {
		_, _ = l.socket.WriteTo(reply, from)
	}
	return true
}

// close says goodbye and closes the sockets.
func (r *run) close() {
	for _, l := range r.links {
		if r.own != nil {
			if m, err := r.own.Goodbye(*l.addresses.Load()); err == nil {
				l.send(m)
			}
		}
		_ = l.socket.Close()
	}
	r.work.Wait()
}

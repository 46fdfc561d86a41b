package pair

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Sighting is a machine that announces itself.
type Sighting struct {
	ID      string
	Name    string
	Address string // host:port
}

// Finder announces own, and reports others that announce themselves in the same group, until ctx ends. found may be called by several goroutines.
type Finder func(ctx context.Context, group string, own Sighting, found func(Sighting)) error

// Group is what machines announce that pair now.
const Group = "orrery-clip-pair"

// Meeting is how to meet.
type Meeting struct {
	Terms
	// Address is where the other machine waits, if it is known. Else this one waits at Listener, and both find each other by Find.
	Address  string
	Listener net.Listener
	// Own is where this machine waits, as others dial it.
	Own  string
	Find Finder // nil: others need the address
	// With is the name of the machine that is meant; empty: any.
	With   string
	Logger *slog.Logger // nil discards
}

// meetings is one call of Meet.
type meetings struct {
	Meeting
	id    string
	ctx   context.Context //nolint:containedctx // that of the call
	end   func()
	work  sync.WaitGroup
	turn  chan struct{} // one at a time talks to people
	mu    sync.Mutex
	tried map[string]bool
	done  bool
	with  Machine
	err   error
}

// Meet pairs with one machine. Machines that cannot, or are others than With, are passed over; what people decided is final. The listener is closed when it returns.
func Meet(ctx context.Context, m Meeting) (Machine, error) {
	if m.Logger == nil {
		m.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	s := &meetings{Meeting: m, id: rand.Text(), ctx: ctx, end: end, turn: make(chan struct{}, 1), tried: map[string]bool{}}
	if m.Address != "" {
		s.work.Go(s.dialAlways)
	} else {
		s.work.Go(s.accept)
		if m.Find != nil {
			s.work.Go(s.find)
		}
	}
	<-ctx.Done()
	if m.Listener != nil {
		_ = m.Listener.Close() // nobody is awaited any more
	}
	s.work.Wait()
	if !s.done {
		return Machine{}, errors.Join(context.Cause(ctx), s.err)
	}
	return s.with, s.err
}

// finish ends the meeting.
func (s *meetings) finish(m Machine, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.done, s.with, s.err = true, m, err
	}
	s.end()
}

// accept waits to be called.
func (s *meetings) accept() {
	slots := make(chan struct{}, 8)
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			if s.ctx.Err() == nil {
				s.finish(Machine{}, err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
			s.work.Go(func() {
				defer func() { <-slots }()
				if err := s.try(tls.Server(c, s.Identity.TLS(anyKey)), false); err != nil {
					s.Logger.Debug("who called is no machine that pairs", "address", c.RemoteAddr().String(), "error", err)
				}
			})
		default:
			_ = c.Close() // too many at once are not machines of one person
		}
	}
}

func anyKey(ed25519.PublicKey) error { return nil }

// find dials who is found, if that is for this one to do.
func (s *meetings) find() {
	err := s.Find(s.ctx, Group, Sighting{s.id, CleanName(s.Name), s.Own}, func(o Sighting) {
		if o.ID == s.id || o.ID < s.id || s.With != "" && s.With != o.Name {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		key := o.ID + " " + o.Address
		if s.tried[key] || s.done || len(s.tried) > 1000 {
			return
		}
		s.tried[key] = true
		s.work.Go(func() {
			if err := s.dial(o.Address); err != nil {
				s.Logger.Debug("a machine that was found does not answer", "name", o.Name, "address", o.Address, "error", err)
				s.mu.Lock()
				delete(s.tried, key) // it is tried again when it is heard again
				s.mu.Unlock()
			}
		})
	})
	if err != nil && s.ctx.Err() == nil {
		s.Logger.Warn("the other machine cannot be found by the network; give its address", "error", err)
	}
}

// dialAlways dials the address until somebody answers there.
func (s *meetings) dialAlways() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := s.dial(s.Address)
		if s.ctx.Err() != nil {
			return
		}
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *meetings) dial(address string) error {
	d := net.Dialer{Timeout: 10 * time.Second}
	c, err := d.DialContext(s.ctx, "tcp", address)
	if err != nil {
		return err
	}
	return s.try(tls.Client(c, s.Identity.TLS(anyKey)), true)
}

// try pairs over a connection. Only what people decided, and what is suspicious, is final.
func (s *meetings) try(c *tls.Conn, caller bool) error {
	defer c.Close() //nolint:errcheck // all was said
	asked := false
	t := s.Terms
	t.Confirm = func(ctx context.Context, g Greeting) (bool, error) {
		if s.With != "" && g.Name != s.With {
			return false, fmt.Errorf("it is %s", g.Name)
		}
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		default:
			return false, errors.New("another machine is being compared")
		}
		asked = true
		return s.Confirm(ctx, g)
	}
	m, err := Pair(s.ctx, c, caller, t)
	if err == nil || asked || errors.Is(err, ErrMiddle) {
		if s.ctx.Err() == nil {
			s.finish(m, err)
		}
		return nil
	}
	return err
}

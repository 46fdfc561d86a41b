// Package route chooses which instance of a service answers a request. It is
// pure: a Table is an immutable value made from the records that the cluster's table holds, safe for
// concurrent use, and Select depends on nothing else.
//
// A request belongs to a session by the header Orrery-Session, by a member of its
// W3C baggage or by the host it was sent to, in this order. What names a session that
// is not there is refused and never reaches production.
package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"orrery/session"
)

// Why a request is refused. The errors that Select returns wrap one of them.
var (
	// ErrNoInstance says that the service has no production instance now.
	ErrNoInstance = errors.New("service has no instance")
	// ErrGone says that the request names a session that does not exist or is ending.
	ErrGone = errors.New("no such session")
	// ErrNotReady says that the session, or its instance of the service, is still being made.
	ErrNotReady = errors.New("session is not ready yet")
	// ErrAmbiguous says that the request names two sessions in one place, or a malformed one.
	ErrAmbiguous = errors.New("request does not name one session")
	// ErrNoPreview says that a preview host names a service that has no public address.
	ErrNoPreview = errors.New("no such preview host")
)

// Via is how a request named its session.
type Via string

// The ways to name a session.
const (
	ViaNone    Via = ""
	ViaHeader  Via = "header"
	ViaBaggage Via = "baggage"
	ViaHost    Via = "host"
	ViaCaller  Via = "caller" // the connection belongs to a session as a whole
)

// Request is what the choice depends on.
type Request struct {
	Service string
	Header  map[string][]string // keys in canonical form, as in net/http
	Host    string              // as in the Host header, with or without a port
	Public  bool                // it came to a public listener; only there hosts are looked at
	Session string              // set if everything on the connection belongs to a session
}

// Choice is where a request goes.
type Choice struct {
	Service  string // differs from the request's where a preview host names another one
	Instance session.Instance
	Session  string // empty for an unmarked request
	Via      Via    // how the session was named, also when Select refuses the request
	Override bool   // the instance is the session's own
	Held     bool   // wait and choose again; Instance is not to be used
}

type overlay struct {
	ready, ending bool
	instances     map[string]session.Instance
}

// Table is the routes and sessions at one moment.
type Table struct {
	routes   map[string]session.Route
	sessions map[string]overlay
}

// New makes a Table; it copies what it needs.
func New(routes []session.Route, sessions []session.Session) *Table {
	t := &Table{
		routes:   make(map[string]session.Route, len(routes)),
		sessions: make(map[string]overlay, len(sessions)),
	}
	for _, r := range routes {
		t.routes[r.Service] = r
	}
	for _, s := range sessions {
		o := overlay{s.Ready, s.Ending, make(map[string]session.Instance, len(s.Overrides))}
		for _, override := range s.Overrides {
			o.instances[override.Service] = override.Instance
		}
		t.sessions[s.Name] = o
	}
	return t
}

// Route returns the record of a service.
func (t *Table) Route(service string) (session.Route, bool) {
	r, ok := t.routes[service]
	return r, ok
}

// Select chooses. After an error the request must not be sent anywhere.
func (t *Table) Select(r Request) (Choice, error) {
	c := Choice{Service: r.Service}
	name, via, err := named(r)
	c.Via = via
	if err != nil {
		return c, err
	}
	if r.Public {
		previewed, service, ok := PreviewHost(r.Host)
		if ok {
			if known, exists := t.routes[service]; !exists || known.Public == nil || !session.ValidName(previewed) {
				c.Via = ViaHost
				return c, fmt.Errorf("%w: %s (SESSION--SERVICE of a public service)", ErrNoPreview, clip(r.Host))
			}
			c.Service = service
			if name == "" {
				name, c.Via = previewed, ViaHost
			}
		}
	}
	if name == "" {
		return t.production(c)
	}
	return t.overlaid(c, name)
}

func named(r Request) (string, Via, error) {
	if r.Session != "" {
		return r.Session, ViaCaller, nil
	}
	if lines := r.Header[session.Header]; len(lines) > 0 {
		if name, err := fromHeader(lines); name != "" || err != nil {
			return name, ViaHeader, err
		}
	}
	if lines := r.Header[baggageHeader]; len(lines) > 0 {
		if name, err := fromBaggage(lines); name != "" || err != nil {
			return name, ViaBaggage, err
		}
	}
	return "", ViaNone, nil
}

func (t *Table) production(c Choice) (Choice, error) {
	r, ok := t.routes[c.Service]
	switch {
	case ok && r.Held:
		c.Held = true
	case !ok || r.Instance.Address == "":
		return c, fmt.Errorf("%w: %s (deploy it, or look at its status)", ErrNoInstance, c.Service)
	default:
		c.Instance = r.Instance
	}
	return c, nil
}

func (t *Table) overlaid(c Choice, name string) (Choice, error) {
	c.Session = name
	o, ok := t.sessions[name]
	switch {
	case !ok:
		return c, fmt.Errorf("%w: %q (it ended, or never was)", ErrGone, name)
	case o.ending:
		return c, fmt.Errorf("%w: %q is ending", ErrGone, name)
	case !o.ready:
		return c, fmt.Errorf("%w: %s", ErrNotReady, name)
	}
	instance, overridden := o.instances[c.Service]
	if !overridden {
		return t.production(c)
	}
	// An override without an address is being made: going to production instead would write there.
	if instance.Address == "" {
		return c, fmt.Errorf("%w: %s is making its %s", ErrNotReady, name, c.Service)
	}
	c.Instance, c.Override = instance, true
	return c, nil
}

// Current lists the instances of a service that requests may go to now: the production
// instance unless it is held, and those of sessions.
func (t *Table) Current(service string) []session.Instance {
	var all []session.Instance
	if r, ok := t.routes[service]; ok && !r.Held && r.Instance.Address != "" {
		all = append(all, r.Instance)
	}
	for _, o := range t.sessions {
		instance, ok := o.instances[service]
		if ok && o.ready && !o.ending && instance.Address != "" {
			all = append(all, instance)
		}
	}
	return all
}

// Knows says whether an instance is in a record of any service or session, held or not.
func (t *Table) Knows(instance session.Instance) bool {
	for _, r := range t.routes {
		if r.Instance == instance {
			return true
		}
	}
	for _, o := range t.sessions {
		for _, i := range o.instances {
			if i == instance {
				return true
			}
		}
	}
	return false
}

// Public lists the routes that have a public listener.
func (t *Table) Public() []session.Route {
	var public []session.Route
	for _, r := range t.routes {
		if r.Public != nil {
			public = append(public, r)
		}
	}
	return public
}

// Services lists the names of all services that a route or a session's override names.
func (t *Table) Services() []string {
	names := make(map[string]struct{}, len(t.routes))
	for name := range t.routes {
		names[name] = struct{}{}
	}
	for _, o := range t.sessions {
		for name := range o.instances {
			names[name] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

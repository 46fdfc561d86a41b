// Package session is the contract for overlays on the running system: which
// instance of a service answers a request, chosen per request.
//
// A Route names a service's production instance. A Session overrides services by
// instances of its own: a developer's process behind a tunnel, a process on a node, a service on a fork of its
// state. Both are records in the table that every router watches.
//
// The parts are below it: route (selection, pure), router (the proxy in front of services),
// tunnel (a developer's machine as an instance) and overlay (makes, keeps alive and ends sessions).
package session

import (
	"context"
	"errors"
	"net"
	"regexp"
	"time"

	"orrery/fabric"
	"orrery/state"
)

var (
	// ErrNotFound says that a session, service or tunnel of that name does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a session already overrides that service, or has that name.
	ErrExists = errors.New("exists already")
	// ErrBadName says that a name is not a DNS label of at most 30 characters.
	ErrBadName = errors.New("bad name")
)

// How a request says which session it belongs to, in this order of precedence.
const (
	Header        = "Orrery-Session" // Orrery-Session: blue
	BaggageMember = "orrery-session" // baggage: orrery-session=blue (W3C Baggage)
	// PreviewSeparator joins session and service in the first label of a preview host: blue--sky.example.org
	PreviewSeparator = "--"
)

// Keys of the table that session owns.
const (
	RoutePrefix   = "session/route/"   // + service: Route
	SessionPrefix = "session/session/" // + name: Session
)

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)

// ValidName says whether name can name a session: a DNS label of at most 30
// characters without PreviewSeparator in it.
func ValidName(name string) bool {
	for i := 0; i+1 < len(name); i++ {
		if name[i:i+2] == PreviewSeparator {
			return false
		}
	}
	return validName.MatchString(name)
}

// Instance is one running copy of a service that a router can reach.
type Instance struct {
	Node    fabric.NodeID `json:"node"`              // the node that runs it, or that the tunnel ends at
	Address string        `json:"address,omitempty"` // host:port on that node
	Tunnel  string        `json:"tunnel,omitempty"`  // the tunnel's id; Address is then on the developer's machine
}

// Route is a service's production instance.
type Route struct {
	Service  string    `json:"service"`
	Instance Instance  `json:"instance"`
	Held     bool      `json:"held,omitempty"` // routers keep requests back until it is false again
	Public   *Listener `json:"public,omitempty"`
}

// Listener is a public address of a service on one node.
type Listener struct {
	Node    fabric.NodeID `json:"node"`
	Address string        `json:"address"` // host:port; port 0: the node chooses and keeps it
}

// Kind is how a session overrides a service.
type Kind string

// The kinds of overrides.
const (
	KindTunnel Kind = "tunnel" // a process on a developer's machine
	KindExec   Kind = "exec"   // a process on a node, made for the session
	KindFork   Kind = "fork"   // the production version on a fork of its state
)

// Override is one service of a session.
type Override struct {
	Service  string   `json:"service"`
	Kind     Kind     `json:"kind"`
	Instance Instance `json:"instance"`
	// Components are those made for the session, on Instance.Node, in order of activation.
	Components []state.Ref `json:"components,omitempty"`
	Method     string      `json:"method,omitempty"` // how the state was forked: reflink, copy
	Bytes      int64       `json:"bytes,omitempty"`  // logical size of the forked state
}

// Session is a named overlay on the running system.
type Session struct {
	Name      string     `json:"name"`
	Owner     string     `json:"owner"` // the name in the certificate of whoever made it
	Created   time.Time  `json:"created"`
	Expires   time.Time  `json:"expires"` // zero: when its lease ends
	Overrides []Override `json:"overrides"`
	// Host is the node that keeps the session alive: it ends the session when the
	// developer's tunnel is gone or Expires is over, and renews Beat while it lives.
	Host fabric.NodeID `json:"host"`
	Beat uint64        `json:"beat"`
	// Ready is false while overrides are being made; routers ignore the session until then.
	Ready bool `json:"ready"`
	// Ending is true once its components are being removed; routers refuse its requests.
	Ending bool `json:"ending,omitempty"`
}

// Placed is a production service as a session needs to know it.
type Placed struct {
	Service    string            `json:"service"`
	Node       fabric.NodeID     `json:"node"`
	Components []state.Component `json:"components"` // in order of activation, references unresolved
	Endpoint   string            `json:"endpoint"`   // name of the component that answers
	DependsOn  []string          `json:"dependsOn,omitempty"`
}

// Services finds production services.
type Services interface {
	// Lookup returns where a service lives. ErrNotFound.
	Lookup(ctx context.Context, service string) (Placed, error)
}

// Keepers reaches the nodes' keepers.
type Keepers interface {
	Keeper(node fabric.NodeID) (state.Keeper, error)
}

// Dialer connects to instances: directly on this node, through the fabric on others, through a tunnel on a
// developer's machine.
type Dialer interface {
	// Dial returns a byte stream to the instance. An error means that not a byte was sent.
	Dial(ctx context.Context, to Instance) (net.Conn, error)
}

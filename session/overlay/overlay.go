// Package overlay makes, keeps alive and ends sessions.
//
// The node that makes a session is its host. Everything that a session consists of is written into its record before
// it is made, so that whoever ends the session, at whatever moment, knows what to remove. A session ends when its owner deletes
// it, when it expires, when the tunnels of its developers are gone for longer than Grace, or when its host stopped renewing it:
// then the alive node with the lowest id ends it. Ending is: the record says so and routers
// refuse the session's requests; then its components are deactivated and collected; then the record is removed.
//
// A component of a session that no record names is removed by the node that has it.
package overlay

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

// Modules describes modules.
type Modules interface {
	// Describe returns a module's description on a node; state.ErrNotFound if the node lacks it.
	Describe(ctx context.Context, node fabric.NodeID, module string) (state.Description, error)
}

// Tunnels knows the tunnels that end at this node.
type Tunnels interface {
	Alive(id string) bool
	// Drop ends a tunnel.
	Drop(id string)
}

// Config configures an Overlay. Self, Table, Keepers, Services, Modules, Tunnels and Alive are required.
type Config struct {
	Self     fabric.NodeID
	Table    fabric.Table
	Keepers  session.Keepers
	Services session.Services
	Modules  Modules
	Tunnels  Tunnels
	// Alive lists the nodes that the membership believes alive, this one included.
	Alive func() []fabric.NodeID
	// Logger may be nil: discard.
	Logger *slog.Logger
	// Beat is how often a host renews its sessions; default 3 s.
	Beat time.Duration
	// Lease is how long a session lives without being renewed; default five beats.
	Lease time.Duration
	// Grace is how long a session lives without any of its tunnels; default 10 s.
	Grace time.Duration
	// Sweep is how often a node looks for components of sessions that are gone; default 30 s.
	Sweep time.Duration
}

// Errors that are not in the contract.
var (
	// ErrNotOwner says that somebody else's session was to be changed or ended.
	ErrNotOwner = errors.New("session belongs to somebody else")
	// ErrEnding says that the session ended meanwhile.
	ErrEnding = errors.New("session is ending")
	// ErrOtherHost says that only the session's host can do it; the text names the node.
	ErrOtherHost = errors.New("session lives on another node")
)

// Exec is a service's variant that runs on the service's node.
type Exec struct {
	Service string `json:"service"`
	// Component takes the place of the service's endpoint; its name is the endpoint's. What it leaves
	// empty (module, container, properties, files) is as in production.
	Component state.Component `json:"component"`
}

// Tunnelled is a service's variant on the developer's machine.
type Tunnelled struct {
	Service string `json:"service"`
	Address string `json:"address"` // host:port on the developer's machine
}

// Request says what a session consists of. A service is in one of Forks, Exec and Tunnels, or in Forks and Exec: then the variant
// runs on forked state.
type Request struct {
	Name    string        `json:"name"` // empty: made up
	Owner   string        `json:"owner"`
	Forks   []string      `json:"forks,omitempty"`
	Exec    []Exec        `json:"exec,omitempty"`
	Tunnels []Tunnelled   `json:"tunnels,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"` // 0: as long as its tunnels; without tunnels DefaultTTL
}

// DefaultTTL is the life of a session without tunnels that does not say how long it should live.
const DefaultTTL = 8 * time.Hour

// Caller is who wants something of a session.
type Caller struct {
	Name string
	Role fabric.Role
}

// Overlay is one node's part in the life of sessions.
type Overlay struct {
	config Config
	logger *slog.Logger

	mu     sync.Mutex
	making map[string]int           // sessions that this node is making or extending
	seen   map[string]pulse         // when a session's beat last changed, by this node's clock
	lost   map[string]time.Time     // when a tunnel was last connected
	ending map[string]chan struct{} // sessions that this node is ending; closed when done
}

type pulse struct {
	beat uint64
	at   time.Time
}

// New makes an Overlay; Run keeps its sessions alive.
func New(config Config) (*Overlay, error) {
	if config.Self == "" || config.Table == nil || config.Keepers == nil || config.Services == nil ||
		config.Modules == nil || config.Tunnels == nil || config.Alive == nil {
		return nil, errors.New("cannot make an overlay: its configuration lacks a part")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	config.Beat = orDefault(config.Beat, 3*time.Second)
	config.Lease = orDefault(config.Lease, 5*config.Beat)
	config.Grace = orDefault(config.Grace, 10*time.Second)
	config.Sweep = orDefault(config.Sweep, 30*time.Second)
	return &Overlay{
		config: config, logger: config.Logger,
		making: map[string]int{}, seen: map[string]pulse{}, lost: map[string]time.Time{}, ending: map[string]chan struct{}{},
	}, nil
}

func orDefault(value, fallback time.Duration) time.Duration {
	if value <= 0 {
		return fallback
	}
	return value
}

// Create makes a session and returns it ready. If that cannot be done nothing of it remains, or what remains
// is removed later. ErrExists, ErrBadName, ErrNotFound for a service.
func (o *Overlay) Create(ctx context.Context, q Request) (session.Session, error) {
	if q.Name == "" {
		q.Name = madeUp()
	}
	if !session.ValidName(q.Name) {
		return session.Session{}, fmt.Errorf("cannot create session %.40q: %w (lower-case letters, digits and single hyphens, at most 30)", q.Name, session.ErrBadName)
	}
	parts, err := o.design(ctx, q)
	if err != nil {
		return session.Session{}, fmt.Errorf("cannot create session %s: %w", q.Name, err)
	}
	now := time.Now()
	s := session.Session{Name: q.Name, Owner: q.Owner, Created: now.UTC(), Host: o.config.Self, Overrides: overrides(parts)}
	if q.TTL == 0 && len(q.Tunnels) == 0 {
		q.TTL = DefaultTTL
	}
	if q.TTL > 0 {
		s.Expires = now.Add(q.TTL).UTC()
	}
	o.begin(q.Name)
	defer o.finished(q.Name)
	if err := o.write(ctx, s, 0); err != nil {
		if errors.Is(err, fabric.ErrConflict) {
			err = session.ErrExists
		}
		return session.Session{}, fmt.Errorf("cannot create session %s: %w", q.Name, err)
	}
	made, err := o.make(ctx, s, parts)
	if err == nil {
		return made, nil
	}
	// The request's context may be what failed; the removal must not fail with it.
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if now, _, gone := o.read(soon, q.Name); gone == nil && !now.Created.Equal(s.Created) {
		return session.Session{}, fmt.Errorf("cannot create session %s: %w", q.Name, err)
	}
	if undone := o.end(soon, q.Name); undone != nil {
		o.logger.WarnContext(ctx, "a session that could not be made is removed later", "session", q.Name, "err", undone)
	}
	return session.Session{}, fmt.Errorf("cannot create session %s: %w", q.Name, err)
}

// undoLimit bounds how long a caller waits for the removal of what could not be made; what is not removed by then is removed later.
const undoLimit = time.Minute

func madeUp() string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return "s-" + hex.EncodeToString(random[:])
}

// Join adds overrides to a session; q.Name says to which. Only its host can do it (ErrOtherHost), for its owner or an operator.
func (o *Overlay) Join(ctx context.Context, q Request, caller Caller) (session.Session, error) {
	parts, err := o.design(ctx, q)
	if err != nil {
		return session.Session{}, fmt.Errorf("cannot join session %s: %w", q.Name, err)
	}
	o.begin(q.Name)
	defer o.finished(q.Name)
	joined, err := o.update(ctx, q.Name, func(s *session.Session) error {
		if err := allowed(*s, caller); err != nil {
			return err
		}
		if s.Host != o.config.Self {
			return fmt.Errorf("%w: %s", ErrOtherHost, s.Host)
		}
		for _, p := range parts {
			if find(s, p.override.Service) != nil {
				return fmt.Errorf("service %s is overridden already: %w", p.override.Service, session.ErrExists)
			}
		}
		s.Overrides = append(s.Overrides, overrides(parts)...)
		return nil
	})
	if err != nil {
		return session.Session{}, fmt.Errorf("cannot join session %s: %w", q.Name, err)
	}
	made, err := o.make(ctx, joined, parts)
	if err == nil {
		return made, nil
	}
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if undone := o.withdraw(soon, joined, parts); undone != nil {
		o.logger.WarnContext(ctx, "what could not be added to a session is removed with it", "session", q.Name, "err", undone)
	}
	return session.Session{}, fmt.Errorf("cannot join session %s: %w", q.Name, err)
}

func allowed(s session.Session, caller Caller) error {
	if caller.Role.Allows(fabric.RoleOperator) || caller.Name != "" && caller.Name == s.Owner {
		return nil
	}
	return fmt.Errorf("%w: %s (ask its owner or an operator)", ErrNotOwner, s.Owner)
}

func find(s *session.Session, service string) *session.Override {
	for i := range s.Overrides {
		if s.Overrides[i].Service == service {
			return &s.Overrides[i]
		}
	}
	return nil
}

// Delete ends a session for its owner or an operator, on whichever node. ErrNotFound, ErrNotOwner.
func (o *Overlay) Delete(ctx context.Context, name string, caller Caller) error {
	s, _, err := o.read(ctx, name)
	if err == nil {
		err = allowed(s, caller)
	}
	if err == nil {
		err = o.end(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("cannot end session %s: %w", name, err)
	}
	return nil
}

// Get returns a session. ErrNotFound.
func (o *Overlay) Get(ctx context.Context, name string) (session.Session, error) {
	s, _, err := o.read(ctx, name)
	return s, err
}

// Tunnel returns the session that a tunnel's id belongs to, if the caller may connect it here. ErrNotFound, ErrNotOwner, ErrOtherHost.
func (o *Overlay) Tunnel(ctx context.Context, id string, caller Caller) (session.Session, error) {
	all, err := o.List(ctx)
	if err != nil {
		return session.Session{}, err
	}
	for _, s := range all {
		for _, override := range s.Overrides {
			if override.Kind != session.KindTunnel || override.Instance.Tunnel != id || id == "" {
				continue
			}
			switch {
			case s.Ending:
				return session.Session{}, fmt.Errorf("cannot open the tunnel of session %s: %w", s.Name, ErrEnding)
			case s.Host != o.config.Self:
				return session.Session{}, fmt.Errorf("cannot open the tunnel of session %s: %w: %s", s.Name, ErrOtherHost, s.Host)
			}
			return s, allowed(s, caller)
		}
	}
	return session.Session{}, fmt.Errorf("no session has tunnel %.40s (it ended): %w", id, session.ErrNotFound)
}

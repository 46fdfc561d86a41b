// Package agent assembles one node: it opens the parts of every column, gives
// them to each other, serves the node's procedures and runs all of it until it is told
// to stop. Client is the other end: how the command line talks to a node.
//
// This is the only place where the columns meet. It holds no rules of its own: what is
// here is which implementation is used where.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orrery/dashboard"
	"orrery/deploy"
	"orrery/deploy/engine"
	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/embed"
	"orrery/fabric/event"
	"orrery/fabric/rpc"
	"orrery/fabric/shared"
	"orrery/fabric/table"
	"orrery/session"
	"orrery/session/dialer"
	"orrery/session/overlay"
	"orrery/session/router"
	"orrery/session/traffic"
	"orrery/session/tunnel"
	"orrery/state"
)

// Node is one running node.
type Node struct {
	dir      string
	settings Settings
	version  string
	started  time.Time
	log      *slog.Logger
	registry *prometheus.Registry   // what the parts count
	cluster  atomic.Pointer[string] // its name, as the table has it

	// The node's part in the fabric, and what is used of it most.
	base      *embed.Node
	identity  fabric.Identity
	table     *table.Table
	chains    *keeper.Anywhere
	registrar *authority.Registrar
	roll      *authority.Roll
	client    *rpc.Client
	events    *event.Service

	shared    *shared.Table
	local     *local
	engine    *engine.Engine
	router    *router.Router
	tunnels   *tunnel.Tunnels
	overlay   *overlay.Overlay
	dialer    *dialer.Dialer
	dashboard *page
	chronicle *chronicle
}

// RunOptions say how to run a node.
type RunOptions struct {
	Dir     string
	Version string
	Log     io.Writer
	Verbose bool
}

// sentinels are the errors that keep their meaning between nodes.
func sentinels() rpc.Errors {
	return slices.Concat(rpc.FabricErrors(), keeper.Errors(), event.Errors(), ownErrors())
}

// ownErrors are those of the parts that stand on the fabric.
func ownErrors() rpc.Errors {
	return rpc.Errors{
		{Name: "state.not_found", Err: state.ErrNotFound},
		{Name: "state.in_use", Err: state.ErrInUse},
		{Name: "state.corrupt", Err: state.ErrCorrupt},
		{Name: "state.active", Err: state.ErrActive},
		{Name: "state.inactive", Err: state.ErrInactive},
		{Name: "state.not_able", Err: state.ErrNotAble},
		{Name: "state.bad_property", Err: state.ErrBadProperty},
		{Name: "state.no_snapshot", Err: state.ErrNoSnapshot},
		{Name: "state.veto", Err: state.ErrVeto},
		{Name: "state.unreachable", Err: state.ErrUnreachable},
		{Name: "state.key", Err: state.ErrKey},
		{Name: "state.locked", Err: state.ErrLocked},
		{Name: "state.replica", Err: state.ErrReplica},
		{Name: "deploy.busy", Err: deploy.ErrBusy},
		{Name: "deploy.undone", Err: deploy.ErrUndone},
		{Name: "deploy.stuck", Err: deploy.ErrStuck},
		{Name: "deploy.not_found", Err: deploy.ErrNotFound},
		{Name: "session.not_found", Err: session.ErrNotFound},
		{Name: "session.exists", Err: session.ErrExists},
		{Name: "session.bad_name", Err: session.ErrBadName},
	}
}

func newNode(o RunOptions) *Node {
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	return &Node{
		dir: o.Dir, version: o.Version, started: time.Now(), chronicle: newChronicle(), registry: prometheus.NewRegistry(),
		log: slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: level})),
	}
}

// Run runs the node in a folder until ctx ends or a part of it fails.
func Run(ctx context.Context, o RunOptions) error {
	n := newNode(o)
	if err := n.start(ctx); err != nil {
		return err
	}
	n.log.InfoContext(ctx, "node is running", "name", n.identity.Name, "id", n.identity.ID, "address", n.base.Address(), "dashboard", n.dashboard.base)
	select {
	case <-ctx.Done():
	case <-n.base.Done():
	}
	n.log.InfoContext(ctx, "node is stopping")
	return n.base.Close()
}

// start starts the node. Its part of the fabric is a fabric/embed.Node, on which the other parts stand.
func (n *Node) start(ctx context.Context) error {
	if err := loadJSON(filepath.Join(n.dir, settingsFile), &n.settings); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is not a node's folder (make it one with orrery node init or orrery node join)", n.dir)
		}
		return err
	}
	found, remembered, err := n.settings.discoveryOf(n.dir, n.log)
	if err != nil {
		return err
	}
	s := n.settings
	_, err = embed.Assemble(ctx, embed.Config{
		Directory: n.dir, Name: s.Name, Listen: s.Listen, Gossip: s.Gossip, Advertise: s.Advertise, Loopback: s.Loopback,
		Ways: found.Ways, NoBeacon: found.NoBeacon, NoRemembered: !remembered, Zone: s.Zone, Roles: s.Roles, Version: n.version,
		Serve: n.serve, Errors: ownErrors(), Changed: n.chronicle.membership, Registerer: n.registry, Logger: n.log,
		Prepare: n.open, Finish: n.close, Enroll: n.enroll, Own: n.ownBucket,
		Parts: []func(context.Context) error{
			func(ctx context.Context) error { return n.router.Run(ctx) },
			func(ctx context.Context) error { return n.overlay.Run(ctx) },
			func(ctx context.Context) error { return n.dashboard.run(ctx) },
			func(ctx context.Context) error { return n.chronicle.follow(ctx, n.shared) },
			func(ctx context.Context) error { return n.chronicle.followChains(ctx, n.table) },
			n.followName, n.settle,
		},
	})
	return err
}

// open opens the parts that stand on the fabric, each after those that it needs. It sets base, too: Parts run before Assemble returns.
func (n *Node) open(ctx context.Context, base *embed.Node) error {
	n.base, n.identity, n.table, n.chains = base, base.Identity(), base.Table(), base.Chains()
	n.registrar, n.roll, n.client, n.events = base.Registrar(), base.Roll(), base.Client(), base.Events()
	if err := n.openShared(ctx); err != nil {
		return err
	}
	if err := n.answerQueries(); err != nil {
		return err
	}
	containers, err := loadContainers(n.dir)
	if err != nil {
		return err
	}
	if n.local, err = openState(ctx, n.dir, containers, n.resolve, n.log, nil); err != nil {
		return err
	}
	if err := n.openSessions(); err != nil {
		return err
	}
	n.engine = engine.New(engine.Config{
		Table: n.shared, Machines: n, Self: n.identity.ID, Logger: n.log,
		Traffic: traffic.New(traffic.Config{Table: n.shared, Routers: n, Logger: n.log}),
		Out:     func(id fabric.NodeID) bool { return n.roll.Out(id) != nil },
	})
	if n.dashboard, err = openPage(ctx, n.settings.Dashboard, dashboard.Config{Source: n, Logger: n.log}); err != nil {
		return err
	}
	return n.countAll()
}

// openSessions makes the router and what it needs.
func (n *Node) openSessions() error {
	reach := &lateDialer{}
	ports := filepath.Join(n.dir, "router")
	err := os.MkdirAll(ports, 0o700)
	if err != nil {
		return err
	}
	n.router, err = router.New(router.Config{Self: n.identity.ID, Table: n.shared, Dialer: reach, Logger: n.log, Directory: ports})
	if err != nil {
		return err
	}
	n.tunnels = tunnel.NewTunnels(n.router, n.log)
	n.dialer = dialer.New(dialer.Config{Self: n.identity.ID, Tunnels: n.tunnels, Streams: n, Known: n.router.Knows})
	reach.to = n.dialer
	n.overlay, err = overlay.New(overlay.Config{
		Self: n.identity.ID, Table: n.shared, Keepers: n, Services: n, Modules: n, Tunnels: n.tunnels, Alive: n.Nodes, Logger: n.log,
	})
	return err
}

// lateDialer breaks the circle of router, tunnels and dialer.
type lateDialer struct{ to session.Dialer }

func (d *lateDialer) Dial(ctx context.Context, to session.Instance) (net.Conn, error) {
	return d.to.Dial(ctx, to)
}

// close ends these parts in the opposite order; those that were never opened are nil.
func (n *Node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	if n.local != nil && n.local.keeper != nil {
		errs = append(errs, n.local.keeper.Close(ctx), n.local.processes.Close(ctx))
	}
	if n.dashboard != nil {
		errs = append(errs, n.dashboard.close())
	}
	if n.router != nil {
		errs = append(errs, n.router.Close())
	}
	if n.shared != nil {
		errs = append(errs, n.shared.Close())
	}
	return errors.Join(errs...)
}

// page is the dashboard's own listener, on loopback.
type page struct {
	listener net.Listener
	server   *http.Server
	handler  *dashboard.Handler
	address  string
	base     string // http://address
}

func openPage(ctx context.Context, address string, config dashboard.Config) (*page, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the dashboard: %w", err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return nil, errors.Join(fmt.Errorf("the dashboard listens on loopback only, not on %s", address), listener.Close())
	}
	p := &page{listener: listener, handler: dashboard.New(config), address: listener.Addr().String()}
	p.base = "http://" + p.address
	p.server = &http.Server{Handler: p.handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	return p, nil
}

func (p *page) link() string { return p.handler.NewLink(p.base) }

func (p *page) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.close() })
	defer stop()
	if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (p *page) close() error {
	p.handler.Close()
	return errors.Join(p.server.Close(), ignoreClosed(p.listener.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

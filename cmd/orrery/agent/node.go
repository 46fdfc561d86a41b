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
	"golang.org/x/sync/errgroup"

	"orrery/dashboard"
	"orrery/deploy"
	"orrery/deploy/engine"
	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/discovery"
	"orrery/fabric/discovery/roster"
	"orrery/fabric/event"
	"orrery/fabric/membership"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
	"orrery/fabric/shared"
	"orrery/fabric/table"
	"orrery/fabric/table/courier"
	"orrery/internal/folder"
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
	stop     context.CancelCauseFunc
	enrolled chan struct{} // closed when the node is part of the table and has its name
	rolled   chan struct{} // closed when there is a roll
	evicted  chan error    // why the node was put out of the cluster

	authority *authority.Authority
	identity  fabric.Identity
	registrar *authority.Registrar
	roll      *authority.Roll
	client    *rpc.Client
	server    *rpc.Server
	transport *courier.Courier
	table     *table.Table
	members   *membership.Membership
	rotator   *rotation.Rotator
	reach     atomic.Pointer[membership.Membership] // members, for connections that are made before and while they start
	discovery *discovery.Service
	addresses *roster.Book

	chains    *chains
	shared    *shared.Table
	events    *event.Service
	local     *local
	engine    *engine.Engine
	router    *router.Router
	tunnels   *tunnel.Tunnels
	overlay   *overlay.Overlay
	dialer    *dialer.Dialer
	dashboard *page
	chronicle *chronicle
	registry  *prometheus.Registry   // what the parts count
	cluster   atomic.Pointer[string] // its name, as the table has it
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
	return append(slices.Concat(rpc.FabricErrors(), keeper.Errors(), event.Errors()),
		rpc.Sentinel{Name: "state.not_found", Err: state.ErrNotFound}, rpc.Sentinel{Name: "state.in_use", Err: state.ErrInUse},
		rpc.Sentinel{Name: "state.corrupt", Err: state.ErrCorrupt}, rpc.Sentinel{Name: "state.active", Err: state.ErrActive},
		rpc.Sentinel{Name: "state.inactive", Err: state.ErrInactive}, rpc.Sentinel{Name: "state.not_able", Err: state.ErrNotAble},
		rpc.Sentinel{Name: "state.bad_property", Err: state.ErrBadProperty}, rpc.Sentinel{Name: "state.no_snapshot", Err: state.ErrNoSnapshot},
		rpc.Sentinel{Name: "state.veto", Err: state.ErrVeto}, rpc.Sentinel{Name: "state.unreachable", Err: state.ErrUnreachable},
		rpc.Sentinel{Name: "state.key", Err: state.ErrKey}, rpc.Sentinel{Name: "state.locked", Err: state.ErrLocked},
		rpc.Sentinel{Name: "state.replica", Err: state.ErrReplica},
		rpc.Sentinel{Name: "deploy.busy", Err: deploy.ErrBusy}, rpc.Sentinel{Name: "deploy.undone", Err: deploy.ErrUndone},
		rpc.Sentinel{Name: "deploy.stuck", Err: deploy.ErrStuck}, rpc.Sentinel{Name: "deploy.not_found", Err: deploy.ErrNotFound},
		rpc.Sentinel{Name: "session.not_found", Err: session.ErrNotFound}, rpc.Sentinel{Name: "session.exists", Err: session.ErrExists},
		rpc.Sentinel{Name: "session.bad_name", Err: session.ErrBadName},
	)
}

func newNode(o RunOptions) *Node {
	level := slog.LevelInfo
	if o.Verbose {
		level = slog.LevelDebug
	}
	return &Node{
		dir: o.Dir, version: o.Version, started: time.Now(), chronicle: newChronicle(), registry: prometheus.NewRegistry(),
		log:      slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: level})),
		enrolled: make(chan struct{}), rolled: make(chan struct{}), evicted: make(chan error, 1),
	}
}

// Run runs the node in a folder until ctx ends or a part of it fails.
func Run(ctx context.Context, o RunOptions) error {
	n := newNode(o)
	if err := loadJSON(filepath.Join(o.Dir, settingsFile), &n.settings); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is not a node's folder (make it one with orrery node init or orrery node join)", o.Dir)
		}
		return err
	}
	unlock, err := folder.Lock(o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, n.stop = context.WithCancelCause(ctx)
	defer n.stop(nil)
	parts, ctx := errgroup.WithContext(ctx)
	if err := n.open(ctx, parts); err != nil {
		n.stop(err)
		return errors.Join(fmt.Errorf("cannot start the node in %s: %w", o.Dir, err), n.close())
	}
	n.log.InfoContext(ctx, "node is running", "name", n.identity.Name, "id", n.identity.ID, "address", n.server.Addr(), "dashboard", n.dashboard.base)
	err = parts.Wait()
	n.log.InfoContext(ctx, "node is stopping")
	return errors.Join(err, n.close())
}

// open brings the parts up, each after those that it needs.
func (n *Node) open(ctx context.Context, parts *errgroup.Group) error {
	var err error
	if n.authority, err = authority.Open(filepath.Join(n.dir, "identity")); err != nil {
		return err
	}
	n.identity = n.authority.Identity()
	n.addresses = roster.Load(filepath.Join(n.dir, addressesFile))
	n.client = rpc.NewClient(rpc.ClientConfig{Authority: n.authority, Lookup: n.lookup, Admit: n.admit, Errors: sentinels(), Logger: n.log})
	n.transport = courier.New(ctx, n.client)
	n.table, err = table.Open(table.Config{
		Self: n.identity.ID, Directory: filepath.Join(n.dir, "table"), Transport: n.transport, Tick: 50 * time.Millisecond, Logger: n.log,
	})
	if err != nil {
		return err
	}
	if n.registrar, err = authority.NewRegistrar(n.authority, n.table); err != nil {
		return err
	}
	if err := n.openRoll(ctx); err != nil {
		return err
	}
	if err := n.openChains(); err != nil {
		return err
	}
	if err := n.openShared(ctx); err != nil {
		return err
	}
	if err := n.openEvents(); err != nil {
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
	if err := n.openNetwork(ctx); err != nil {
		return err
	}
	n.run(ctx, parts)
	return nil
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

// openNetwork opens the listeners and joins the gossip.
func (n *Node) openNetwork(ctx context.Context) error {
	mux := rpc.NewMux(sentinels(), n.log)
	n.serve(mux)
	n.chains.serve(mux)
	event.Offer(mux, n.events)
	rpc.HandleJoin(mux, n.registrar, func() []fabric.Beacon { return n.members.Beacons() })
	mux.HandleStream(courier.Kind, fabric.RoleNode, courier.Receiver(n.table))
	mux.HandleStream(streamExport, fabric.RoleNode, n.serveExport)
	mux.HandleStream(streamTake, fabric.RoleOperator, n.serveTake)
	mux.HandleStream(streamGive, fabric.RoleOperator, n.serveGive)
	mux.HandleStream(streamArtifact, fabric.RoleDeveloper, n.receiveArtifact)
	mux.HandleStream(streamInstance, fabric.RoleNode, n.serveInstance)
	mux.HandleStream(streamTunnel, fabric.RoleDeveloper, n.serveTunnel)
	refused, err := n.openMetrics(mux)
	if err != nil {
		return err
	}
	n.server, err = rpc.Listen(ctx, rpc.Config{
		Authority: n.authority, Listen: n.settings.Listen, Unix: filepath.Join(n.dir, socketFile), Admit: n.admit, Refused: refused.count, Logger: n.log,
	}, mux)
	if err != nil {
		return err
	}
	if n.dashboard, err = openPage(ctx, n.settings.Dashboard, dashboard.Config{Source: n, Logger: n.log}); err != nil {
		return err
	}
	profile := membership.LAN
	if n.settings.Loopback {
		profile = membership.Local
	}
	n.members, err = membership.Start(ctx, membership.Config{
		Identity: n.identity, Version: n.version, Zone: n.settings.Zone, Roles: n.settings.Roles, RPC: n.address(), Bind: n.settings.Gossip, Keys: n.authority.GossipKeys(),
		Refused: func(id fabric.NodeID) bool { return n.roll.Out(id) != nil },
		Profile: profile, Changed: n.chronicle.membership, Event: n.heard, Garbage: refused.gossip.Inc, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.reach.Store(n.members)
	if err := n.countAll(); err != nil {
		return err
	}
	n.openRotation()
	return n.openDiscovery()
}

// address is where others reach this node.
func (n *Node) address() string { return n.settings.reachable(n.server.Addr()) }

// beacon is what this node announces.
func (n *Node) beacon() fabric.Beacon {
	return fabric.Beacon{
		Cluster: n.identity.Cluster, ID: n.identity.ID, Name: n.identity.Name,
		RPC: n.address(), Gossip: n.settings.reachable(n.members.Gossip()),
	}
}

// run starts the parts that run until ctx ends.
func (n *Node) run(ctx context.Context, parts *errgroup.Group) {
	parts.Go(func() error { return n.server.Run(ctx) })
	n.runRoll(ctx, parts)
	parts.Go(func() error { return ignoreEnd(ctx, n.rotator.Run(ctx)) })
	parts.Go(func() error { return n.discovery.Run(ctx) })
	n.chains.run(ctx, parts)
	parts.Go(func() error { return ignoreEnd(ctx, n.events.Run(ctx)) })
	parts.Go(func() error { return n.router.Run(ctx) })
	parts.Go(func() error { return n.overlay.Run(ctx) })
	parts.Go(func() error { return n.dashboard.run(ctx) })
	parts.Go(func() error { return ignoreEnd(ctx, n.chronicle.follow(ctx, n.shared)) })
	parts.Go(func() error { return ignoreEnd(ctx, n.chronicle.followChains(ctx, n.table)) })
	parts.Go(func() error { return ignoreEnd(ctx, n.followName(ctx)) })
	parts.Go(func() error { return ignoreEnd(ctx, n.settle(ctx)) })
	parts.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-n.table.Done():
			return n.table.Err()
		}
	})
}

// ignoreEnd drops the error of what ended because the node is stopping.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // see above
	}
	return err
}

// close ends the parts in the opposite order; those that were never opened are nil.
func (n *Node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs []error
	if n.local != nil && n.local.keeper != nil {
		errs = append(errs, n.local.keeper.Close(ctx), n.local.processes.Close(ctx))
	}
	if n.members != nil {
		errs = append(errs, n.members.Close())
	}
	if n.dashboard != nil {
		errs = append(errs, n.dashboard.close())
	}
	if n.router != nil {
		errs = append(errs, n.router.Close())
	}
	if n.events != nil {
		errs = append(errs, n.events.Close())
	}
	if n.shared != nil {
		errs = append(errs, n.shared.Close())
	}
	if n.chains != nil {
		errs = append(errs, n.chains.replicas.Close())
	}
	if n.server != nil {
		errs = append(errs, n.server.Close())
	}
	if n.client != nil {
		n.client.Close()
	}
	if n.table != nil {
		errs = append(errs, n.table.Close())
	}
	if n.transport != nil {
		n.transport.Wait()
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

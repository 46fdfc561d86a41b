// Package embed makes a program a node of a cluster of such programs: discovery, membership, events and replicated keys, assembled in one
// process, with no server beside it. It is what other Go programs import; the packages that it assembles can be had from its Node.
//
// Create makes a cluster of which this process is the first node, Join makes it a node of one that exists, with a token of Node.Token, and Open starts a node that one
// of them has made. All that lasts is in Config.Directory, which also is the node's identity: a copy of it must never run beside it. A directory belongs to one process at a time.
//
// What a Node offers works from any node: Members (a hint of who is there), Events, Bucket and Keys (strongly consistent keys and values on several nodes, see fabric/client), Table (a few
// small keys on all nodes) and Peer (procedures of the program's own, over mutual TLS). One, three or five nodes vote on the table and on where replicas are; the cluster works while a majority of
// those is there. fabric/lock has locks and elections over a Bucket.
//
// The command line works with an embedded node, too, while it runs: orrery --dir DIRECTORY members, kv, event, node token. Nodes of orrery node run, which also
// deploy services, and embedded nodes are not to be mixed in a cluster.
//
// A Node owns its sockets, its goroutines and its directory; Close ends them and waits.
package embed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/discovery"
	"orrery/fabric/discovery/mdns"
	"orrery/fabric/discovery/roster"
	"orrery/fabric/membership"
	"orrery/fabric/rpc"
	"orrery/fabric/table"
	"orrery/internal/hostport"
)

// Config is what a node needs. Only Directory has to be given.
type Config struct {
	// Directory is where all that lasts is kept; it is made.
	Directory string
	// Name is the node's name in the cluster, where it is the only one of that name; empty: the machine's. It cannot be changed.
	Name string
	// Listen is where other nodes and clients reach this one, over TCP; empty: ":7373". Gossip is where the membership does, over TCP and UDP; empty: ":7374". Port 0
	// chooses a free one when the node is made, which it keeps.
	Listen, Gossip string
	// Advertise is the host at which others reach this machine, where Listen and Gossip name none; empty: its first address.
	Advertise string
	// Loopback keeps everything on this machine.
	Loopback bool
	// Seeds are addresses, host:port, at which other nodes listen. Join asks them; later they are a way to be found.
	Seeds []string
	// Ways are the ways to find other nodes besides Seeds, the beacon, and those that were known before; nil: multicast DNS, or nothing with Loopback.
	Ways []discovery.Way
	// NoBeacon switches the beacon off, and NoRemembered what is known from before.
	NoBeacon, NoRemembered bool
	// Zone says which machines may fail together: replicas are spread over zones. Roles are free words for what the node is for. Version is the program's.
	Zone    string
	Roles   []string
	Version string
	// Serve registers procedures of the program's own, which other nodes reach by Node.Peer.
	Serve func(*rpc.Mux)
	// Errors are errors of the program's own that keep their meaning between nodes.
	Errors rpc.Errors
	// Changed is told all members whenever one changed; nil: nobody. It must not wait, and not call Close.
	Changed    func([]fabric.Member)
	Registerer prometheus.Registerer // of metrics; nil: none
	Logger     *slog.Logger          // nil: discard

	// What follows is for programs that build more on a node's parts.

	// Prepare opens the program's own parts: the node's are open, and nobody can reach it yet. ctx ends with the node.
	Prepare func(ctx context.Context, n *Node) error
	// Parts run until the node ends. One that fails ends it.
	Parts []func(ctx context.Context) error
	// Finish closes what Prepare has opened, also if that failed: nothing runs any more, and the node's parts are still open.
	Finish func() error
	// Enroll asks another node, by a procedure of the program's own, to take this one into the table (Table.Add) at an address; nil: by the node's.
	Enroll func(ctx context.Context, to *rpc.Peer, address string) error
	// Own says why people can neither create nor delete a bucket; nil: they can all.
	Own func(ctx context.Context, bucket string, deleted bool) error
}

// kept is what a node keeps of its Config. The names are those of cmd/orrery's settings.
type kept struct {
	Name      string `json:"name"`
	Listen    string `json:"listen"`
	Gossip    string `json:"gossip"`
	Advertise string `json:"advertise"`
	Loopback  bool   `json:"loopback"`
	Embedded  bool   `json:"embedded"`
}

const (
	settingsFile = "node.json"
	socketFile   = "node.sock"
	seenFile     = "addresses.json"
)

func (c Config) identity() string { return filepath.Join(c.Directory, "identity") }

func (c Config) reachable(listen string) string { return hostport.Reachable(listen, c.Advertise) }

func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = ":7373"
	}
	if c.Gossip == "" {
		c.Gossip = ":7374"
	}
	if c.Ways == nil && !c.Loopback {
		c.Ways = []discovery.Way{&mdns.Way{Logger: c.Logger}}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// discovery is how this node finds others.
func (c Config) discovery() discovery.Config {
	d := discovery.Config{Loopback: c.Loopback, NoBeacon: c.NoBeacon, Ways: c.Ways, Logger: c.Logger}
	if len(c.Seeds) > 0 {
		d.Ways = append(slices.Clip(d.Ways), &roster.Seeds{Addresses: c.Seeds})
	}
	return d
}

// ErrExists says that the directory is a node's already.
var ErrExists = errors.New("it is a node's already: open it")

// settle fills in, for a node that is about to be made, what is left open.
func (c Config) settle(ctx context.Context) (Config, error) {
	c = c.withDefaults()
	if _, err := os.Stat(filepath.Join(c.Directory, settingsFile)); !errors.Is(err, fs.ErrNotExist) {
		return c, errors.Join(ErrExists, err)
	}
	if err := os.MkdirAll(c.Directory, 0o700); err != nil {
		return c, err
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, err
		}
		c.Name, _, _ = strings.Cut(strings.ToLower(host), ".")
	}
	if !authority.ValidName(c.Name) {
		return c, fmt.Errorf("name %q: %w", c.Name, authority.ErrBadName)
	}
	if c.Loopback {
		c.Listen, c.Gossip = hostport.OnLoopback(c.Listen), hostport.OnLoopback(c.Gossip)
	}
	if err := hostport.Choose(ctx, []*string{&c.Listen, &c.Gossip}); err != nil {
		return c, err
	}
	if c.Advertise == "" {
		c.Advertise = hostport.Own(c.Loopback)
	}
	return c, membership.CheckMeta(c.Name, c.reachable(c.Listen), c.Zone, c.Roles)
}

// keep writes down what another start needs. With that the directory is a node's.
func (c Config) keep() error {
	content, err := json.MarshalIndent(kept{Name: c.Name, Listen: c.Listen, Gossip: c.Gossip, Advertise: c.Advertise, Loopback: c.Loopback, Embedded: true}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(c.Directory, settingsFile)
	if err := os.WriteFile(path+".new", append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// recall puts what was kept where the config leaves it open.
func (c Config) recall() (Config, error) {
	content, err := os.ReadFile(filepath.Join(c.Directory, settingsFile))
	if err != nil {
		return c, fmt.Errorf("it is no node's (Create or Join makes it one): %w", err)
	}
	var k kept
	if err := json.Unmarshal(content, &k); err != nil {
		return c, err
	}
	if !k.Embedded {
		return c, errors.New("it is of orrery node run")
	}
	c.Name, c.Loopback = k.Name, k.Loopback
	for _, one := range []struct {
		given *string
		kept  string
	}{{&c.Listen, k.Listen}, {&c.Gossip, k.Gossip}, {&c.Advertise, k.Advertise}} {
		if *one.given == "" {
			*one.given = one.kept
		}
		if strings.HasSuffix(*one.given, ":0") { // the port was chosen when the node was made
			*one.given = one.kept
		}
	}
	return c.withDefaults(), nil
}

// Create makes a cluster, with this process as its first node, and starts the node. It returns when the node can be used.
func Create(ctx context.Context, c Config) (*Node, error) {
	c, err := c.settle(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot create a cluster in %s: %w", c.Directory, err)
	}
	a, err := authority.Create(c.identity(), c.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot create a cluster in %s: %w", c.Directory, err)
	}
	err = table.Create(table.Config{Self: a.Identity().ID, Directory: filepath.Join(c.Directory, "table")}, c.reachable(c.Listen))
	if err == nil {
		err = c.keep()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot create a cluster in %s: %w", c.Directory, err), authority.Remove(c.identity()))
	}
	return openReady(ctx, c)
}

// Join makes this process a node of the cluster that a token is of, and starts the node. Where c.Seeds is empty the cluster is looked for on the network. It returns
// when the node can be used.
func Join(ctx context.Context, c Config, token string) (*Node, error) {
	t, err := authority.ParseToken(token)
	if err != nil {
		return nil, err
	}
	if t.Role != fabric.RoleNode {
		return nil, fmt.Errorf("the token is for a %s, not for a node", t.Role)
	}
	if c, err = c.settle(ctx); err != nil {
		return nil, fmt.Errorf("cannot join with %s: %w", c.Directory, err)
	}
	candidate, err := authority.NewCandidate(c.identity(), c.Name, t)
	if err != nil {
		return nil, fmt.Errorf("cannot join with %s: %w", c.Directory, err)
	}
	_, peers, _, err := Redeem(ctx, candidate, c.Seeds, c.discovery(), c.sentinels())
	if err != nil {
		return nil, fmt.Errorf("cannot join (addresses of nodes can be given as Seeds): %w", err)
	}
	book := roster.Load(filepath.Join(c.Directory, seenFile))
	for _, b := range peers {
		book.Add(b)
	}
	if err := errors.Join(book.Save(), c.keep()); err != nil {
		return nil, fmt.Errorf("cannot join with %s: %w", c.Directory, err)
	}
	return openReady(ctx, c)
}

// Open starts the node in c.Directory. What c leaves open is as it was when the node was made. It returns when the node runs; Ready waits until it can be used, for which a majority of the
// voting nodes has to be there. ctx governs the start only.
func Open(ctx context.Context, c Config) (*Node, error) {
	c, err := c.recall()
	if err != nil {
		return nil, fmt.Errorf("cannot open the node in %s: %w", c.Directory, err)
	}
	return open(ctx, c)
}

// Assemble starts a node whose settings are the program's to keep: c has all of them, and an identity and, for the first node, a table have been made in its directory.
func Assemble(ctx context.Context, c Config) (*Node, error) { return open(ctx, c) }

func openReady(ctx context.Context, c Config) (*Node, error) {
	n, err := open(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := n.Ready(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"syscall"
	"time"

	"orrery/bench/internal/server"
	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/node"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
	"orrery/fabric/client"
	"orrery/fabric/rpc"
	"orrery/fabric/table/memory"
)

const (
	serveArgument = "serve" // what this program is called with to be one of the nodes
	bucket        = "bench"
)

// setup is what the nodes are told: one chain with a fixed place on all of them, and leases without a keeper. What a keeper costs is a message a second.
type setup struct {
	Map     chain.Map `json:"map"`
	Plain   bool      `json:"plain"`
	Profile string    `json:"profile"`
}

// chains are nodes of ours, each a process with a folder of its own.
type chains struct {
	plain     bool // only tails answer reads
	processes []*server.Process
	addresses []string
	holder    *authority.Authority
	lift      []func() error // of quotas
}

// startChains starts a chain of so many replicas; in a plain one only the tail answers reads.
func startChains(ctx context.Context, dir string, o options, replicas int, plain bool) (store, error) {
	s := &chains{plain: plain}
	dir = filepath.Join(dir, fmt.Sprintf("chains-%d-%v", replicas, plain))
	ids, err := s.admit(ctx, dir, replicas)
	if err != nil {
		return nil, err
	}
	whole := chain.Config{ID: 1, Bucket: bucket, Epoch: 1, Unsynced: o.durability == "replicated"}
	known := setup{Map: chain.Map{Revision: 1, Nodes: map[fabric.NodeID]string{}}, Plain: plain, Profile: o.profile}
	if len(ids) != o.replicas || plain {
		known.Profile = "" // that of the others
	}
	for _, id := range ids {
		port, err := server.FreePort()
		if err != nil {
			return nil, err
		}
		address := fmt.Sprint("127.0.0.1:", port)
		s.addresses = append(s.addresses, address)
		known.Map.Nodes[id] = address
		whole.Members = append(whole.Members, chain.Member{Replica: chain.Replica{Node: id, Incarnation: 1}, State: chain.Serving})
	}
	known.Map.Chains, known.Map.Settled = []chain.Config{whole}, []chain.ID{whole.ID}
	encoded, err := json.Marshal(known)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "setup.json"), encoded, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for i := range ids {
		p, err := server.Start(exec.Command(self, serveArgument, dir, strconv.Itoa(i)), filepath.Join(dir, fmt.Sprint("node-", i, ".log"))) //nolint:gosec,noctx // this program; ended by stop
		if err != nil {
			return nil, errors.Join(err, s.stop())
		}
		s.processes = append(s.processes, p)
		if o.quota > 0 {
			lift, err := limit(p.PID(), o.quota)
			if err != nil {
				return nil, errors.Join(err, s.stop())
			}
			s.lift = append(s.lift, lift)
		}
	}
	return s, s.ready(ctx)
}

// admit makes a cluster of nodes and a holder for the clients.
func (s *chains) admit(ctx context.Context, dir string, nodes int) ([]fabric.NodeID, error) {
	first, err := authority.Create(nodeFolder(dir, 0), "node-0")
	if err != nil {
		return nil, err
	}
	registrar, err := authority.NewRegistrar(first, memory.New())
	if err != nil {
		return nil, err
	}
	ids := []fabric.NodeID{first.Identity().ID}
	for i := 1; i < nodes; i++ {
		a, err := join(ctx, registrar, nodeFolder(dir, i), fmt.Sprint("node-", i), fabric.RoleNode)
		if err != nil {
			return nil, err
		}
		ids = append(ids, a.Identity().ID)
	}
	s.holder, err = join(ctx, registrar, filepath.Join(dir, "client"), "client", fabric.RoleOperator)
	return ids, err
}

func join(ctx context.Context, r *authority.Registrar, dir, name string, role fabric.Role) (*authority.Authority, error) {
	token, err := r.Issue(ctx, role, 0)
	if err != nil {
		return nil, err
	}
	candidate, err := authority.NewCandidate(dir, name, token)
	if err != nil {
		return nil, err
	}
	q, err := candidate.Request()
	if err != nil {
		return nil, err
	}
	answer, err := r.Admit(ctx, q)
	if err != nil {
		return nil, err
	}
	return candidate.Accept(answer)
}

func nodeFolder(dir string, i int) string { return filepath.Join(dir, fmt.Sprint("node-", i)) }

// ready waits until a write is acknowledged.
func (s *chains) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := s.client(ctx)
	if err != nil {
		return errors.Join(err, s.stop())
	}
	defer func() { _ = c.Close() }()
	if err := c.Put(ctx, "ready", []byte("yes")); err != nil {
		return errors.Join(err, s.stop())
	}
	return nil
}

func (s *chains) stop() error {
	var errs []error
	for _, p := range s.processes {
		errs = append(errs, p.Stop(os.Interrupt))
	}
	for _, lift := range s.lift {
		errs = append(errs, lift())
	}
	return errors.Join(errs...)
}

func (s *chains) servers() []*server.Process { return s.processes }

func (s *chains) client(ctx context.Context) (kv, error) {
	c, err := client.Open(ctx, client.Config{Nodes: s.addresses, Authority: s.holder, PlainReads: s.plain})
	if err != nil {
		return nil, err
	}
	return chainClient{c, c.Bucket(bucket)}, nil
}

type chainClient struct {
	client *client.Client
	bucket *client.Bucket
}

func (c chainClient) Get(ctx context.Context, key string) error {
	_, err := c.bucket.Get(ctx, []byte(key))
	if errors.Is(err, fabric.ErrNotFound) {
		err = errMissing
	}
	return err
}

func (c chainClient) Put(ctx context.Context, key string, value []byte) error {
	_, err := c.bucket.Put(ctx, []byte(key), value)
	return err
}

func (c chainClient) Scan(ctx context.Context, from string, limit int) error {
	_, _, _, err := c.bucket.Page(ctx, chain.Range{Start: []byte(from)}, limit)
	return err
}

func (c chainClient) Close() error { return c.client.Close() }

// serve is one of the nodes.
func serve(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir := args[0]
	i, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	encoded, err := os.ReadFile(filepath.Join(dir, "setup.json"))
	if err != nil {
		return err
	}
	var known setup
	if err := json.Unmarshal(encoded, &known); err != nil {
		return err
	}
	if known.Profile != "" {
		f, err := os.Create(fmt.Sprint(known.Profile, ".", i))
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return serveNode(ctx, nodeFolder(dir, i), known)
}

func serveNode(ctx context.Context, dir string, known setup) error {
	holder, err := authority.Open(dir)
	if err != nil {
		return err
	}
	self := holder.Identity().ID
	database, err := disk.Open(disk.Config{Directory: filepath.Join(dir, "chains")})
	if err != nil {
		return err
	}
	n, err := node.Open(node.Config{
		Self: chain.Replica{Node: self, Incarnation: 1}, Disk: database, PlainReads: known.Plain,
		Dial: func(ctx context.Context, id fabric.NodeID) (net.Conn, error) {
			return rpc.DialNode(ctx, holder, known.Map.Nodes[id], id, wire.Protocol)
		},
	})
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	mux := rpc.NewMux(rpc.FabricErrors(), nil)
	mux.HandleConn(wire.Protocol, fabric.RoleViewer, n.Serve, n.Refused)
	server, err := rpc.Listen(ctx, rpc.Config{Authority: holder, Listen: known.Map.Nodes[self], MaxConnections: 4096}, mux)
	if err != nil {
		return err
	}
	if err := n.SetMap(known.Map); err != nil {
		return err
	}
	go func() {
		for ctx.Err() == nil {
			n.Lease(1, replica.Lease{Sent: n.Now(), Until: n.Now() + 10*time.Second})
			time.Sleep(time.Second)
		}
	}()
	return server.Run(ctx)
}

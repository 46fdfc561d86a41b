package rpc_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/discovery"
	"orrery/fabric/membership"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// agent is what a node runs, assembled as cmd does it.
type agent struct {
	members *membership.Membership
	client  *rpc.Client
	socket  string
}

func run(t *testing.T, a *authority.Authority, table fabric.Table, seeds []fabric.Beacon, port int) *agent {
	t.Helper()
	n := &agent{socket: filepath.Join(shortDir(t), "node.sock")}
	registrar, err := authority.NewRegistrar(a, table)
	if err != nil {
		t.Fatal(err)
	}
	mux := rpc.NewMux(known(), nil)
	register(mux)
	rpc.HandleJoin(mux, registrar, func() []fabric.Beacon { return n.members.Beacons() })
	mux.HandleStream("name", fabric.RoleViewer, func(_ context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
		c, err := accept()
		if err != nil {
			return err
		}
		_, err = c.Write([]byte(a.Identity().Name))
		return err
	})
	server, err := rpc.Listen(t.Context(), rpc.Config{Authority: a, Listen: "127.0.0.1:0", Unix: n.socket}, mux)
	if err != nil {
		t.Fatal(err)
	}
	n.members, err = membership.Start(t.Context(), membership.Config{
		Identity: a.Identity(), Version: "test", RPC: server.Addr(), Bind: "127.0.0.1:0", Keys: a.GossipKeys(), Profile: membership.Local,
	})
	if err != nil {
		t.Fatal(err)
	}
	own := fabric.Beacon{Cluster: a.Identity().Cluster, ID: a.Identity().ID, Name: a.Identity().Name, RPC: server.Addr(), Gossip: n.members.Gossip()}
	finder, err := discovery.New(discovery.Config{Loopback: true, Port: port, Seeds: seeds}, own, n.members.Found)
	if err != nil {
		t.Fatal(err)
	}
	n.client = rpc.NewClient(rpc.ClientConfig{Authority: a, Lookup: n.members.Lookup, Errors: known()})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 2)
	go func() { ended <- server.Run(ctx) }()
	go func() { ended <- finder.Run(ctx) }()
	t.Cleanup(func() {
		n.client.Close()
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := n.members.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// shortDir is a folder with a short name: a socket's path has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rpc") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestAssembly starts a cluster of three as a person would: one is created, the others join by nothing but a
// token each, all find each other, and call each other.
func TestAssembly(t *testing.T) {
	first, err := authority.Create(t.TempDir(), "alpha")
	if err != nil {
		t.Fatal(err)
	}
	table, port := &authoritytest.Table{}, testenv.FreePort(t)
	agents := []*agent{run(t, first, table, nil, port)}
	registrar, err := authority.NewRegistrar(first, table)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"beta", "gamma"} {
		token, err := registrar.Issue(t.Context(), fabric.RoleNode, 0)
		if err != nil {
			t.Fatal(err)
		}
		a, peers := joinByToken(t, token.Encode(), name, port)
		agents = append(agents, run(t, a, table, peers, port))
	}
	for _, n := range agents {
		for len(n.members.Beacons()) < 3 {
			select {
			case <-t.Context().Done():
				t.Fatal("not three members")
			case <-time.After(10 * time.Millisecond):
			}
		}
		for _, m := range n.members.Members() {
			if _, err := rpc.Call[text, text](t.Context(), n.client.Node(m.ID), procEcho, &text{"hi"}); err != nil {
				t.Error(err)
			}
			s, err := n.client.Stream(t.Context(), m.ID, "name", nil)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 10)
			if k, err := s.Read(b); err != nil || string(b[:k]) != m.Name {
				t.Errorf("%s answered %q, %v", m.Name, b[:k], err)
			}
			_ = s.Close()
		}
	}
}

func joinByToken(t *testing.T, pasted, name string, port int) (*authority.Authority, []fabric.Beacon) {
	t.Helper()
	token, err := authority.ParseToken(pasted)
	if err != nil {
		t.Fatal(err)
	}
	candidate, err := authority.NewCandidate(t.TempDir(), name, token)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b, err := discovery.Find(ctx, discovery.Config{Loopback: true, Port: port}, token.Cluster())
	if err != nil {
		t.Fatal(err)
	}
	a, peers, err := rpc.Join(ctx, candidate, []string{b.RPC}, known())
	if err != nil {
		t.Fatal(err)
	}
	return a, peers
}

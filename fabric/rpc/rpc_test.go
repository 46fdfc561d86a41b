package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errOdd = errors.New("odd")

func known() rpc.Errors {
	return append(rpc.FabricErrors(), rpc.Sentinel{Name: "test.odd", Err: errOdd})
}

type text struct {
	Value string `json:"value"`
}

const (
	procEcho  = "/orrery.test.v1.Test/Echo"
	procWho   = "/orrery.test.v1.Test/Who"
	procFail  = "/orrery.test.v1.Test/Fail"
	procCount = "/orrery.test.v1.Test/Count"
	procPanic = "/orrery.test.v1.Test/Panic"
	procHang  = "/orrery.test.v1.Test/Hang"
	procNodes = "/orrery.test.v1.Test/Nodes"

	procNodesCount = "/orrery.test.v1.Test/NodesCount"
)

// node is a running server.
type node struct {
	authority *authority.Authority
	server    *rpc.Server
	socket    string
	stop      func()
}

func serve(t *testing.T, a *authority.Authority, more func(*rpc.Mux)) *node {
	t.Helper()
	return serveWith(t, rpc.Config{Authority: a, Listen: "127.0.0.1:0"}, more)
}

func serveWith(t *testing.T, config rpc.Config, more func(*rpc.Mux)) *node {
	t.Helper()
	mux := rpc.NewMux(known(), nil)
	register(mux)
	if more != nil {
		more(mux)
	}
	dir := shortDir(t)
	socket := filepath.Join(dir, "node.sock")
	config.Unix = socket
	s, err := rpc.Listen(t.Context(), config, mux)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("run: %v", err)
			}
			if err := os.Remove(dir); err != nil {
				t.Errorf("the socket stays: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return &node{config.Authority, s, socket, stop}
}

func register(mux *rpc.Mux) {
	rpc.Unary(mux, procEcho, fabric.RoleViewer, func(_ context.Context, q *text) (*text, error) { return q, nil })
	rpc.Unary(mux, procWho, fabric.RoleDeveloper, func(ctx context.Context, _ *struct{}) (*fabric.Identity, error) {
		id, ok := rpc.Caller(ctx)
		if !ok {
			return nil, errors.New("nobody calls")
		}
		return &id, nil
	})
	rpc.Unary(mux, procFail, fabric.RoleViewer, func(_ context.Context, q *text) (*text, error) {
		switch q.Value {
		case "odd":
			return nil, fmt.Errorf("cannot even: %w", errOdd)
		case "two":
			return nil, errors.Join(fabric.ErrConflict, fabric.ErrNoQuorum)
		}
		return nil, errors.New(q.Value)
	})
	rpc.Unary(mux, procPanic, fabric.RoleViewer, func(context.Context, *text) (*text, error) { panic("oh") })
	rpc.Unary(mux, procHang, fabric.RoleViewer, func(ctx context.Context, _ *text) (*text, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	rpc.ServerStream(mux, procCount, fabric.RoleViewer, func(ctx context.Context, q *text, send func(*text) error) error {
		for i := range 5 {
			if err := send(&text{fmt.Sprint(q.Value, i)}); err != nil {
				return err
			}
		}
		if q.Value == "hang" {
			<-ctx.Done()
			return ctx.Err()
		}
		return fabric.ErrNotFound
	})
	mux.HandleStream("echo", fabric.RoleDeveloper, func(_ context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
		c, err := accept()
		if err != nil {
			return err
		}
		_, err = io.Copy(c, c)
		return err
	})
	mux.HandleStream("nodes", fabric.RoleNode, func(_ context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
		_, err := accept()
		return err
	})
	rpc.Unary(mux, procNodes, fabric.RoleNode, func(context.Context, *text) (*text, error) { return &text{"secret"}, nil })
	rpc.ServerStream(mux, procNodesCount, fabric.RoleNode, func(_ context.Context, _ *text, send func(*text) error) error {
		return send(&text{"secret"})
	})
	mux.HandleStream("refuse", fabric.RoleDeveloper, func(_ context.Context, _ fabric.Identity, h json.RawMessage, _ func() (net.Conn, error)) error {
		return fmt.Errorf("cannot serve %s: %w", h, errOdd)
	})
	mux.HandleStream("panic", fabric.RoleDeveloper, func(context.Context, fabric.Identity, json.RawMessage, func() (net.Conn, error)) error {
		panic("oh")
	})
}

func client(t *testing.T, a *authority.Authority, nodes ...*node) *rpc.Client {
	t.Helper()
	c := rpc.NewClient(rpc.ClientConfig{Authority: a, Errors: known(), Lookup: func(_ context.Context, id fabric.NodeID) (string, error) {
		for _, n := range nodes {
			if n.authority.Identity().ID == id {
				return n.server.Addr(), nil
			}
		}
		return "", fabric.ErrNotFound
	}})
	t.Cleanup(c.Close)
	return c
}

func TestCall(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	beta := cluster.Admit(t, "beta", fabric.RoleNode)
	id := cluster.First.Identity().ID
	c := client(t, beta, alpha)
	socket := rpc.Unix(alpha.socket, known())
	t.Cleanup(socket.Close)
	for _, p := range []*rpc.Peer{c.Node(id), c.Address(alpha.server.Addr()), socket} {
		if a, err := rpc.Call[text, text](t.Context(), p, procEcho, &text{"hello"}); err != nil || a.Value != "hello" {
			t.Errorf("%s: %v", p, err)
		}
		_, err := rpc.Call[text, text](t.Context(), p, procFail, &text{"odd"})
		if !errors.Is(err, errOdd) || err.Error() != "cannot even: odd" {
			t.Errorf("%s: %v", p, err)
		}
		_, err = rpc.Call[text, text](t.Context(), p, procFail, &text{"two"})
		if !errors.Is(err, fabric.ErrConflict) || !errors.Is(err, fabric.ErrNoQuorum) || errors.Is(err, errOdd) {
			t.Errorf("%s: %v", p, err)
		}
		if _, err = rpc.Call[text, text](t.Context(), p, procFail, &text{"plain words"}); err == nil || err.Error() != "plain words" {
			t.Errorf("%s: %v", p, err)
		}
		if _, err = rpc.Call[text, text](t.Context(), p, procPanic, &text{}); err == nil {
			t.Errorf("%s: a panic is no error", p)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err = rpc.Call[text, text](ctx, p, procHang, &text{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", p, err)
		}
		cancel()
		if _, err = rpc.Call[text, text](t.Context(), p, "/orrery.test.v1.Test/None", &text{}); err == nil {
			t.Errorf("%s: no such procedure is no error", p)
		}
		count(t, p)
	}
	who, err := rpc.Call[struct{}, fabric.Identity](t.Context(), socket, procWho, &struct{}{})
	if err != nil || who.Role != fabric.RoleOperator || who.Name == "" || who.Cluster != cluster.First.Identity().Cluster {
		t.Errorf("over the socket: %+v, %v", who, err)
	}
	who, err = rpc.Call[struct{}, fabric.Identity](t.Context(), c.Node(id), procWho, &struct{}{})
	if err != nil || *who != beta.Identity() {
		t.Errorf("over TLS: %+v, %v", who, err)
	}
	if info, err := os.Stat(alpha.socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
}

func count(t *testing.T, p *rpc.Peer) {
	t.Helper()
	var got []string
	var last error
	for m, err := range rpc.CallStream[text, text](t.Context(), p, procCount, &text{"n"}) {
		if last = err; err == nil {
			got = append(got, m.Value)
		}
	}
	if strings.Join(got, " ") != "n0 n1 n2 n3 n4" || !errors.Is(last, fabric.ErrNotFound) {
		t.Errorf("%s: stream %v, %v", p, got, last)
	}
	for range rpc.CallStream[text, text](t.Context(), p, procCount, &text{"hang"}) {
		break
	}
}

func TestRoles(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	viewer := client(t, cluster.Admit(t, "vic", fabric.RoleViewer)).Address(alpha.server.Addr())
	developer := client(t, cluster.Admit(t, "dev", fabric.RoleDeveloper)).Address(alpha.server.Addr())
	if _, err := rpc.Call[text, text](t.Context(), viewer, procEcho, &text{}); err != nil {
		t.Error(err)
	}
	if _, err := rpc.Call[text, text](t.Context(), viewer, procWho, &text{}); !errors.Is(err, fabric.ErrForbidden) || !strings.Contains(err.Error(), "developer") {
		t.Errorf("viewer: %v", err)
	}
	if _, err := viewer.Stream(t.Context(), "echo", nil); !errors.Is(err, fabric.ErrForbidden) {
		t.Errorf("viewer's stream: %v", err)
	}
	if _, err := rpc.Call[text, text](t.Context(), developer, procWho, &text{}); err != nil {
		t.Error(err)
	}
	operator := client(t, cluster.Admit(t, "op", fabric.RoleOperator)).Address(alpha.server.Addr())
	local := rpc.Unix(alpha.socket, known())
	t.Cleanup(local.Close)
	for _, p := range []*rpc.Peer{viewer, developer, operator, local} {
		if answer, err := rpc.Call[text, text](t.Context(), p, procNodes, &text{}); !errors.Is(err, fabric.ErrForbidden) {
			t.Errorf("%s has the nodes' procedure: %v, %v", p, answer, err)
		}
		for answer, err := range rpc.CallStream[text, text](t.Context(), p, procNodesCount, &text{}) {
			if !errors.Is(err, fabric.ErrForbidden) {
				t.Errorf("%s has the nodes' answers: %v, %v", p, answer, err)
			}
		}
		if _, err := p.Stream(t.Context(), "nodes", nil); !errors.Is(err, fabric.ErrForbidden) {
			t.Errorf("%s has the nodes' stream: %v", p, err)
		}
	}
	bravo := client(t, cluster.Admit(t, "bravo", fabric.RoleNode)).Address(alpha.server.Addr())
	if _, err := rpc.Call[text, text](t.Context(), bravo, procNodes, &text{}); err != nil {
		t.Error(err)
	}
	if c, err := bravo.Stream(t.Context(), "nodes", nil); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

func TestOtherCluster(t *testing.T) {
	ours, theirs := authoritytest.NewCluster(t, "alpha"), authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, ours.First, nil)
	p := client(t, theirs.First).Address(alpha.server.Addr())
	if _, err := rpc.Call[text, text](t.Context(), p, procEcho, &text{}); !errors.Is(err, fabric.ErrOtherCluster) {
		t.Errorf("the client does not notice: %v", err)
	}
	if _, err := p.Stream(t.Context(), "echo", nil); !errors.Is(err, fabric.ErrOtherCluster) {
		t.Errorf("the client does not notice: %v", err)
	}
	// One that does not look at the server's certificate is refused by the server, in words.
	for _, shown := range []*authority.Authority{theirs.First, nil} {
		resp, err := careless(t, shown).Post("https://"+alpha.server.Addr()+procEcho, "application/json", strings.NewReader(`{"value":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := fabric.ErrForbidden
		if shown != nil {
			want = fabric.ErrOtherCluster
		}
		if err != nil || resp.StatusCode < 400 || !strings.Contains(string(body), want.Error()) {
			t.Errorf("%d %s, %v", resp.StatusCode, body, err)
		}
	}
}

func TestOtherNode(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	beta := cluster.Admit(t, "beta", fabric.RoleNode)
	c := rpc.NewClient(rpc.ClientConfig{Authority: beta, Errors: known(), Lookup: func(context.Context, fabric.NodeID) (string, error) {
		return alpha.server.Addr(), nil
	}})
	defer c.Close()
	if _, err := rpc.Call[text, text](t.Context(), c.Node("0123456789abcdef"), procEcho, &text{}); !errors.Is(err, rpc.ErrOtherNode) {
		t.Errorf("wrong node: %v", err)
	}
	if _, err := rpc.Call[text, text](t.Context(), client(t, beta).Node("0123456789abcdef"), procEcho, &text{}); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("unknown node: %v", err)
	}
}

func TestJoin(t *testing.T) {
	cluster, other := authoritytest.NewCluster(t, "alpha"), authoritytest.NewCluster(t, "omega")
	beacon := fabric.Beacon{Cluster: cluster.First.Identity().Cluster, Name: "alpha"}
	alpha := serve(t, cluster.First, func(m *rpc.Mux) {
		rpc.HandleJoin(m, cluster.Registrar, func() []fabric.Beacon { return []fabric.Beacon{beacon} })
	})
	asked := false
	omega := serve(t, other.First, func(m *rpc.Mux) {
		rpc.HandleJoin(m, other.Registrar, func() []fabric.Beacon { asked = true; return nil })
	})
	token, err := cluster.Registrar.Issue(t.Context(), fabric.RoleNode, 0)
	if err != nil {
		t.Fatal(err)
	}
	candidate, err := authority.NewCandidate(t.TempDir(), "beta", token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rpc.Join(t.Context(), candidate, []string{omega.server.Addr()}, known()); !errors.Is(err, fabric.ErrOtherCluster) || asked {
		t.Errorf("join at another cluster: %v, secret sent: %v", err, asked)
	}
	beta, peers, err := rpc.Join(t.Context(), candidate, []string{"127.0.0.1:1", omega.server.Addr(), alpha.server.Addr()}, known())
	if err != nil {
		t.Fatal(err)
	}
	if len(peers) != 1 || peers[0] != beacon || beta.Identity().Role != fabric.RoleNode {
		t.Errorf("joined as %+v with peers %v", beta.Identity(), peers)
	}
	if _, err := rpc.Call[text, text](t.Context(), client(t, beta, alpha).Node(cluster.First.Identity().ID), procEcho, &text{}); err != nil {
		t.Error(err)
	}
	second, err := authority.NewCandidate(t.TempDir(), "gamma", token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := rpc.Join(t.Context(), second, []string{alpha.server.Addr()}, known()); !errors.Is(err, fabric.ErrTokenUsed) {
		t.Errorf("second use: %v", err)
	}
}

// TestRestart stops a node and starts it elsewhere: kept connections are dead, and the peer finds the new one.
func TestRestart(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	address := ""
	alpha := serve(t, cluster.First, nil)
	address = alpha.server.Addr()
	c := rpc.NewClient(rpc.ClientConfig{Authority: cluster.First, Errors: known(), Lookup: func(context.Context, fabric.NodeID) (string, error) { return address, nil }})
	defer c.Close()
	p := c.Node(cluster.First.Identity().ID)
	use := func() error {
		s, err := p.Stream(t.Context(), "echo", nil)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = rpc.Call[text, text](t.Context(), p, procEcho, &text{})
		return err
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	alpha.stop()
	if err := use(); err == nil {
		t.Error("a stopped node answers")
	}
	address = serve(t, cluster.First, nil).server.Addr()
	if err := use(); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	p.Close()
	if err := use(); !errors.Is(err, fabric.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestSocketInUse(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	if _, err := rpc.Listen(t.Context(), rpc.Config{Authority: cluster.First, Listen: "127.0.0.1:0", Unix: alpha.socket}, rpc.NewMux(nil, nil)); err == nil {
		t.Error("two nodes listen on one socket")
	}
	if _, err := rpc.Listen(t.Context(), rpc.Config{Authority: cluster.First, Listen: alpha.server.Addr()}, rpc.NewMux(nil, nil)); err == nil {
		t.Error("two nodes listen at one address")
	}
	dead := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	s, err := rpc.Listen(t.Context(), rpc.Config{Authority: cluster.First, Listen: "127.0.0.1:0", Unix: dead}, rpc.NewMux(nil, nil))
	if err != nil {
		t.Fatalf("a dead socket is in the way: %v", err)
	}
	_ = s.Close()
}

func TestRegisteringWithoutRolePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a procedure is open to everybody")
		}
	}()
	rpc.Unary(rpc.NewMux(nil, nil), procEcho, "", func(_ context.Context, q *text) (*text, error) { return q, nil })
}

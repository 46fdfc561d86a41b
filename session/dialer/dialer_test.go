package dialer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/session"
	"orrery/session/dialer"
	"orrery/session/router"
	"orrery/session/tunnel"
)

// streams joins the dialers of several nodes in one process.
type streams struct {
	t     *testing.T
	nodes map[fabric.NodeID]*dialer.Dialer
}

func (s *streams) Stream(ctx context.Context, node fabric.NodeID, instance session.Instance) (net.Conn, error) {
	d := s.nodes[node]
	if d == nil {
		return nil, fabric.ErrNotFound
	}
	here, there := net.Pipe()
	go func() { _ = d.ServeStream(context.WithoutCancel(ctx), there, instance) }()
	return here, nil
}

// shout is a server that answers in capitals.
func shout(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 100)
				n, _ := conn.Read(buffer)
				_, _ = io.WriteString(conn, strings.ToUpper(string(buffer[:n])))
			}()
		}
	}()
	return l.Addr().String()
}

func TestDial(t *testing.T) {
	s := &streams{t: t, nodes: map[fabric.NodeID]*dialer.Dialer{}}
	known := session.Instance{Node: "b", Address: shout(t)}
	for _, node := range []fabric.NodeID{"a", "b"} {
		s.nodes[node] = dialer.New(dialer.Config{
			Self: node, Streams: s, Known: func(i session.Instance) bool { return i == known },
		})
	}
	for _, from := range []fabric.NodeID{"a", "b"} { // over the fabric, and directly
		conn, err := s.nodes[from].Dial(t.Context(), known)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "hello")
		if got, err := io.ReadAll(conn); err != nil || string(got) != "HELLO" {
			t.Errorf("from %s: %q %v", from, got, err)
		}
		_ = conn.Close()
	}
	for name, to := range map[string]session.Instance{
		"another port":   {Node: "b", Address: shout(t)},
		"unknown node":   {Node: "c", Address: known.Address},
		"unknown tunnel": {Node: "b", Address: known.Address, Tunnel: "t1"},
	} {
		if _, err := s.nodes["a"].Dial(t.Context(), to); err == nil {
			t.Errorf("%s was reached", name)
		} else if name == "another port" && !errors.Is(err, tunnel.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// silent opens streams that never answer.
type silent struct{}

func (silent) Stream(context.Context, fabric.NodeID, session.Instance) (net.Conn, error) {
	here, _ := net.Pipe()
	return here, nil
}

func TestSilentNode(t *testing.T) {
	d := dialer.New(dialer.Config{Self: "a", Streams: silent{}, Timeout: 20 * time.Millisecond})
	if _, err := d.Dial(t.Context(), session.Instance{Node: "b", Address: "x:1"}); err == nil {
		t.Error("reached a silent node")
	}
}

type echo struct{}

func (echo) ServeConn(_ context.Context, conn net.Conn, service, name string) error {
	defer conn.Close()
	_, err := fmt.Fprint(conn, service, name)
	return err
}

// TestThroughFabricAndTunnel reaches a developer's machine whose tunnel ends at another node.
func TestThroughFabricAndTunnel(t *testing.T) {
	address := shout(t)
	tunnels := tunnel.NewTunnels(echo{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	here, there := net.Pipe()
	client, err := tunnel.NewClient(ctx, tunnel.ClientConfig{Allow: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		first := true
		_ = client.Run(ctx, func(context.Context) (net.Conn, error) {
			if !first {
				return nil, &tunnel.Permanent{Err: io.EOF}
			}
			first = false
			return here, nil
		})
	}()
	go func() { _ = tunnels.Accept(ctx, there, "t1", "blue") }()
	s := &streams{t: t, nodes: map[fabric.NodeID]*dialer.Dialer{}}
	s.nodes["b"] = dialer.New(dialer.Config{Self: "b", Tunnels: tunnels, Known: func(session.Instance) bool { return true }})
	a := dialer.New(dialer.Config{Self: "a", Streams: s})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !tunnels.Alive("t1") {
		<-tick.C
	}
	conn, err := a.Dial(ctx, session.Instance{Node: "b", Tunnel: "t1", Address: address})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "hello")
	if got, err := io.ReadAll(conn); err != nil || string(got) != "HELLO" {
		t.Errorf("%q %v", got, err)
	}
	_ = conn.Close()
	cancel()
	<-done
}

// TestDevelop is the whole way: a developer's program answers the session's requests and calls another service, of which the
// session has a variant. The program passes no header on; it reaches the session's variant all the same.
func TestDevelop(t *testing.T) {
	table := memory.New()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	var d session.Dialer
	r, err := router.New(router.Config{Self: "a", Table: table, Dialer: late(func() session.Dialer { return d })})
	if err != nil {
		t.Fatal(err)
	}
	tunnels := tunnel.NewTunnels(r, nil)
	d = dialer.New(dialer.Config{Self: "a", Tunnels: tunnels, Known: r.Knows})
	work.Go(func() { _ = r.Run(ctx) })

	serve := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	fetch := func(address, mark string) string {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
		if err != nil {
			return err.Error()
		}
		req.Header.Set(session.Header, mark)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body)
	}
	var client *tunnel.Client
	program := serve(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "blue sky with ", fetch(client.Addresses()["notes"], ""))
	})
	if client, err = tunnel.NewClient(ctx, tunnel.ClientConfig{Allow: []string{program}, Services: []string{"notes"}}); err != nil {
		t.Fatal(err)
	}
	put := func(key string, record any) {
		encoded, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		revision, err := table.Put(ctx, key, encoded)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Await(ctx, "", revision); err != nil {
			t.Fatal(err)
		}
	}
	here := func(h http.HandlerFunc) session.Instance { return session.Instance{Node: "a", Address: serve(h)} }
	put(session.RoutePrefix+"sky", session.Route{Instance: here(says("production's sky"))})
	put(session.RoutePrefix+"notes", session.Route{Instance: here(says("production's notes"))})
	put(session.SessionPrefix+"blue", session.Session{Ready: true, Overrides: []session.Override{
		{Service: "sky", Instance: session.Instance{Node: "a", Tunnel: "t1", Address: program}},
		{Service: "notes", Instance: here(says("forked notes"))},
	}})
	work.Go(func() {
		_ = client.Run(ctx, func(context.Context) (net.Conn, error) {
			developer, node := net.Pipe()
			work.Go(func() { _ = tunnels.Accept(ctx, node, "t1", "blue") })
			return developer, nil
		})
	})
	sky, err := r.Listen(ctx, "sky")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if got := fetch(sky, "blue"); got != "blue sky with forked notes" {
			t.Errorf("in the session: %q", got)
		}
		if got := fetch(sky, ""); got != "production's sky" {
			t.Errorf("outside: %q", got)
		}
	}
}

type late func() session.Dialer

func (l late) Dial(ctx context.Context, to session.Instance) (net.Conn, error) {
	return l().Dial(ctx, to)
}

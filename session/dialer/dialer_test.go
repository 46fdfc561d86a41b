package dialer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/session"
	"orrery/session/dialer"
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
	var conn net.Conn
	for conn == nil {
		if conn, err = a.Dial(ctx, session.Instance{Node: "b", Tunnel: "t1", Address: address}); err != nil && tunnels.Alive("t1") {
			t.Fatal(err)
		}
	}
	_, _ = io.WriteString(conn, "hello")
	if got, err := io.ReadAll(conn); err != nil || string(got) != "HELLO" {
		t.Errorf("%q %v", got, err)
	}
	_ = conn.Close()
	cancel()
	<-done
}

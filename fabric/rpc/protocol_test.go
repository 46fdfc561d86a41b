package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"orrery/fabric"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/rpc"
)

const protocol = "orrery-test/1"

// parrot serves a protocol of its own, which says who calls and then repeats what it reads.
func parrot(refused chan error) func(*rpc.Mux) {
	return func(m *rpc.Mux) {
		m.HandleConn(protocol, fabric.RoleDeveloper, func(_ context.Context, who fabric.Identity, c net.Conn) {
			_, _ = io.WriteString(c, string(who.Role)+"\n")
			_, _ = io.Copy(c, c)
		}, func(err error) { refused <- err })
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	_ = c.Close()
}

func TestOwnProtocol(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "one")
	refused := make(chan error, 1)
	n := serve(t, cluster.First, parrot(refused))
	developer := cluster.Admit(t, "ann", fabric.RoleDeveloper)
	c, err := rpc.DialNode(t.Context(), developer, n.server.Addr(), cluster.First.Identity().ID, protocol)
	if err != nil {
		t.Fatal(err)
	}
	hear(t, c, "developer\nhello")
	if c, err = rpc.DialUnix(t.Context(), n.socket, protocol); err != nil {
		t.Fatal(err)
	}
	hear(t, c, "operator\nhello")
	if _, err := rpc.DialNode(t.Context(), developer, n.server.Addr(), "0123456789abcdef", protocol); !errors.Is(err, rpc.ErrOtherNode) {
		t.Errorf("a node that is not the one meant: %v", err)
	}
	if _, err := rpc.DialNode(t.Context(), developer, n.server.Addr(), "", "orrery-other/1"); err == nil {
		t.Error("a protocol that nobody has")
	}
}

// Who may not use a protocol gets no byte of it, and is counted.
func TestOwnProtocolRefuses(t *testing.T) {
	cluster, other := authoritytest.NewCluster(t, "one"), authoritytest.NewCluster(t, "one")
	refused := make(chan error, 1)
	n := serve(t, cluster.First, parrot(refused))
	silent := func(what string, c net.Conn, err, want error) {
		t.Helper()
		if err != nil {
			t.Fatal(what, err)
		}
		if got, err := io.ReadAll(c); len(got) > 0 {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
		_ = c.Close()
		if err := <-refused; !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	c, err := rpc.DialNode(t.Context(), cluster.Admit(t, "vic", fabric.RoleViewer), n.server.Addr(), "", protocol)
	silent("a viewer", c, err, fabric.ErrForbidden)
	x, err := tls.Dial("tcp", n.server.Addr(), carelessTLS(t, other.First, protocol))
	silent("another cluster's node", x, err, fabric.ErrOtherCluster)
	x, err = tls.Dial("tcp", n.server.Addr(), &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{protocol}}) //nolint:gosec // a careless caller
	silent("nobody", x, err, fabric.ErrForbidden)
}

package rpc_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"orrery/fabric"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// doorman refuses one id once it is told to.
type doorman struct{ out atomic.Pointer[fabric.NodeID] }

func (d *doorman) isOut(id fabric.NodeID) bool { out := d.out.Load(); return out != nil && *out == id }

func (d *doorman) admit(_ context.Context, holder fabric.Identity) error {
	if d.isOut(holder.ID) {
		return fabric.ErrEvicted
	}
	return nil
}

// Who is put out loses the connections that are open, and is told why when it comes again; others do not notice.
func TestPutOut(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	victim, other := c.Admit(t, "beta", fabric.RoleNode), c.Admit(t, "gamma", fabric.RoleNode)
	var door doorman
	n := serveWith(t, rpc.Config{Authority: c.First, Listen: "127.0.0.1:0", Admit: door.admit}, nil)
	open := func(a *rpc.Client) (io.ReadWriteCloser, error) {
		return a.Address(n.server.Addr()).Stream(t.Context(), "echo", nil)
	}
	call := func(a *rpc.Client) error {
		_, err := rpc.Call[text, text](t.Context(), a.Address(n.server.Addr()), procEcho, &text{"x"})
		return err
	}
	var clients []*rpc.Client
	var streams []io.ReadWriteCloser
	for _, a := range []rpc.ClientConfig{{Authority: victim, Errors: known()}, {Authority: other, Errors: known(), Admit: door.admit}} {
		client := rpc.NewClient(a)
		t.Cleanup(client.Close)
		stream, err := open(client)
		if err := errors.Join(err, call(client)); err != nil {
			t.Fatal(err)
		}
		clients, streams = append(clients, client), append(streams, stream)
	}
	id := victim.Identity().ID
	door.out.Store(&id)
	n.server.Cut(door.isOut)
	_, _ = io.ReadAll(streams[0]) // it ends
	testenv.Eventually(t, "it is refused", func() bool { return errors.Is(call(clients[0]), fabric.ErrEvicted) })
	if _, err := open(clients[0]); !errors.Is(err, fabric.ErrEvicted) {
		t.Errorf("a stream: %v", err)
	}
	var b [1]byte
	if _, err := streams[1].Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(streams[1], b[:]); err != nil || call(clients[1]) != nil {
		t.Errorf("somebody else: %v", err)
	}

	// The other way round: a server that is put out is not talked to, and that is not said in its words.
	id = c.First.Identity().ID
	clients[1].Cut(door.isOut)
	if _, err := io.ReadFull(streams[1], b[:]); err == nil {
		t.Error("a stream to a server that is out goes on")
	}
	if err := call(clients[1]); err == nil || errors.Is(err, fabric.ErrEvicted) {
		t.Errorf("a server that is out: %v", err)
	}
}

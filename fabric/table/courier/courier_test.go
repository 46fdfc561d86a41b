package courier

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// A node that was out of reach is tried again as soon as it is heard, not only after the pause.
func TestHeard(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "one")
	two := cluster.Admit(t, "two", fabric.RoleNode)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	address, tried := "127.0.0.1:1", false // where nobody listens
	client := rpc.NewClient(rpc.ClientConfig{Authority: cluster.First, Lookup: func(context.Context, fabric.NodeID) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		tried = true
		return address, nil
	}})
	defer client.Close()
	c := New(ctx, client)
	c.pause = time.Hour
	defer func() { cancel(); c.Wait() }()
	id := two.Identity().ID
	c.Send(id, []byte("lost"))
	testenv.Eventually(t, "the message to be tried", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return tried
	})

	got := make(chan string, 1)
	mux := rpc.NewMux(rpc.FabricErrors(), nil)
	mux.HandleStream(Kind, fabric.RoleNode, func(_ context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
		conn, err := accept()
		if err != nil {
			return err
		}
		message := make([]byte, 4+len("hello"))
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		got <- string(message[4:])
		return nil
	})
	server, err := rpc.Listen(ctx, rpc.Config{Authority: two, Listen: "127.0.0.1:0"}, mux)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Run(ctx) })
	defer func() { cancel(); serving.Wait() }()
	mu.Lock()
	address = server.Addr()
	mu.Unlock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); ; {
		c.heard(id)
		c.Greet(id) // which is no message
		c.Send(id, []byte("hello"))
		select {
		case message := <-got:
			if message != "hello" {
				t.Errorf("%q came", message)
			}
			return
		case <-tick.C:
		case <-limit:
			t.Fatal("nothing came")
		}
	}
}

package event_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/event"
	"orrery/fabric/membership"
	"orrery/fabric/rpc"
)

// Program is a node of a program that uses the fabric as a library.
type Program struct {
	events  *event.Service
	members *membership.Membership
	stop    func()
}

// NewProgram assembles a node from its identity: procedures, membership and events, which know each other.
func NewProgram(holder *authority.Authority, dir string) (*Program, error) {
	p := &Program{}
	known := append(rpc.FabricErrors(), event.Errors()...)
	var client *rpc.Client
	var err error
	p.events, err = event.Open(event.Config{
		Authority: holder, Directory: dir,
		Peer:      func(id fabric.NodeID) *rpc.Peer { return client.Node(id) },
		Members:   func() []fabric.Member { return p.members.Members() },
		Broadcast: func(name string, payload []byte) error { return p.members.Broadcast(name, payload) },
	})
	if err != nil {
		return nil, err
	}
	mux := rpc.NewMux(known, nil)
	event.Offer(mux, p.events)
	ctx, cancel := context.WithCancel(context.Background())
	server, err := rpc.Listen(ctx, rpc.Config{Authority: holder, Listen: "127.0.0.1:0"}, mux)
	if err != nil {
		cancel()
		return nil, err
	}
	p.members, err = membership.Start(ctx, membership.Config{
		Identity: holder.Identity(), RPC: server.Addr(), Bind: "127.0.0.1:0", Keys: holder.GossipKeys(), Profile: membership.Local,
		Event: func(e membership.Event) { p.events.Heard(e.Name, e.Payload) },
	})
	if err != nil {
		cancel()
		return nil, err
	}
	client = rpc.NewClient(rpc.ClientConfig{Authority: holder, Lookup: p.members.Lookup, Errors: known})
	var work sync.WaitGroup
	work.Go(func() { _ = server.Run(ctx) })
	work.Go(func() { _ = p.events.Run(ctx) })
	p.stop = func() {
		cancel()
		client.Close()
		work.Wait()
		_ = p.members.Close()
		_ = p.events.Close()
	}
	return p, nil
}

// A program sends an event and watches for events. Other nodes find this one by its token or its address; see the packages authority and discovery.
func Example() {
	dir, err := os.MkdirTemp("", "events")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	holder, err := authority.Create(filepath.Join(dir, "identity"), "alpha")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := NewProgram(holder, filepath.Join(dir, "events"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// To all nodes.
	if _, err := p.events.Send("deploy.done", []byte("shop 1.4"), ""); err != nil {
		fmt.Println(err)
	}
	for seen, err := range p.events.Watch(ctx, event.Watch{Names: []string{"deploy.*"}, Since: time.Now().Add(-time.Minute)}) {
		if err != nil {
			fmt.Println(err)
			break
		}
		if seen.Missed > 0 {
			fmt.Println("missed", seen.Missed)
			continue
		}
		fmt.Printf("%s: %s\n", seen.Event.Name, seen.Event.Payload)
		break // keep what Begin returned, with After set to seen.Position, to go on here another time
	}

	// To one node, which is this one here.
	inbox, err := p.events.Receive("restart")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer inbox.Close()
	if err := p.events.Tell(ctx, holder.Identity().ID, "restart", []byte("now"), ""); err != nil {
		fmt.Println(err)
	}
	if m, err := inbox.Next(ctx); err == nil {
		fmt.Printf("%s: %s\n", m.Name, m.Payload)
	}

	// A question to all.
	stop, err := p.events.Handle("colour", func(context.Context, event.Question) ([]byte, error) { return []byte("blue"), nil })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	answers, err := p.events.Query(ctx, "colour", nil, "", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for a := range answers {
		fmt.Printf("%s says %s\n", a.Node, a.Payload)
	}
	// Output:
	// deploy.done: shop 1.4
	// restart: now
	// alpha says blue
}

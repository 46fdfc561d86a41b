package event_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/event"
	"orrery/fabric/membership"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// A probe that is under way when memberlist is shut down ends with its own timeout, which memberlist does not wait for.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

// node is one of a cluster in this process, assembled as cmd does it, over real sockets.
type node struct {
	*event.Service
	holder  *authority.Authority
	members *membership.Membership
	client  *rpc.Client
	peers   []fabric.Beacon
	config  event.Config
	stop    func()

	mu   sync.Mutex
	mute bool // its gossip is lost
}

func (n *node) id() fabric.NodeID { return n.holder.Identity().ID }

func errorsKnown() rpc.Errors { return append(rpc.FabricErrors(), event.Errors()...) }

// cluster starts n nodes that know each other.
func cluster(tb testing.TB, n int, change func(i int, c *event.Config)) []*node {
	tb.Helper()
	all := make([]*node, n)
	c := authoritytest.NewCluster(tb, "node-0")
	for i := range all {
		holder := c.First
		if i > 0 {
			holder = c.Admit(tb, fmt.Sprintf("node-%d", i), fabric.RoleNode)
		}
		all[i] = &node{holder: holder, config: event.Config{
			Authority: holder, Directory: tb.TempDir(), Settle: 20 * time.Millisecond, Patience: 30 * time.Second, Interval: 100 * time.Millisecond,
		}}
		if change != nil {
			change(i, &all[i].config)
		}
		all[i].start(tb)
		for _, other := range all[:i] {
			all[i].meet(other)
		}
	}
	tb.Cleanup(func() {
		var stopping sync.WaitGroup
		for _, one := range all {
			stopping.Go(one.stop)
		}
		stopping.Wait()
	})
	for _, one := range all {
		testenv.Eventually(tb, "all members", func() bool { return one.alive() == n })
	}
	return all
}

func (n *node) alive() (count int) {
	for _, m := range n.members.Members() {
		if m.State == fabric.MemberAlive {
			count++
		}
	}
	return count
}

func (n *node) meet(other *node) {
	for _, b := range other.members.Beacons() {
		n.members.Found(b)
		n.peers = append(n.peers, b)
	}
}

// start runs the node until stop.
func (n *node) start(tb testing.TB) {
	tb.Helper()
	n.config.Peer = func(id fabric.NodeID) *rpc.Peer { return n.client.Node(id) }
	n.config.Members = func() []fabric.Member { return n.members.Members() }
	n.config.Broadcast = func(name string, payload []byte) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.mute {
			return nil
		}
		return n.members.Broadcast(name, payload)
	}
	var err error
	if n.Service, err = event.Open(n.config); err != nil {
		tb.Fatal(err)
	}
	service := n.Service
	mux := rpc.NewMux(errorsKnown(), nil)
	event.Offer(mux, service)
	server, err := rpc.Listen(tb.Context(), rpc.Config{Authority: n.holder, Listen: "127.0.0.1:0"}, mux)
	if err != nil {
		tb.Fatal(err)
	}
	n.members, err = membership.Start(tb.Context(), membership.Config{
		Identity: n.holder.Identity(), Version: "test", Zone: "zone-of-" + n.holder.Identity().Name, Roles: []string{"web"}, RPC: server.Addr(), Bind: "127.0.0.1:0", Keys: n.holder.GossipKeys(), Profile: membership.Local,
		Event: func(e membership.Event) { service.Heard(e.Name, e.Payload) },
	})
	if err != nil {
		tb.Fatal(err)
	}
	n.client = rpc.NewClient(rpc.ClientConfig{Authority: n.holder, Lookup: n.members.Lookup, Errors: errorsKnown()})
	for _, b := range n.peers {
		n.members.Found(b)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var work sync.WaitGroup
	work.Go(func() { _ = server.Run(ctx) })
	work.Go(func() { _ = service.Run(ctx) })
	members, client := n.members, n.client
	n.stop = sync.OnceFunc(func() {
		cancel()
		client.Close()
		work.Wait()
		if err := members.Close(); err != nil {
			tb.Error(err)
		}
		if err := service.Close(); err != nil {
			tb.Error(err)
		}
	})
}

// collect watches for count events, and fails if there is anything else.
func (n *node) collect(tb testing.TB, w event.Watch, count int) (all []event.Event) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	for seen, err := range n.Watch(ctx, w) {
		if err != nil {
			tb.Fatalf("%s after %d of %d events: %v; %+v; members %+v", n.holder.Identity().Name, len(all), count, err, n.Status(), n.members.Members())
		}
		if seen.Event == nil {
			tb.Fatalf("missed %d of %s", seen.Missed, seen.MissedFrom)
		}
		if all = append(all, *seen.Event); len(all) == count {
			break
		}
	}
	return all
}

// ever is a watch of everything that a log has.
func ever() event.Watch { return event.Watch{Since: time.Unix(1, 0)} }

func send(tb testing.TB, n *node, name string, payload string) event.Event {
	tb.Helper()
	e, err := n.Send(name, []byte(payload), "")
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func payloads(all []event.Event) (texts []string) {
	for _, e := range all {
		texts = append(texts, string(e.Payload))
	}
	return texts
}

func sortedPayloads(all []event.Event) []string { return slices.Sorted(slices.Values(payloads(all))) }

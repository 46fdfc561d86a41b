package embed_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
	"orrery/fabric/embed"
	"orrery/fabric/event"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// A probe that is under way when memberlist is shut down ends with its own timeout, which memberlist does not wait for.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

type greeting struct {
	Text string `json:"text"`
}

func config(t *testing.T, name string) embed.Config {
	t.Helper()
	return embed.Config{
		Directory: filepath.Join(t.TempDir(), name), Name: name, Loopback: true, NoBeacon: true, Listen: "127.0.0.1:0", Gossip: "127.0.0.1:0", Zone: "attic",
		Serve: func(m *rpc.Mux) {
			rpc.Unary(m, "/greeter/Greet", fabric.RoleNode, func(_ context.Context, q *greeting) (*greeting, error) {
				return &greeting{q.Text + " from " + name}, nil
			})
		},
	}
}

func create(t *testing.T, c embed.Config) *embed.Node {
	t.Helper()
	n, err := embed.Create(within(t), c)
	return started(t, n, err)
}

func join(t *testing.T, at *embed.Node, c embed.Config) *embed.Node {
	t.Helper()
	token, err := at.Token(within(t), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c.Seeds = []string{at.Address()}
	n, err := embed.Join(within(t), c, token)
	return started(t, n, err)
}

func started(t *testing.T, n *embed.Node, err error) *embed.Node {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// put writes a key through a node.
func put(t *testing.T, n *embed.Node) {
	t.Helper()
	b, err := n.Bucket(within(t), "things", 3)
	if err == nil {
		_, err = b.Put(within(t), []byte("moon"), []byte("Io"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// get reads what put wrote.
func get(t *testing.T, n *embed.Node) {
	t.Helper()
	b, err := n.Bucket(within(t), "things", 3)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := b.Get(within(t), []byte("moon")); err != nil || string(v.Value) != "Io" {
		t.Errorf("node %s reads %q, %v", n.Identity().Name, v.Value, err)
	}
}

// Three nodes: keys, events, and the program's own procedures go between them; all are stopped and started again, and what was written is there.
func TestThreeNodes(t *testing.T) {
	configs := []embed.Config{config(t, "ada"), config(t, "bob"), config(t, "cem")}
	ada := create(t, configs[0])
	nodes := []*embed.Node{ada, join(t, ada, configs[1]), join(t, ada, configs[2])}
	put(t, nodes[1])
	get(t, nodes[2])

	if answer, err := rpc.Call[greeting, greeting](within(t), ada.Peer(nodes[2].Identity().ID), "/greeter/Greet", &greeting{"hello"}); err != nil || answer.Text != "hello from cem" {
		t.Errorf("%+v, %v", answer, err)
	}
	if _, err := nodes[1].Events().Send("deploy.done", []byte("shop"), "test"); err != nil {
		t.Fatal(err)
	}
	for seen, err := range ada.Events().Watch(within(t), event.Watch{Names: []string{"deploy.done"}, Since: time.Now().Add(-time.Hour)}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen.Event != nil {
			if string(seen.Event.Payload) != "shop" || seen.Event.From != nodes[1].Identity().ID {
				t.Errorf("%+v", seen.Event)
			}
			break
		}
	}

	if _, err := embed.Open(within(t), configs[0]); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second one in the folder: %v", err)
	}
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := nodes[0].Keys(within(t)); !errors.Is(err, fabric.ErrClosed) && err == nil {
		t.Errorf("keys of a closed node: %v", err)
	}
	for i, c := range configs {
		n, err := embed.Open(within(t), c)
		nodes[i] = started(t, n, err)
	}
	for _, n := range nodes {
		if err := n.Ready(within(t)); err != nil {
			t.Fatal(err)
		}
		get(t, n)
	}
}

// One node is put out, which ends it, and its place goes to another; one leaves.
func TestEvictAndLeave(t *testing.T) {
	ada := create(t, config(t, "ada"))
	bob, cem := join(t, ada, config(t, "bob")), join(t, ada, config(t, "cem"))
	put(t, ada)
	if err := ada.Evict(within(t), ada.Identity().ID, "test", ""); err == nil {
		t.Error("a node puts itself out")
	}
	for range 2 { // the second changes nothing
		if err := ada.Evict(within(t), cem.Identity().ID, "test", "stolen"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-cem.Done():
	case <-within(t).Done():
		t.Fatal("it does not end")
	}
	if err := cem.Err(); !errors.Is(err, fabric.ErrEvicted) || !strings.Contains(err.Error(), "stolen") {
		t.Errorf("%v", err)
	}
	get(t, bob)

	if err := bob.Chains().Drain(within(t), bob.Identity().ID, true); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "bob leaves", func() bool {
		err := bob.Leave(within(t))
		if err != nil && !strings.Contains(err.Error(), "nobody else has the keys") {
			t.Fatal(err)
		}
		return err == nil
	})
	get(t, ada)
	if err := ada.Leave(within(t)); err == nil || !strings.Contains(err.Error(), "the cluster's last node") {
		t.Errorf("the last one leaves: %v", err)
	}
}

// Two nodes have the only copies of a key, and leave at the same time: one of them stays, or waits until a third one has a copy.
func TestLeaveTogether(t *testing.T) {
	ada := create(t, config(t, "ada"))
	nodes := map[fabric.NodeID]*embed.Node{}
	for _, n := range []*embed.Node{ada, join(t, ada, config(t, "bob")), join(t, ada, config(t, "cem"))} {
		nodes[n.Identity().ID] = n
	}
	b, err := ada.Bucket(within(t), "pair", 2)
	if err == nil {
		_, err = b.Put(within(t), []byte("moon"), []byte("Io"))
	}
	if err != nil {
		t.Fatal(err)
	}
	var pair []*embed.Node
	testenv.Eventually(t, "two nodes to serve", func() bool {
		pair = nil
		o, err := ada.Chains().Overview(within(t))
		if err != nil {
			return false
		}
		for _, r := range o.Chains[0].Serving() {
			pair = append(pair, nodes[r.Node])
		}
		return len(pair) == 2
	})
	errs := make([]error, 2)
	var leaving sync.WaitGroup
	for i, n := range pair {
		delete(nodes, n.Identity().ID)
		leaving.Go(func() { errs[i] = n.Leave(within(t)) })
	}
	leaving.Wait()
	if errs[0] != nil && errs[1] != nil {
		t.Errorf("nobody left: %v", errs)
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, placement.ErrOnlyCopy) {
			t.Error(err)
		}
	}
	for _, n := range nodes { // the third one
		keys, err := n.Keys(within(t))
		if err != nil {
			t.Fatal(err)
		}
		if v, err := keys.Bucket("pair").Get(within(t), []byte("moon")); err != nil || string(v.Value) != "Io" {
			t.Errorf("the key is lost: %q, %v (%v)", v.Value, err, errs)
		}
	}
}

func TestWrongUse(t *testing.T) {
	c := config(t, "ada")
	if _, err := embed.Open(within(t), c); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "Create or Join") {
		t.Errorf("no node: %v", err)
	}
	ada := create(t, c)
	if _, err := embed.Create(within(t), c); !errors.Is(err, embed.ErrExists) {
		t.Errorf("a second cluster in the folder: %v", err)
	}
	other := create(t, config(t, "eve"))
	token, err := other.Token(within(t), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	d := config(t, "dee")
	d.Seeds = []string{ada.Address()}
	if _, err := embed.Join(within(t), d, token); !errors.Is(err, fabric.ErrOtherCluster) {
		t.Errorf("another cluster's token: %v", err)
	}
	if _, err := embed.Join(within(t), d, "x"); err == nil {
		t.Error("no token")
	}
	b := config(t, "Not A Name")
	if _, err := embed.Create(within(t), b); err == nil {
		t.Error("a name with spaces passes")
	}
	if err := ada.Close(); err != nil {
		t.Error(err)
	}
	if err := ada.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

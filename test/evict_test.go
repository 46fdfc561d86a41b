package test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/rotation"
	"orrery/fabric/rpc"
)

// forge makes a certificate as whoever has a node's folder can: with the CA's key that is in it, without the cluster.
func forge(t *testing.T, stolen, name string, role fabric.Role) *authority.Authority {
	t.Helper()
	thief, err := authority.Open(filepath.Join(stolen, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	registrar, err := authority.NewRegistrar(thief, &authoritytest.Table{})
	if err != nil {
		t.Fatal(err)
	}
	c := authoritytest.Cluster{First: thief, Registrar: registrar}
	return c.Admit(t, name, role)
}

// calls asks a node for the members as the holder of a certificate.
func calls(t *testing.T, holder *authority.Authority, address string) error {
	t.Helper()
	client := rpc.NewClient(rpc.ClientConfig{Authority: holder, Errors: rpc.FabricErrors()})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := rpc.Call[struct{}, struct{}](ctx, client.Address(address), "/orrery.fabric.v1.Fabric/Members", &struct{}{})
	return err
}

func (n *node) address() string {
	n.Helper()
	all, err := ask[[]fabric.Member](n.cluster, n.dir, "members")
	for _, m := range all {
		if m.Name == n.name {
			return m.Address
		}
	}
	n.Fatalf("node %s does not know itself: %v", n.name, err)
	return ""
}

// A lost node is put out: whatever certificate comes from its disk is refused, its replicas are made anew, and its name is free.
func TestLostNodeIsPutOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one", "two", "three", "four")
	one, two := c.nodes["one"], c.nodes["two"]
	c.must(one.dir, "kv", "bucket", "create", "notes", "--factor", "3")
	operator := c.login("operator")
	c.must(operator, "members")
	if _, err := c.run(one.dir, "node", "evict", "two"); err == nil || !strings.Contains(err.Error(), "alive") || !strings.Contains(err.Error(), "orrery node leave") {
		t.Fatalf("a living node: %v", err)
	}
	c.refused([]string{"cannot put itself out"}, one.dir, "node", "evict", "one")
	c.refused([]string{"node nobody: not found"}, one.dir, "node", "evict", "nobody")

	two.kill()
	c.nodes["three"].awaitDead("two")
	if said := c.must(one.dir, "node", "evict", "two", "--dry-run"); !strings.Contains(said, "to do: refuse its certificate") {
		t.Errorf("--dry-run says %s", said)
	}
	plan, err := ask[authority.Eviction](c, c.nodes["three"].dir, "node", "evict", "two", "--why", "stolen")
	if err != nil || plan.Name != "two" || plan.Done.IsZero() {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, n := range []string{"one", "three", "four"} {
		c.nodes[n].awaitAlive(3)
		if state, err := c.nodes[n].sees("two"); err != nil || state != "" {
			t.Errorf("%s has it among its members as %q, %v", n, state, err)
		}
	}
	if gossipKeys(two) == gossipKeys(one) {
		t.Error("it still knows the key of the gossip")
	}
	c.whole()
	c.must(c.nodes["four"].dir, "node", "evict", string(plan.ID)) // once more changes nothing
	c.must(operator, "members")

	// Its own certificate, and what it can sign itself.
	for _, who := range []*authority.Authority{forge(t, two.dir, "ghost", fabric.RoleNode), forge(t, two.dir, "dana-operator", fabric.RoleOperator)} {
		if err := calls(t, who, one.address()); !errors.Is(err, fabric.ErrForbidden) || !strings.Contains(err.Error(), "not admitted by a token") {
			t.Errorf("forged certificate of a %s: %v", who.Identity().Role, err)
		}
	}
	own, err := authority.Open(filepath.Join(two.dir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	if err := calls(t, own, one.address()); !errors.Is(err, fabric.ErrEvicted) || !strings.Contains(err.Error(), "stolen") {
		t.Errorf("its own certificate: %v", err)
	}
	two.launch()
	two.awaitEnd()
	if log := tail(filepath.Join(c.dir, "two.log"), 1000); !strings.Contains(log, "was put out of the cluster by") || !strings.Contains(log, "fresh token") {
		t.Errorf("started again it said: %s", log)
	}

	// With a token it is welcome, but not under its old identity.
	again := strings.TrimSpace(c.must(one.dir, "node", "token"))
	for _, file := range []string{"node.json", "identity/identity.json"} {
		if err := os.Remove(filepath.Join(two.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	join := append([]string{"node", "join", again}, local(t, "two")...)
	c.refused([]string{"put out of the cluster", "fresh folder"}, two.dir, join...)
	if err := os.RemoveAll(two.dir); err != nil {
		t.Fatal(err)
	}
	c.must(two.dir, join...)
	two.start()
	one.awaitAlive(4)
}

// awaitEnd waits until the node has ended by itself.
func (n *node) awaitEnd() {
	n.Helper()
	eventually(n.T, 30*time.Second, func() error {
		if n.process.running() {
			return errors.New(n.name + " still runs")
		}
		return nil
	})
}

// Whoever puts a node out may be killed at any step; another one goes on.
func TestEvictionGoesOn(t *testing.T) {
	t.Parallel()
	names := []string{"one", "two", "three", "four", "five"}
	c := newCluster(t, names...)
	c.must(c.nodes["one"].dir, "kv", "bucket", "create", "notes", "--factor", "3")
	c.nodes["five"].kill()
	id := ""
	for _, name := range names[:4] {
		c.nodes[name].awaitDead("five")
	}
	kills := []int{1, 3, 6}
	if full() {
		kills = []int{1, 2, 3, 4, 5, 6, 7}
	}
	for i, steps := range kills {
		by := c.nodes[names[i%3]]
		p := c.command(t.Context(), by.dir, "node", "evict", "five")
		if id != "" {
			p.Args[len(p.Args)-1] = id // its name may be free by now
		}
		said, err := p.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		command := launch(t, p)
		for lines := bufio.NewScanner(said); steps > 0 && lines.Scan(); steps-- {
			t.Log(by.name, lines.Text())
		}
		by.kill()
		<-command.done
		by.start()
		all, err := ask[[]authority.Eviction](c, c.nodes["four"].dir, "node", "evicted")
		if err != nil || len(all) != 1 || all[0].Name != "five" {
			t.Fatalf("%+v, %v", all, err)
		}
		id = string(all[0].ID)
	}
	c.must(c.nodes["four"].dir, "node", "evict", id)
	all, err := ask[[]authority.Eviction](c, c.nodes["one"].dir, "node", "evicted")
	if err != nil || all[0].Done.IsZero() || all[0].Out.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
	for _, name := range names[:4] {
		c.nodes[name].awaitAlive(4)
		if gossipKeys(c.nodes[name]) == gossipKeys(c.nodes["five"]) {
			t.Errorf("%s has the old key of the gossip", name)
		}
	}
	c.whole()
}

// gossipKeys are the keys that a node keeps.
func gossipKeys(n *node) string {
	n.Helper()
	keys, err := os.ReadFile(filepath.Join(n.dir, "identity", "gossip.key"))
	if err != nil {
		n.Fatal(err)
	}
	return string(keys)
}

// The key of the gossip changes while nodes are away, or come; whoever coordinates may be killed.
func TestGossipKeyIsChanged(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one", "two", "three")
	one, two, three := c.nodes["one"], c.nodes["two"], c.nodes["three"]
	four := &node{cluster: c, name: "four", dir: filepath.Join(c.dir, "four")}
	c.must(four.dir, append([]string{"node", "join", strings.TrimSpace(c.must(one.dir, "node", "token"))}, local(t, "four")...)...)
	c.nodes["four"] = four
	three.kill()
	one.awaitDead("three")
	old := gossipKeys(one)
	rotated, err := ask[struct {
		Key, Phase string
		Steps      []rotation.Step
	}](c, one.dir, "node", "rotate-key")
	away := map[string]int{}
	for _, s := range rotated.Steps {
		if s.Away != "" {
			away[s.Name]++
		}
	}
	if err != nil || rotated.Phase != "done" || len(rotated.Steps) != 12 || away["three"] != 3 || away["four"] != 3 || len(away) != 2 {
		t.Fatalf("%+v, %v", rotated, err)
	}
	three.start()
	four.start()
	one.awaitAlive(4)

	killed := launch(t, c.command(t.Context(), two.dir, "node", "rotate-key"))
	two.kill()
	<-killed.done
	one.awaitDead("two")
	if said := c.must(one.dir, "node", "rotate-key"); !strings.Contains(said, "node four has forgotten the others") {
		t.Errorf("it says %s", said)
	}
	two.start()
	for _, n := range c.nodes {
		n.awaitAlive(4)
		eventually(t, 20*time.Second, func() error {
			if keys := gossipKeys(n); keys == old || keys != gossipKeys(one) || strings.Count(keys, "\n") != 1 {
				return errors.New(n.name + " has not the one new key")
			}
			return nil
		})
	}
}

// sees is the state in which the node has another one among its members; empty if it has not.
func (n *node) sees(name string) (string, error) {
	all, err := ask[[]member](n.cluster, n.dir, "members")
	for _, m := range all {
		if m.Name == name {
			return m.State, nil
		}
	}
	return "", err
}

func (n *node) awaitDead(name string) {
	n.Helper()
	eventually(n.T, 40*time.Second, func() error {
		state, err := n.sees(name)
		if err == nil && state != "dead" {
			err = errors.New(name + " is " + state)
		}
		return err
	})
}

// A node that is put out while it lives ends, and a person whose certificate is revoked hears why. The first node may lead the table.
func TestLivingNodeIsPutOut(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one", "two", "three")
	one, two := c.nodes["one"], c.nodes["two"]
	viewer := c.login("viewer")
	c.must(viewer, "members")
	c.whole() // what the nodes share is on all of them: nobody is put out who alone has it
	c.must(two.dir, "node", "evict", "one", "--alive")
	one.awaitEnd()
	if one.process.ProcessState.ExitCode() == 0 {
		t.Error("the node ended as if nothing were wrong")
	}
	two.awaitAlive(2)
	c.must(two.dir, "kv", "bucket", "create", "notes")

	c.must(viewer, "members")
	c.must(two.dir, "login", "revoke", "dana-viewer", "--why", "left the team")
	c.refused([]string{"put out of the cluster", "left the team"}, viewer, "members")
	c.refused([]string{"nobody is logged in as dana-viewer"}, two.dir, "login", "revoke", "dana-viewer")
	all, err := ask[[]authority.Eviction](c, two.dir, "node", "evicted")
	if err != nil || len(all) != 2 || all[0].Done.IsZero() || all[1].Done.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
}

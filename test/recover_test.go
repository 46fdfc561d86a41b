package test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/placement"
)

// The one node that has a bucket is lost. An operator lets it begin anew, with nothing; when the node comes back after all its data are not taken for newer.
func TestChainIsRecovered(t *testing.T) {
	names := hosts(3)
	c := newCluster(t, names...)
	dir := c.nodes["one"].dir
	eventually(t, 30*time.Second, func() error {
		_, err := c.run(dir, "kv", "bucket", "create", "b", "--factor", "1")
		return err
	})
	put := func(key, value string) {
		t.Helper()
		eventually(t, 30*time.Second, func() error {
			_, err := c.run(dir, "kv", "put", "b", key, value)
			return err
		})
	}
	put("old", "1")
	members, err := ask[[]fabric.Member](c, dir, "members")
	if err != nil {
		t.Fatal(err)
	}
	o, err := c.overview()
	if err != nil {
		t.Fatal(err)
	}
	var lost *node
	for _, m := range members {
		if m.ID == ofBucket(o, "b").Members[0].Node {
			lost = c.nodes[m.Name]
		}
	}
	lost.kill()
	for _, n := range c.nodes {
		if n != lost {
			dir = n.dir
		}
	}
	var plan string
	eventually(t, 30*time.Second, func() error {
		plan, err = c.run(dir, "kv", "recover", "b", "--empty", "--dry-run")
		return err
	})
	if !strings.Contains(plan, "would begin anew with no keys") || !strings.Contains(plan, lost.name+" may return") {
		t.Errorf("the plan says: %s", plan)
	}
	if _, err := c.run(dir, "kv", "recover", "b", "--empty"); err == nil {
		t.Error("a chain is recovered without --accept-data-loss")
	}
	if _, err := c.run(dir, "kv", "recover", "b", "--accept-data-loss"); err == nil || !strings.Contains(err.Error(), "may return") {
		t.Errorf("a node that may return is given up: %v", err)
	}
	if _, err := c.run(dir, "kv", "recover", "b", "--accept-data-loss", "--force"); err == nil || !strings.Contains(err.Error(), "--empty") {
		t.Errorf("a chain begins with nothing unasked: %v", err)
	}
	out, err := c.run(dir, "kv", "recover", "b", "--accept-data-loss", "--force", "--empty")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s%s", plan, out)
	put("new", "1")
	lost.start()
	eventually(t, 30*time.Second, func() error { // it is told to delete what it has
		o, err := c.overview()
		if err != nil {
			return err
		}
		b := ofBucket(o, "b")
		for _, n := range o.Nodes {
			others := 0
			for _, c := range o.Chains {
				if c.ID != b.ID && c.On(n.ID) >= 0 {
					others++
				}
			}
			if n.ID != b.Members[0].Node && n.Replicas > others {
				return fmt.Errorf("node %s has a replica", n.ID)
			}
		}
		if !b.Recovery.Empty || b.Recovery.By == "" || len(o.Nodes) < 3 {
			return fmt.Errorf("%+v", b.Recovery)
		}
		return nil
	})
	if text, err := c.run(dir, "kv", "chains"); err != nil || !strings.Contains(text, "begun anew by") {
		t.Errorf("kv chains: %s, %v", text, err)
	}
	if got, err := c.run(dir, "kv", "get", "b", "new"); err != nil || !strings.Contains(got, "1") {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := c.run(dir, "kv", "get", "b", "old"); err == nil {
		t.Errorf("a key that was given up is there: %q", got)
	}
	if o, err := c.overview(); err != nil || ofBucket(o, "b").Line == (placement.Chain{}).Line {
		t.Error(errors.Join(err, errors.New("the chain's record does not say that it began anew")))
	}
}

// In a bucket that is not synced nothing is lost while one node of a chain does not crash, and nothing when all are shut down in order. When all crash, its chains begin anew
// with what is left.
func TestUnsyncedChainsSurvive(t *testing.T) {
	names := hosts(3)
	c := newCluster(t, names...)
	s := startChains(c, names, "--durability", "replicated")
	for round := range rounds(2) {
		s.more(100)
		n := s.member(2 * round % 3)
		n.kill()
		s.more(50)
		n.start()
		s.whole()
	}
	s.end()
	dir := c.nodes["one"].dir
	if _, err := c.run(dir, "kv", "put", "b", "last", "word"); err != nil {
		t.Fatal(err)
	}
	all := func(end func(*node), anew bool) {
		t.Helper()
		for _, n := range c.nodes {
			end(n)
		}
		for _, n := range c.nodes {
			n.launch()
		}
		for _, n := range c.nodes {
			n.awaitAnswer()
		}
		eventually(t, 60*time.Second, func() error {
			for _, v := range s.whole().Chains {
				if (v.Recovery != nil) != (anew && v.Unsynced) {
					return fmt.Errorf("chain %d: %s", v.ID, v.Reason)
				}
			}
			return nil
		})
	}
	all(func(n *node) {
		if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, func() error {
			if n.process.running() {
				return errors.New("it runs still")
			}
			return nil
		})
	}, false)
	if got, err := c.run(dir, "kv", "get", "b", "last"); err != nil || !strings.Contains(got, "word") {
		t.Errorf("%q, %v", got, err)
	}
	all(func(n *node) { n.kill() }, true)
	if text, err := c.run(dir, "kv", "chains"); err != nil || !strings.Contains(text, "not synced") || !strings.Contains(text, "because all had crashed") {
		t.Errorf("%s, %v", text, err)
	}
	if got, err := c.run(dir, "kv", "get", "b", "last"); err != nil || !strings.Contains(got, "word") { // it was on disks long ago
		t.Errorf("%q, %v", got, err)
	}
}

// ofBucket is the first chain of a bucket.
func ofBucket(o placement.Overview, bucket string) placement.ChainView {
	for _, c := range o.Chains {
		if c.Bucket == bucket {
			return c
		}
	}
	return placement.ChainView{}
}

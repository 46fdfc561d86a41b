package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/fabric/authority"
	"orrery/fabric/table"
	"orrery/session"
)

// older makes a node's folder, of which nothing has run yet, one of a cluster that was made before the shared keys went into a bucket.
func (c *cluster) older(dir string) {
	c.Helper()
	holder, err := authority.Open(filepath.Join(dir, "identity"))
	if err != nil {
		c.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "node.json"))
	if err != nil {
		c.Fatal(err)
	}
	var settings struct{ Listen string }
	if err := json.Unmarshal(text, &settings); err != nil {
		c.Fatal(err)
	}
	folder := filepath.Join(dir, "table")
	if err := os.RemoveAll(folder); err != nil {
		c.Fatal(err)
	}
	if err := table.Create(table.Config{Self: holder.Identity().ID, Directory: folder}, settings.Listen); err != nil {
		c.Fatal(err)
	}
}

// olderCluster is a cluster whose shared keys are in the Raft table.
func olderCluster(t *testing.T, names ...string) *cluster {
	t.Helper()
	return newClusterOf(t, func(c *cluster, n *node) {
		if n.name == names[0] {
			c.older(n.dir)
		}
	}, names...)
}

// moved is what a test reads of orrery kv migrate.
type moved struct {
	Phase   string
	Keys    int
	Nodes   []struct{ Name, Error string }
	Problem string
}

// seen is what there is of services and sessions, as a node sees it.
func (c *cluster) seen(n *node) (string, error) {
	services, err := ask[[]deployed](c, n.dir, "deploy", "status")
	if err != nil {
		return "", err
	}
	sessions, err := ask[[]session.Session](c, n.dir, "session", "list")
	if err != nil {
		return "", err
	}
	var all []string
	for _, s := range services {
		all = append(all, fmt.Sprint(s.Service, " on ", s.Node, " epoch ", s.Epoch))
	}
	for _, s := range sessions {
		all = append(all, "session "+s.Name)
	}
	slices.Sort(all)
	return strings.Join(all, ", "), nil
}

// The shared keys of an older cluster are moved while its services are used. Whichever step the nodes that do it are killed at, one after the other, the cluster goes on,
// nothing is lost, and the command may be given again.
func TestMigration(t *testing.T) {
	points := []string{"", "shared.copied"}
	if full() {
		points = append(points, "shared.sealed", "shared.confirmed", "shared.copy", "shared.opened")
	}
	for _, point := range points {
		t.Run("killed at "+point, func(t *testing.T) {
			t.Parallel()
			migration(t, point)
		})
	}
}

func migration(t *testing.T, point string) {
	t.Helper()
	c := olderCluster(t, "one", "two", "three")
	one, two, three := c.nodes["one"], c.nodes["two"], c.nodes["three"]
	c.observatory()
	c.must(one.dir, "session", "create", "--session", "green", "--fork", "notes")
	before, err := c.seen(one)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.sky.write("before"); err != nil {
		t.Fatal(err)
	}
	if plan, err := ask[moved](c, two.dir, "kv", "migrate", "--dry-run"); err != nil || plan.Phase != "" || plan.Keys == 0 || len(plan.Nodes) != 3 || plan.Problem != "" {
		t.Fatalf("the plan is %+v, %v", plan, err)
	}
	// Nobody who is not there can say that it can follow.
	three.kill()
	c.refused([]string{"it cannot be done now", "three", "does not say that it can follow"}, two.dir, "kv", "migrate")
	// Nor can a node of an older version.
	three.faults = "shared.able=error"
	three.start()
	c.refused([]string{"it cannot be done now", "three", "does not say that it can follow"}, two.dir, "kv", "migrate")
	three.kill()
	three.faults = ""
	three.start()

	for _, n := range c.nodes {
		if point != "" {
			n.kill()
			n.faults = point + "=kill"
			n.start()
		}
	}
	stop := c.sky.busy(t, "meanwhile")
	killed := 0
	revive := func() {
		for _, n := range c.nodes {
			if !n.process.running() {
				killed++
				n.faults = ""
				n.start()
			}
		}
	}
	eventually(t, 90*time.Second, func() error {
		revive()
		brief, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		said, err := c.command(brief, three.dir, "kv", "migrate").Output()
		if err == nil && !strings.Contains(string(said), "are in bucket system") {
			err = fmt.Errorf("it says %s", said)
		}
		return err
	})
	for _, n := range c.nodes {
		eventually(t, 30*time.Second, func() error {
			revive() // one that was late came to the step now
			after, err := c.seen(n)
			if err == nil && after != before {
				err = fmt.Errorf("%s sees %s, and before it was %s", n.name, after, before)
			}
			return err
		})
	}
	stop()
	if (killed > 0) != (point != "") {
		t.Errorf("%d nodes were killed", killed)
	}
	if err := c.sky.complete(); err != nil {
		t.Error(err)
	}
	if c.sky.refused > 0 && killed == 0 {
		t.Errorf("%d requests failed", c.sky.refused)
	}
	if said := c.must(one.dir, "kv", "migrate"); !strings.Contains(said, "are in bucket system") {
		t.Errorf("once more says %s", said)
	}

	// All goes on: deployment, with a move of state, and sessions.
	c.place("three")
	c.must(two.dir, "deploy", "apply", c.manifest)
	if notes, err := c.service("three", "notes"); err != nil || notes.Node != "three" {
		t.Errorf("%+v, %v", notes, err)
	}
	c.must(three.dir, "session", "delete", "green")
	c.must(two.dir, "session", "create", "--session", "blue", "--fork", "notes")
	if err := c.sky.write("after"); err != nil {
		t.Error(err)
	}

	// A node of an older version does not become one of the cluster's before it has this one.
	token := strings.TrimSpace(c.must(one.dir, "node", "token"))
	four := &node{cluster: c, name: "four", dir: filepath.Join(c.dir, "four"), faults: "shared.able=error"}
	c.nodes["four"] = four
	c.must(four.dir, append([]string{"node", "join", token}, local(t, "four")...)...)
	four.launch()
	refused := func() bool {
		for _, n := range []string{"one", "two", "three"} {
			log, err := os.ReadFile(filepath.Join(c.dir, n+".log"))
			if err == nil && strings.Contains(string(log), "node four cannot be part of the table") {
				return true
			}
		}
		return false
	}
	eventually(t, 30*time.Second, func() error {
		if !refused() {
			return errors.New("node four is not refused")
		}
		return nil
	})
	four.kill()
	four.faults = ""
	four.start()
	eventually(t, 30*time.Second, func() error {
		after, err := c.seen(four)
		if err == nil && !strings.Contains(after, "notes on three") {
			err = fmt.Errorf("it sees %s", after)
		}
		return err
	})
}

// Placements, routes and sessions are there while any two of three nodes are, whichever of them leads, and again when a majority is back.
func TestSharedKeysSurviveNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one", "two", "three")
	c.whole()
	c.observatory(`nodes: \[.*\]`, `nodes: ["one"]`, `(notes:\s*)"two"`, `${1}"one"`)
	one, two, three := c.nodes["one"], c.nodes["two"], c.nodes["three"]
	session := 0
	try := func(via *node) error {
		session++
		name := fmt.Sprint("s", session)
		if _, err := c.run(via.dir, "session", "create", "--session", name, "--fork", "notes"); err != nil {
			return err
		}
		_, err := c.run(via.dir, "session", "delete", name)
		return err
	}
	for _, lost := range []*node{two, three} {
		lost.kill()
		if err := try(one); err != nil {
			t.Errorf("without %s: %v", lost.name, err)
		}
		lost.start()
		c.whole()
	}
	before, err := c.seen(two)
	if err != nil {
		t.Fatal(err)
	}
	one.kill() // it has the services, and was the first to lead
	eventually(t, 30*time.Second, func() error {
		after, err := ask[[]deployed](c, two.dir, "deploy", "status")
		if err == nil && len(after) != 3 {
			err = fmt.Errorf("%d services", len(after))
		}
		return err
	})
	two.kill()
	eventually(t, 30*time.Second, func() error { // once its lease is over
		brief, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if out, err := c.command(brief, three.dir, "deploy", "status").Output(); err == nil {
			return fmt.Errorf("without a majority it sees %s", out)
		}
		return nil
	})
	two.start()
	one.start()
	c.whole()
	for _, n := range c.nodes {
		eventually(t, 30*time.Second, func() error {
			after, err := c.seen(n)
			if err == nil && after != before {
				err = fmt.Errorf("%s sees %s, not %s", n.name, after, before)
			}
			return err
		})
	}
	eventually(t, 30*time.Second, func() error { return c.sky.write("after") })
	if err := try(three); err != nil {
		t.Error(err)
	}
}

// When all that had the records are lost for good, an operator begins anew without them, and applies the manifests again: what runs is found, with its state.
func TestLostRecords(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one")
	c.observatory(`nodes: \[.*\]`, `nodes: ["one"]`, `(notes:\s*)"two"`, `${1}"one"`)
	one := c.nodes["one"]
	if err := c.sky.write("before"); err != nil {
		t.Fatal(err)
	}
	one.kill()
	if err := os.RemoveAll(filepath.Join(one.dir, "chains")); err != nil {
		t.Fatal(err)
	}
	one.start()
	eventually(t, 30*time.Second, func() error {
		said, err := c.run(one.dir, "kv", "chains")
		if err == nil && !strings.Contains(said, "all that served are gone") {
			err = errors.New(said)
		}
		return err
	})
	c.must(one.dir, "kv", "recover", "system", "--accept-data-loss", "--force", "--empty")
	eventually(t, 60*time.Second, func() error {
		all, err := ask[[]deployed](c, one.dir, "deploy", "status")
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("%+v", all)
		}
		return err
	})
	c.must(one.dir, "deploy", "apply", c.manifest)
	if notes, err := c.service("one", "notes"); err != nil || notes.Node != "one" {
		t.Errorf("%+v, %v", notes, err)
	}
	eventually(t, 30*time.Second, func() error { return c.sky.write("after") })
	if err := c.sky.complete(); err != nil {
		t.Error(err)
	}
}

package test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

// inSession lists the session components of all nodes.
func (c *cluster) inSession() ([]string, error) {
	var found []string
	for _, n := range c.nodes {
		all, err := ask[[]state.Status](c, n.dir, "component", "list")
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.Component.Session != "" {
				found = append(found, s.Component.Ref().String()+" on "+n.name)
			}
		}
	}
	return found, nil
}

// login redeems a fresh token of a role and returns the login's folder.
func (c *cluster) login(role string) string {
	c.Helper()
	dir := filepath.Join(c.dir, "login-"+role)
	token := strings.TrimSpace(c.must(c.nodes["one"].dir, "node", "token", "--role", role))
	c.must(dir, "login", token, "--name", "dana-"+role, "--loopback")
	return dir
}

// develop starts session develop as a process, with the blue sky on a fork of the notes, and waits until it is ready.
func (c *cluster) develop(laptop, name string) *process {
	c.Helper()
	log, err := os.Create(filepath.Join(c.dir, "develop.log"))
	if err != nil {
		c.Fatal(err)
	}
	defer log.Close()
	cmd := c.command(context.Background(), laptop, "session", "develop", "sky", "--session", name,
		"--run", filepath.Join(filepath.Dir(c.manifest), "bin", "sky-blue"), "--fork", "notes")
	cmd.Stdout, cmd.Stderr = log, log
	p := launch(c.T, cmd)
	eventually(c.T, 60*time.Second, func() error {
		said := tail(log.Name(), 2000)
		if !p.running() {
			c.Fatalf("session develop ended: %s", said)
		}
		if !strings.Contains(said, "is ready") {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	return p
}

// A laptop that disappears takes its session along: its forks are deleted, its requests refused, and production notices nothing.
func TestLaptopDies(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one", "two", "three")
	c.observatory()
	for i := range 20 {
		if err := c.sky.write(fmt.Sprintf("before %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	laptop := c.login("developer")
	p := c.develop(laptop, "blue")
	blue := c.sky.marked("blue")
	if err := blue.write("blue's own"); err != nil {
		t.Fatal(err)
	}
	own, err := blue.notes()
	if err != nil || own["blue's own"] != 1 || own["before 3"] != 1 {
		t.Fatalf("the session sees %d notes: %v", len(own), err)
	}
	if found, err := c.inSession(); err != nil || len(found) != 2 {
		t.Fatalf("the session's components are %v: %v", found, err)
	}
	stop := c.sky.busy(t, "meanwhile")
	p.kill()
	eventually(t, 40*time.Second, func() error {
		found, err := c.inSession()
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("there is still %v", found)
		}
		return err
	})
	eventually(t, 10*time.Second, func() error {
		code, content, err := blue.do(http.MethodGet, "/", nil)
		if err == nil && (code != http.StatusGone || !strings.Contains(string(content), "blue")) {
			err = fmt.Errorf("a request of the ended session is answered %d: %.200s", code, content)
		}
		return err
	})
	stop()
	if err := c.sky.complete(); err != nil {
		t.Fatal(err)
	}
	if c.sky.refused > 0 {
		t.Errorf("%d requests without a mark failed", c.sky.refused)
	}
	found, err := c.sky.notes()
	if err != nil || found["blue's own"] != 0 {
		t.Errorf("a note of the session is in production: %v", err)
	}
	if list := c.must(c.nodes["one"].dir, "session", "list"); strings.Contains(list, "blue") {
		t.Errorf("the session is still listed: %s", list)
	}
	// The name is free again.
	c.develop(laptop, "blue").kill()
}

// Roles admit to what they name and to no more.
func TestRoles(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one")
	c.observatory(`nodes: \[.*\]`, `nodes: ["one"]`, `(notes:\s*)"two"`, `${1}"one"`)
	developer, viewer, operator := c.login("developer"), c.login("viewer"), c.login("operator")
	sky := filepath.Join(filepath.Dir(c.manifest), "bin", "sky-blue")
	for _, dir := range []string{developer, viewer} {
		c.must(dir, "deploy", "status")
		c.refused([]string{"forbidden", "operator"}, dir, "deploy", "remove", "observatory")
		c.refused([]string{"forbidden"}, dir, "deploy", "backup", "observatory")
		c.refused([]string{"forbidden"}, dir, "deploy", "apply", c.manifest)
		c.refused([]string{"forbidden"}, dir, "node", "token")
		c.refused([]string{"forbidden"}, dir, "node", "leave")
		c.refused([]string{"forbidden"}, dir, "component", "list", "--on", "one")
	}
	c.refused([]string{"forbidden"}, viewer, "session", "create", "--session", "red", "--fork", "notes")
	c.refused([]string{"forbidden"}, viewer, "session", "develop", "sky", "--session", "red", "--run", sky)
	c.must(developer, "session", "create", "--session", "green", "--fork", "notes")
	c.refused([]string{"forbidden"}, viewer, "session", "delete", "green")
	c.must(operator, "deploy", "apply", c.manifest)
	c.must(operator, "session", "delete", "green")
	if err := c.sky.write("still here"); err != nil {
		t.Error(err)
	}
	c.refused([]string{"node one cannot leave", "catalog", "notes", "sky", "deploy remove"}, c.nodes["one"].dir, "node", "leave")
	info, err := os.Stat(filepath.Join(c.nodes["one"].dir, "node.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("node.sock: %v %v", info.Mode(), err)
	}
}

// A node that nothing lives on, and that nobody needs for its keys, may leave, and its folder may join again.
func TestNodeLeaves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one", "two")
	one, two := c.nodes["one"], c.nodes["two"]
	c.must(one.dir, "kv", "drain", "one")
	c.must(one.dir, "kv", "bucket", "create", "b", "--factor", "1")
	eventually(t, 30*time.Second, func() error {
		_, err := c.run(one.dir, "kv", "put", "b", "key", "value")
		return err
	})
	c.refused([]string{"node two cannot leave", "nobody else has the keys of chain", "orrery kv drain two"}, two.dir, "node", "leave")
	c.must(one.dir, "kv", "drain", "one", "--undo")
	c.must(one.dir, "kv", "drain", "two")
	eventually(t, 60*time.Second, func() error {
		_, err := c.run(two.dir, "node", "leave")
		return err
	})
	<-two.process.done
	eventually(t, 30*time.Second, func() error {
		all, err := ask[[]member](c, c.nodes["one"].dir, "members")
		for _, m := range all {
			if m.Name == "two" && m.State == "alive" {
				return fmt.Errorf("%v", all)
			}
		}
		return err
	})
	token := strings.TrimSpace(c.must(c.nodes["one"].dir, "node", "token"))
	c.must(two.dir, append([]string{"node", "join", token}, local(t, "two")...)...)
	if _, err := os.Stat(filepath.Join(two.dir, "chains")); err == nil {
		t.Error("the folder still has chains of before")
	}
	two.start()
	c.nodes["one"].awaitAlive(2)
	if got := c.must(one.dir, "kv", "get", "b", "key"); strings.TrimSpace(got) != "value" {
		t.Errorf("%q", got)
	}
}

// A token admits once, for a while, to one cluster.
func TestTokens(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "one")
	one := c.nodes["one"].dir
	other := newCluster(t, "uno")
	join := func(name, token string) []string {
		return append([]string{"node", "join", token}, local(t, name)...)
	}
	settings, err := os.ReadFile(filepath.Join(other.nodes["uno"].dir, "node.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(settings), `"listen": "`)
	address, _, _ := strings.Cut(after, `"`)

	short := strings.TrimSpace(c.must(one, "node", "token", "--ttl", "1s"))
	<-time.After(1100 * time.Millisecond) // the one thing to wait for is time itself
	c.refused([]string{"expired", "issue a new one"}, filepath.Join(c.dir, "late"), join("late", short)...)

	token := strings.TrimSpace(c.must(one, "node", "token"))
	mistyped := []byte(token)
	mistyped[len(mistyped)/2] ^= 1
	c.refused([]string{"token"}, filepath.Join(c.dir, "typo"), join("typo", string(mistyped))...)
	c.refused([]string{"token"}, filepath.Join(c.dir, "typo"), join("typo", token[:len(token)-3])...)
	c.refused([]string{"cluster"}, filepath.Join(c.dir, "astray"), append(join("astray", token), "--address", address)...)
	c.must(filepath.Join(c.dir, "first"), join("first", token)...)
	c.refused([]string{"used"}, filepath.Join(c.dir, "second"), join("second", token)...)
	fresh := strings.TrimSpace(c.must(one, "node", "token"))
	c.refused([]string{"name"}, filepath.Join(c.dir, "third"), join("one", fresh)...)
	c.refused([]string{"orrery login"}, filepath.Join(c.dir, "fourth"), join("fourth", strings.TrimSpace(c.must(one, "node", "token", "--role", "viewer")))...)
	c.refused([]string{"role"}, one, "node", "token", "--role", "king")
}

package membership_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orrery/fabric"
	"orrery/fabric/membership"
)

// A probe that is under way when memberlist is shut down ends with its own timeout, which memberlist does not wait for.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

var key = []byte("0123456789abcdef0123456789abcdef")

// view is a running member and what it was told.
type view struct {
	*membership.Membership

	mu      sync.Mutex
	events  []membership.Event
	told    []fabric.Member
	history map[fabric.NodeID]map[fabric.MemberState]bool // all that was told
}

func config(cluster string, i int, keys ...[]byte) membership.Config {
	name := fmt.Sprintf("node-%d", i)
	return membership.Config{
		Identity: fabric.Identity{Cluster: cluster, ID: fabric.NodeID(fmt.Sprintf("%016x", i)), Name: name, Role: fabric.RoleNode},
		Version:  "test", RPC: fmt.Sprintf("127.0.0.1:%d", 1000+i), Bind: "127.0.0.1:0", Keys: keys, Profile: membership.Local,
	}
}

func start(t *testing.T, c membership.Config) *view {
	t.Helper()
	v := &view{history: map[fabric.NodeID]map[fabric.MemberState]bool{}}
	c.Changed = func(all []fabric.Member) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.told = all
		for _, m := range all {
			if v.history[m.ID] == nil {
				v.history[m.ID] = map[fabric.MemberState]bool{}
			}
			v.history[m.ID][m.State] = true
		}
	}
	c.Event = func(e membership.Event) { v.mu.Lock(); v.events = append(v.events, e); v.mu.Unlock() }
	m, err := membership.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	v.Membership = m
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return v
}

// beacon is what discovery would tell of v.
func (v *view) beacon() fabric.Beacon {
	return v.Beacons()[slices.IndexFunc(v.Beacons(), func(b fabric.Beacon) bool { return b.ID == v.Self().ID })]
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (v *view) state(id fabric.NodeID) fabric.MemberState {
	for _, m := range v.Members() {
		if m.ID == id {
			return m.State
		}
	}
	return ""
}

func (v *view) alive() (n int) {
	for _, m := range v.Members() {
		if m.State == fabric.MemberAlive {
			n++
		}
	}
	return n
}

func trio(t *testing.T) [3]*view {
	t.Helper()
	var all [3]*view
	for i := range all {
		all[i] = start(t, config("c1", i+1, key))
	}
	b := all[0].beacon()
	b.Via = "multicast"
	all[1].Found(b)
	all[2].Found(b)
	for _, v := range all {
		until(t, "three members", func() bool { return v.alive() == 3 })
	}
	return all
}

func TestThreeMembers(t *testing.T) {
	t.Parallel()
	all := trio(t)
	got := all[2].Members()
	if got[0].Via != "multicast" || got[1].Via != "gossip" || got[2].Via != "self" {
		t.Errorf("via %s, %s, %s", got[0].Via, got[1].Via, got[2].Via)
	}
	if m := got[0]; m.Name != "node-1" || m.Address != "127.0.0.1:1001" || m.Version != "test" || m.Since.IsZero() {
		t.Errorf("member %+v", m)
	}
	if all[2].Self().ID != got[2].ID {
		t.Errorf("self is %+v", all[2].Self())
	}
	if a, err := all[2].Lookup(t.Context(), got[0].ID); err != nil || a != "127.0.0.1:1001" {
		t.Errorf("lookup %s, %v", a, err)
	}
	if _, err := all[2].Lookup(t.Context(), "nobody"); err == nil {
		t.Error("nobody has an address")
	}
	until(t, "being told", func() bool { all[2].mu.Lock(); defer all[2].mu.Unlock(); return len(all[2].told) == 3 })
}

// TestMeta: what a node says of itself reaches the others, and may be other things after a restart.
func TestMeta(t *testing.T) {
	t.Parallel()
	c := config("c1", 1, key)
	c.Zone, c.Roles = "rack-1", []string{"storage", "gpu", "storage"}
	first, other := start(t, c), start(t, config("c1", 2, key))
	other.Found(first.beacon())
	seen := func(zone string, roles ...string) func() bool {
		return func() bool {
			m := other.Members()[0]
			return m.Zone == zone && slices.Equal(m.Roles, roles) && m.Version == "test" && m.State == fabric.MemberAlive
		}
	}
	until(t, "zone and roles", seen("rack-1", "gpu", "storage"))
	if self := first.Self(); self.Zone != "rack-1" || len(self.Roles) != 2 || len(other.Members()[1].Roles) != 0 {
		t.Errorf("%+v, %+v", self, other.Members())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	c.Zone, c.Roles = "", []string{"web"}
	again := start(t, c)
	again.Found(other.beacon())
	until(t, "other roles", seen("", "web"))
}

func TestCheckMeta(t *testing.T) {
	t.Parallel()
	if err := membership.CheckMeta("one", "127.0.0.1:7373", "", nil); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("r", 64)
	for want, c := range map[string]membership.Config{
		`zone "a b" is no name`:    {Zone: "a b"},
		`zone "\x1b" is no name`:   {Zone: "\x1b"},
		`role "" is no name`:       {Roles: []string{""}},
		`"` + long + `r" is no`:    {Roles: []string{long + "r"}},
		"bytes too long together,": {Roles: []string{long, "1" + long[1:], "2" + long[1:], "3" + long[1:], "4" + long[1:], "5" + long[1:], "6" + long[1:]}},
	} {
		if err := membership.CheckMeta("one", "127.0.0.1:7373", c.Zone, c.Roles); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, not %q", err, want)
		}
	}
}

func TestDeadAndBack(t *testing.T) {
	t.Parallel()
	all := trio(t)
	victim := all[2].Self().ID
	if err := all[2].Close(); err != nil {
		t.Fatal(err)
	}
	for _, v := range all[:2] {
		until(t, "death noticed", func() bool { return v.state(victim) == fabric.MemberDead })
	}
	// Back at another port, telling only one of them.
	back := start(t, config("c1", 3, key))
	back.Found(all[0].beacon())
	for _, v := range []*view{all[0], all[1], back} {
		until(t, "return noticed", func() bool { return v.alive() == 3 })
	}
	if a, b := all[1].Beacons()[2].Gossip, back.Gossip(); a != b {
		t.Errorf("known at %s, and it is at %s", a, b)
	}
}

// TestRestartElsewhere comes back before anybody noticed that it was gone.
func TestRestartElsewhere(t *testing.T) {
	t.Parallel()
	all := trio(t)
	if err := all[2].Close(); err != nil {
		t.Fatal(err)
	}
	back := start(t, config("c1", 3, key))
	back.Found(all[0].beacon())
	for _, v := range all[:2] {
		until(t, "the new address", func() bool { b := v.Beacons(); return len(b) == 3 && b[2].Gossip == back.Gossip() })
	}
}

// TestHeals cuts a member off by giving it another key: both sides of the cut see the other dead, and
// nobody is told of anybody afterwards.
func TestHeals(t *testing.T) {
	t.Parallel()
	all := trio(t)
	fresh := []byte("fresh key, fresh key, fresh key!")
	swap := func(v *view, to []byte) {
		if err := v.SetKeys([][]byte{to}); err != nil {
			t.Fatal(err)
		}
	}
	swap(all[2], fresh)
	until(t, "the cut", func() bool { return all[0].alive() == 2 && all[1].alive() == 2 && all[2].alive() == 1 })
	swap(all[2], key)
	for _, v := range all {
		until(t, "healing", func() bool { return v.alive() == 3 })
	}
}

func TestLeave(t *testing.T) {
	t.Parallel()
	all := trio(t)
	gone := all[2].Self().ID
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := all[2].Leave(ctx); err != nil {
		t.Fatal(err)
	}
	for _, v := range all[:2] {
		until(t, "leaving noticed", func() bool { return v.state(gone) == fabric.MemberLeft })
	}
	all[0].Forget(gone)
	if all[0].state(gone) != "" {
		t.Error("not forgotten")
	}
	all[0].Forget(all[1].Self().ID)
	if all[0].state(all[1].Self().ID) != fabric.MemberAlive {
		t.Error("a living member was forgotten")
	}
	if err := all[2].Leave(ctx); err == nil {
		t.Error("left twice")
	}
}

func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	all := trio(t)
	otherKey := start(t, config("c1", 8, []byte("another key, another key, anothe")))
	otherCluster := start(t, config("c2", 9, key))
	b := all[0].beacon()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for range 20 {
		otherKey.Found(b)
		b.Cluster = "c2" // a forged beacon
		otherCluster.Found(b)
		b.Cluster = "c1"
		<-again.C
	}
	if otherKey.alive() != 1 || otherCluster.alive() != 1 || all[0].alive() != 3 || len(all[0].Members()) != 3 {
		t.Errorf("members: %v, %v, %v", otherKey.Members(), otherCluster.Members(), all[0].Members())
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	all := trio(t)
	const n = 20
	for i := range n {
		if err := all[i%3].Broadcast("ping", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range all {
		want := n
		for k := range n {
			if k%3 == i {
				want--
			}
		}
		count := func() int { v.mu.Lock(); defer v.mu.Unlock(); return len(v.events) }
		until(t, "events", func() bool { return count() >= want })
		v.mu.Lock()
		seen := map[string]bool{}
		for _, e := range v.events {
			if seen[string(e.Payload)] || e.From == v.Self().ID || e.Name != "ping" || e.Time == 0 {
				t.Errorf("event %+v", e)
			}
			seen[string(e.Payload)] = true
		}
		v.mu.Unlock()
	}
	for name, payload := range map[string]string{"": "x", "big": strings.Repeat("x", membership.MaxEventPayload+1), "\x00leave": "", strings.Repeat("n", 65): ""} {
		if all[0].Broadcast(name, []byte(payload)) == nil {
			t.Errorf("event %q was sent", name)
		}
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	all := trio(t)
	fresh := []byte("fresh key, fresh key, fresh key!")
	steps := [][][]byte{{key, fresh}, {fresh, key}, {fresh}}
	for _, keys := range steps {
		for _, v := range all {
			if err := v.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
		if err := all[0].Broadcast("step", nil); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "events through all keys", func() bool { all[2].mu.Lock(); defer all[2].mu.Unlock(); return len(all[2].events) == len(steps) })
	late := start(t, config("c1", 4, fresh))
	late.Found(all[1].beacon())
	until(t, "a member with the fresh key", func() bool { return late.alive() == 4 })
}

// TestRefused puts a member out while it lives: nobody has it among the members any more, or takes it again.
func TestRefused(t *testing.T) {
	t.Parallel()
	var out atomic.Bool
	victim := config("c1", 3, key)
	var all []*view
	for i := range 3 {
		c := config("c1", i+1, key)
		if i < 2 {
			c.Refused = func(id fabric.NodeID) bool { return out.Load() && id == victim.Identity.ID }
		}
		all = append(all, start(t, c))
	}
	for _, v := range all[1:] {
		v.Found(all[0].beacon())
	}
	for _, v := range all {
		until(t, "all three", func() bool { return v.alive() == 3 })
	}
	out.Store(true)
	for _, v := range all[:2] {
		v.Expel()
		v.Found(all[2].beacon())
		if v.state(victim.Identity.ID) != "" {
			t.Errorf("it is still among the members of %s", v.Self().Name)
		}
	}
	// Says that it is there, as somebody else.
	back := config("c1", 3, key)
	back.Version = "another"
	if err := all[2].Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, back)
	again.Found(all[0].beacon())
	until(t, "it heard of the others", func() bool { return again.alive() == 3 })
	for _, v := range all[:2] {
		if v.state(victim.Identity.ID) != "" || v.alive() != 2 {
			t.Errorf("%s took it again", v.Self().Name)
		}
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	good := config("c1", 1, key)
	noKey, badKey, badBind, long, zone, role, many := good, good, good, good, good, good, good
	noKey.Keys, badKey.Keys, badBind.Bind, long.Version = nil, [][]byte{[]byte("short")}, "nowhere", strings.Repeat("v", 65)
	zone.Zone, role.Roles = "rack 1", []string{"a,b"}
	for i := range 20 {
		many.Roles = append(many.Roles, fmt.Sprintf("the-role-with-the-number-%d", i))
	}
	for _, c := range []membership.Config{noKey, badKey, badBind, long, zone, role, many} {
		if m, err := membership.Start(t.Context(), c); err == nil {
			_ = m.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}

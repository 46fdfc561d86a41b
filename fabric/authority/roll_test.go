package authority_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/internal/testenv"
)

// forged is a holder that the CA's key was used for without the cluster.
func forged(t *testing.T, c *authoritytest.Cluster, name string, role fabric.Role) fabric.Identity {
	t.Helper()
	r, err := authority.NewRegistrar(c.First, &authoritytest.Table{})
	if err != nil {
		t.Fatal(err)
	}
	thief := authoritytest.Cluster{First: c.First, Registrar: r}
	return thief.Admit(t, name, role).Identity()
}

// world is a roll, and what it is told by others.
type world struct {
	*authority.Roll
	belongs    atomic.Pointer[fabric.NodeID]
	introduced atomic.Pointer[fabric.NodeID]
	cut        atomic.Bool // the table does not answer
	ask        atomic.Pointer[func(fabric.Identity) error]
	changed    atomic.Int32
	asked      atomic.Int32
}

func is(p *atomic.Pointer[fabric.NodeID]) func(fabric.NodeID) bool {
	return func(id fabric.NodeID) bool { v := p.Load(); return v != nil && *v == id }
}

func openRoll(t *testing.T, table fabric.Table, self fabric.NodeID) *world {
	t.Helper()
	w := &world{}
	ctx, cancel := context.WithCancel(t.Context())
	var err error
	w.Roll, err = authority.OpenRoll(ctx, authority.RollConfig{
		Self: self, Table: table, Belongs: is(&w.belongs), Introduced: is(&w.introduced),
		Ready: func() bool { return !w.cut.Load() },
		Ask: func(_ context.Context, holder fabric.Identity) error {
			w.asked.Add(1)
			if ask := w.ask.Load(); ask != nil {
				return (*ask)(holder)
			}
			return fabric.ErrNotFound
		},
		Changed: func() { w.changed.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestRoll(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	self := c.First.Identity()
	w := openRoll(t, c.Table, self.ID)
	beta, ann := c.Admit(t, "beta", fabric.RoleNode).Identity(), c.Admit(t, "ann", fabric.RoleViewer).Identity()
	for _, holder := range []fabric.Identity{self, beta, ann} {
		if err := w.Admit(t.Context(), holder); err != nil {
			t.Errorf("%s: %v", holder.Name, err)
		}
	}
	king := ann
	king.Role = fabric.RoleOperator
	for _, holder := range []fabric.Identity{forged(t, c, "ghost", fabric.RoleNode), forged(t, c, "beta", fabric.RoleNode), forged(t, c, "ann", fabric.RoleViewer), king} {
		if err := w.Admit(t.Context(), holder); !errors.Is(err, fabric.ErrForbidden) || !strings.Contains(err.Error(), string(holder.ID)) {
			t.Errorf("forged certificate of %s %s: %v", holder.Role, holder.Name, err)
		}
	}
	// One that leaves gave its name back, and is needed until the table can do without it.
	leaver := forged(t, c, "leaver", fabric.RoleNode)
	w.belongs.Store(&leaver.ID)
	if err := w.Admit(t.Context(), leaver); err != nil {
		t.Errorf("one that leaves: %v", err)
	}
}

func TestPutOut(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	w := openRoll(t, c.Table, c.First.Identity().ID)
	beta, ann := c.Admit(t, "beta", fabric.RoleNode).Identity(), c.Admit(t, "ann", fabric.RoleViewer).Identity()
	e := authority.Eviction{ID: beta.ID, Name: "beta", Role: fabric.RoleNode, By: "bob", Why: "100% stolen", Begun: time.Now()}
	revision, err := c.Registrar.Evict(t.Context(), e, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Registrar.Evict(t.Context(), e, 0); !errors.Is(err, fabric.ErrConflict) {
		t.Errorf("two evict at once: %v", err)
	}
	if err := w.Admit(t.Context(), beta); err != nil {
		t.Errorf("before it is out: %v", err)
	}
	e.Out = time.Now()
	if _, err := c.Registrar.Evict(t.Context(), e, revision); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the roll has it", func() bool { return w.Out(beta.ID) != nil && w.changed.Load() > 0 })
	if err := w.Admit(t.Context(), beta); !errors.Is(err, fabric.ErrEvicted) || !strings.Contains(err.Error(), "by bob at") || !strings.Contains(err.Error(), "100% stolen") {
		t.Errorf("%v", err)
	}
	// A roll that is opened later has it from the start.
	if later := openRoll(t, c.Table, c.First.Identity().ID); later.Out(beta.ID) == nil {
		t.Error("a later roll has not")
	}

	people, err := c.Registrar.People(t.Context())
	if err != nil || len(people) != 1 || people[0].ID != ann.ID || people[0].Role != fabric.RoleViewer || !people[0].Expires.After(time.Now()) {
		t.Fatalf("%+v, %v", people, err)
	}
	for range 2 { // it may be repeated
		if err := c.Registrar.Revoke(t.Context(), people[0], "bob", "left"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.LookUp(t.Context(), ann); !errors.Is(err, fabric.ErrEvicted) {
		t.Errorf("a person whose certificate was revoked: %v", err)
	}
	all, err := c.Registrar.Evictions(t.Context())
	if people, _ := c.Registrar.People(t.Context()); err != nil || len(all) != 2 || len(people) != 0 {
		t.Errorf("%+v, %+v, %v", all, people, err)
	}
}

// A node whose copy of the table is behind asks others; who has no table yet knows those of whom it was told.
func TestRollIsBehind(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	beta := c.Admit(t, "beta", fabric.RoleNode).Identity()
	w := openRoll(t, &authoritytest.Table{}, "self")
	w.cut.Store(true)
	if err := w.Admit(t.Context(), beta); !errors.Is(err, fabric.ErrForbidden) {
		t.Errorf("nobody could be asked: %v", err)
	}
	for _, answer := range []error{nil, fabric.ErrEvicted, fabric.ErrForbidden} {
		ask := func(fabric.Identity) error { return answer }
		w.ask.Store(&ask)
		if err := w.Admit(t.Context(), beta); !errors.Is(err, answer) {
			t.Errorf("the others say %v: %v", answer, err)
		}
	}
	before := w.asked.Load()
	w.introduced.Store(&beta.ID)
	if err := w.Admit(t.Context(), beta); err != nil || w.asked.Load() != before {
		t.Errorf("who was introduced: %v", err)
	}
	self := fabric.NodeID("self")
	w.belongs.Store(&self) // now it has the table, which counts
	if err := w.Admit(t.Context(), beta); !errors.Is(err, fabric.ErrForbidden) || w.asked.Load() == before {
		t.Errorf("introduced, and not in the table: %v", err)
	}
	w.cut.Store(false)
	slow := func(fabric.Identity) error { return context.DeadlineExceeded }
	w.ask.Store(&slow)
	if err := w.Admit(t.Context(), beta); !errors.Is(err, fabric.ErrForbidden) {
		t.Errorf("the table says no: %v", err)
	}
}

// An identity that was put out gets in by no token.
func TestEvictedIdentityIsNotAdmitted(t *testing.T) {
	c := authoritytest.NewCluster(t, "alpha")
	candidate, err := authority.NewCandidate(t.TempDir(), "beta", issue(t, c, fabric.RoleNode))
	if err != nil {
		t.Fatal(err)
	}
	q, err := candidate.Request()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Registrar.Admit(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if _, err := c.Registrar.Evict(t.Context(), authority.Eviction{ID: answer.Identity.ID, Name: "beta", Role: fabric.RoleNode, Begun: now, Out: now, Done: now}, 0); err != nil {
		t.Fatal(err)
	}
	q.Token = issue(t, c, fabric.RoleNode).Encode()
	if _, err := c.Registrar.Admit(t.Context(), q); !errors.Is(err, fabric.ErrEvicted) {
		t.Errorf("%v", err)
	}
	if _, err := c.Registrar.Admit(t.Context(), request(t, "gamma", issue(t, c, fabric.RoleNode))); err != nil {
		t.Errorf("somebody else: %v", err)
	}
}

// A person's certificate ends after its 90 days, and a node renews its own.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := authoritytest.NewCluster(t, "alpha")
		ann, beta := c.Admit(t, "ann", fabric.RoleViewer), c.Admit(t, "beta", fabric.RoleNode)
		shown := func(a *authority.Authority) error {
			own, err := a.Certificate()
			if err != nil {
				return err
			}
			_, err = c.First.Verify([]*x509.Certificate{own.Leaf})
			return err
		}
		if err := shown(ann); err != nil {
			t.Fatal(err)
		}
		<-time.After(91 * 24 * time.Hour)
		if err := shown(ann); err == nil || !strings.Contains(err.Error(), "is not valid") {
			t.Errorf("a person after 91 days: %v", err)
		}
		<-time.After(400 * 24 * time.Hour)
		if err := shown(beta); err != nil {
			t.Errorf("a node after more than a year: %v", err)
		}
		// Records of people who expired long ago go when a token is issued.
		if _, err := c.Registrar.Issue(t.Context(), fabric.RoleViewer, 0); err != nil {
			t.Fatal(err)
		}
		if people, err := c.Registrar.People(t.Context()); err != nil || len(people) != 0 {
			t.Errorf("%+v, %v", people, err)
		}
	})
}

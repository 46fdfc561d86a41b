package keeper_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/keeper"
)

// Without a keeper a node shows what it knew last, and which voters are missing; with one it shows what that says.
func TestKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3)
		c.create()
		c.until(time.Second, "all serve", c.serve)
		heard := time.Date(2026, 11, 26, 14, 5, 4, 0, time.UTC)
		there := map[fabric.NodeID]bool{"n0": true}
		leader := fabric.NodeID("n0")
		a := &keeper.Anywhere{Self: "n0", Local: c.now(), Leader: func() fabric.NodeID { return leader }, Last: &keeper.Last{
			Table: c.table, Voters: func() []fabric.NodeID { return []fabric.NodeID{"n0", "n1", "n2"} }, Heard: func() time.Time { return heard },
			Ping: func(ctx context.Context, id fabric.NodeID) error {
				if there[id] {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			},
		}}
		fresh, err := a.Known(t.Context())
		if err != nil || fresh.Stale != nil || len(fresh.Chains) != 2 {
			t.Fatalf("%+v, %v", fresh, err)
		}
		leader = ""
		begun := time.Now()
		o, err := a.Known(t.Context())
		if err != nil || o.Stale == nil || len(o.Buckets) != 1 || len(o.Chains) != 2 || len(o.Chains[0].Members) != len(fresh.Chains[0].Members) || o.Chains[0].Epoch != fresh.Chains[0].Epoch {
			t.Fatalf("%+v, %v", o, err)
		}
		if d := time.Since(begun); d > 2*time.Second {
			t.Errorf("it took %v", d)
		}
		text := o.Stale.String()
		for _, part := range []string{"since 2026-11-26 14:05:04", "2 of 3 voters are needed, and n0 can be asked", "bring back n1 or n2"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q lacks %q", text, part)
			}
		}
		there["n2"] = true
		if o, err = a.Known(t.Context()); err != nil || !strings.Contains(o.Stale.String(), "2 of 3 voters are needed, and n0, n2 can be asked, so there should be one in a moment") {
			t.Errorf("%v, %v", o.Stale, err)
		}
		if _, err := a.Overview(t.Context()); !errors.Is(err, keeper.ErrNotKeeper) {
			t.Errorf("what others decide by is not known: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if o, err := a.Known(ended); err == nil {
			t.Errorf("nobody waits for the answer: %+v", o)
		}
	})
}

// Heard is when a keeper answered last.
func TestHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if h := new(keeper.Reporter).Heard(); !h.IsZero() { // one that runs may have heard of a keeper at once
			t.Errorf("heard at %v", h)
		}
		c := begin(t, 3)
		c.create()
		c.until(time.Second, "all serve", c.serve)
		pass(5 * time.Second)
		if h := c.members[0].reporter.Heard(); time.Since(h) > time.Second {
			t.Errorf("heard %v ago", time.Since(h))
		}
		c.table.lost.Store(true)
		lost := time.Now()
		pass(time.Minute)
		if h := c.members[0].reporter.Heard(); h.Before(lost.Add(-time.Second)) || h.After(lost.Add(time.Second)) {
			t.Errorf("heard %v after there was no majority any more", h.Sub(lost))
		}
	})
}

package traffic_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/session"
	"orrery/session/traffic"
)

// routers confirm what they are told to.
type routers struct {
	mu      sync.Mutex
	nodes   []fabric.NodeID
	silent  map[fabric.NodeID]bool // hang until the context ends
	refuses int                    // fail so many times first
	seen    []string
}

func (r *routers) Nodes() []fabric.NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nodes
}

func (r *routers) Await(ctx context.Context, node fabric.NodeID, service string, _ uint64) error {
	r.mu.Lock()
	silent := r.silent[node]
	refuse := r.refuses > 0
	if refuse {
		r.refuses--
	}
	r.seen = append(r.seen, string(node)+" "+service)
	r.mu.Unlock()
	if refuse {
		return errors.New("connection refused")
	}
	if silent {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func read(t *testing.T, table fabric.Table, service string) session.Route {
	t.Helper()
	e, err := table.Get(t.Context(), session.RoutePrefix+service)
	if err != nil {
		t.Fatal(err)
	}
	var r session.Route
	if err := json.Unmarshal(e.Value, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHoldSwitchRemove(t *testing.T) {
	table := memory.New()
	rs := &routers{nodes: []fabric.NodeID{"a", "b"}, refuses: 1}
	tr := traffic.New(traffic.Config{Table: table, Routers: rs, Pause: time.Millisecond})
	if err := tr.Hold(t.Context(), "notes"); err != nil {
		t.Errorf("holding what is not there: %v", err)
	}
	to := deploy.Endpoint{Node: "b", Address: "127.0.0.1:1"}
	if err := tr.Switch(t.Context(), "notes", to, &deploy.PublicOn{Node: "a", Address: ":0"}); err != nil {
		t.Fatal(err)
	}
	if err := tr.Hold(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	r := read(t, table, "notes")
	if !r.Held || r.Instance.Address != "127.0.0.1:1" || r.Public == nil || r.Public.Node != "a" {
		t.Errorf("held route %+v", r)
	}
	if err := tr.Switch(t.Context(), "notes", deploy.Endpoint{Node: "a", Address: "127.0.0.1:2"}, nil); err != nil {
		t.Fatal(err)
	}
	if r := read(t, table, "notes"); r.Held || r.Instance.Node != "a" || r.Public != nil {
		t.Errorf("switched route %+v", r)
	}
	for range 2 {
		if err := tr.Remove(t.Context(), "notes"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.Get(t.Context(), session.RoutePrefix+"notes"); !errors.Is(err, fabric.ErrNotFound) {
		t.Error(err)
	}
}

func TestSilentRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := memory.New()
		rs := &routers{nodes: []fabric.NodeID{"a", "b"}, silent: map[fabric.NodeID]bool{"b": true}}
		tr := traffic.New(traffic.Config{Table: table, Routers: rs})
		began := time.Now()
		if err := tr.Switch(t.Context(), "notes", deploy.Endpoint{Node: "a", Address: "x:1"}, nil); err != nil {
			t.Errorf("a switch needs no confirmation: %v", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("switch waited %v", took)
		}
		if err := tr.Hold(t.Context(), "notes"); err == nil {
			t.Error("held, while a router may still send")
		}
		go func() {
			time.Sleep(time.Second)
			rs.mu.Lock()
			defer rs.mu.Unlock()
			rs.nodes = []fabric.NodeID{"a"}
		}()
		if err := tr.Hold(t.Context(), "notes"); err != nil {
			t.Errorf("hold waits for a dead node: %v", err)
		}
	})
}

package dashboard

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// shown is a source whose view a test sets.
type shown struct {
	mu       sync.Mutex
	view     View
	err      error
	watchers map[chan struct{}]bool
}

var _ Source = (*shown)(nil)

func show(v View) *shown { return &shown{view: v, watchers: map[chan struct{}]bool{}} }

func (s *shown) View(context.Context) (View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	v.Nodes, v.Services, v.Sessions = slices.Clone(v.Nodes), slices.Clone(v.Services), slices.Clone(v.Sessions)
	return v, s.err
}

func (s *shown) Changes(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[c] = true
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, c)
	})
	return c
}

func (s *shown) set(change func(v *View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.view)
	for c := range s.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func at(clock string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-11-21 "+clock, time.Local)
	if err != nil {
		panic(err)
	}
	return t
}

// observatory is the demo's system with a session in it.
func observatory() View {
	return View{
		Cluster: Cluster{Name: "observatory", ID: "9f3c5a1e77d02b64"},
		Nodes: []Node{
			{Name: "one", ID: "a1f09c33de5b7712", Address: "127.0.0.1:7101", State: "alive", Version: "0.1.0", Via: "self", Memory: 43_700_000, Started: at("14:00:02"), Self: true},
			{Name: "two", ID: "5be7710c9932aa04", Address: "127.0.0.1:7102", State: "alive", Version: "0.1.0", Via: "multicast", Memory: 41_200_000, Started: at("14:00:03")},
			{Name: "three", ID: "c04d1198ef62b3d5", Address: "127.0.0.1:7103", State: "alive", Version: "0.1.0", Via: "multicast", Memory: 39_900_000, Started: at("14:00:03")},
		},
		Services: []Service{
			{Name: "catalog", Manifest: "observatory", Node: "one", Endpoint: "127.0.0.1:40211", Phase: "active", Epoch: 1},
			{Name: "notes", Manifest: "observatory", Node: "two", Endpoint: "127.0.0.1:40377", Phase: "active", Epoch: 1},
			{Name: "sky", Manifest: "observatory", Node: "one", Endpoint: "127.0.0.1:40219", Phase: "active", DependsOn: []string{"catalog", "notes"}, Public: "127.0.0.1:8080", Epoch: 1},
		},
		Components: []Component{
			{Ref: "sqlite-database/catalog-db", Module: "sqlite-database", Node: "one", Service: "catalog", Phase: "active", Size: 61_440, Snapshots: 1, Newest: at("14:02:40"), Logical: 61_440, Stored: 14_200},
			{Ref: "process/catalog", Module: "process", Node: "one", Service: "catalog", Phase: "active", Size: -1},
			{Ref: "sqlite-database/notes-db", Module: "sqlite-database", Node: "two", Service: "notes", Phase: "active", Size: 2_310_144, Snapshots: 7, Newest: at("14:02:41"), Logical: 15_900_000, Stored: 812_000},
			{Ref: "process/notes", Module: "process", Node: "two", Service: "notes", Phase: "active", Size: -1},
			{Ref: "sqlite-database/notes-db@blue", Module: "sqlite-database", Node: "two", Service: "notes", Session: "blue", Phase: "active", Size: 2_310_144},
			{Ref: "process/sky", Module: "process", Node: "one", Service: "sky", Phase: "active", Size: -1},
		},
		Sessions: []Session{{
			Name: "blue", Owner: "ada", Ready: true, Created: at("14:03:00"),
			Overrides: []Override{
				{Service: "sky", Kind: "tunnel", Node: "three"},
				{Service: "notes", Kind: "fork", Node: "two", Bytes: 2_310_144, Method: "reflink"},
			},
		}},
		Events: []Event{
			{Time: at("14:03:01"), Kind: "session", Text: "session blue by ada: sky through a tunnel, notes on a fork"},
			{Time: at("14:02:41"), Kind: "state", Text: "backup 20261121T140240: 2 components, 2.4 MB, 96 kB stored"},
			{Time: at("14:00:31"), Kind: "deploy", Text: "observatory applied: catalog, notes, sky are active"},
			{Time: at("14:00:04"), Kind: "member", Text: "three joined, found by multicast"},
			{Time: at("14:00:04"), Kind: "member", Text: "two joined, found by multicast"},
		},
	}
}

// moving is the observatory while notes is on its way to three.
func moving(v *View) {
	v.Services[1].MovingTo, v.Services[1].Held = "three", true
	v.Deployment = &Deployment{Manifest: "observatory", Step: 1, Steps: 1, Action: "move notes from two to three: last delta of notes-db", Since: at("14:04:10")}
}

// moved is the observatory after that.
func moved(v *View) {
	v.Deployment = nil
	v.Services[1].Node, v.Services[1].MovingTo, v.Services[1].Held, v.Services[1].Epoch = "three", "", false, 2
}

// crowd is a view of many services on a few nodes.
func crowd(nodes, services int) View {
	v := View{Cluster: Cluster{Name: "crowd", ID: "0123456789abcdef"}}
	for i := range nodes {
		v.Nodes = append(v.Nodes, Node{Name: fmt.Sprintf("node-%d", i), ID: fmt.Sprintf("%016x", i), State: "alive", Address: "10.0.0.1:7000"})
	}
	for i := range services {
		s := Service{Name: fmt.Sprintf("service-%d", i), Node: fmt.Sprintf("node-%d", i%nodes), Phase: "active", Epoch: 1}
		if i > 0 {
			s.DependsOn = []string{fmt.Sprintf("service-%d", i/2)}
		}
		v.Services = append(v.Services, s)
		v.Components = append(v.Components, Component{Ref: "process/" + s.Name, Module: "process", Node: s.Node, Phase: "active", Size: -1})
	}
	return v
}

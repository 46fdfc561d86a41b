package plan

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

func service(name string, version int, on ...string) deploy.Service {
	return deploy.Service{Name: name, DependsOn: on, Endpoint: name, Components: []state.Component{
		{Name: name + "-db", Module: "db", Container: "db"},
		{Name: name, Module: "process", Container: "process", Properties: state.Properties{"version": version}},
	}}
}

func placed(node string, s deploy.Service) deploy.Placement {
	return deploy.Placement{Manifest: "m", Service: s, Node: fabric.NodeID("id-" + node), NodeName: node, Epoch: 1}
}

func manifest(distribution map[string]string, services ...deploy.Service) deploy.Manifest {
	return deploy.Manifest{Name: "m", Nodes: []string{"one", "two"}, Services: services, Distribution: distribution}
}

func lines(p deploy.Plan) []string {
	out := []string{}
	for _, s := range p.Steps {
		out = append(out, Describe(s))
	}
	return out
}

func TestPlans(t *testing.T) {
	public := func(s deploy.Service, address string) deploy.Service {
		s.Public = &deploy.Public{Node: "one", Address: address}
		return s
	}
	for name, c := range map[string]struct {
		in   Input
		want []string
	}{
		"first": {
			Input{Manifest: manifest(map[string]string{"a": "one", "b": "two"}, service("a", 1, "b"), service("b", 1))},
			[]string{"activate b on two: runs nowhere yet", "activate a on one: runs nowhere yet"},
		},
		"nothing": {
			Input{
				Manifest:   manifest(map[string]string{"a": "one"}, service("a", 1)),
				Placements: []deploy.Placement{placed("one", service("a", 1))},
			}, []string{},
		},
		"move": {
			Input{
				Manifest:   manifest(map[string]string{"a": "two"}, service("a", 1)),
				Placements: []deploy.Placement{placed("one", service("a", 1))},
			},
			[]string{"move a from one to two with the state of a-db: runs on one, should run on two"},
		},
		"move and upgrade": {
			Input{
				Manifest:   manifest(map[string]string{"a": "two"}, service("a", 2)),
				Placements: []deploy.Placement{placed("one", service("a", 1))},
			},
			[]string{"move a from one to two with the state of a-db: runs on one, should run on two; a: other properties"},
		},
		"other machine of the same name": {
			Input{
				Manifest:   manifest(map[string]string{"a": "one"}, service("a", 1)),
				Placements: []deploy.Placement{placed("one", service("a", 1))},
				Nodes:      map[string]fabric.NodeID{"one": "id-other"},
			},
			[]string{"move a from one to one with the state of a-db: runs on one, should run on one"},
		},
		"upgrade": {
			Input{
				Manifest:   manifest(map[string]string{"a": "one", "b": "one"}, service("a", 2, "b"), service("b", 1)),
				Placements: []deploy.Placement{placed("one", service("a", 1)), placed("one", service("b", 1))},
			},
			[]string{"upgrade a on one: a: other properties, other dependencies"},
		},
		"remove, dependents first": {
			Input{
				Manifest:   manifest(nil),
				Placements: []deploy.Placement{placed("one", service("a", 1)), placed("two", service("b", 1, "a"))},
			},
			[]string{"deactivate b on two: not in the manifest any more", "deactivate a on one: not in the manifest any more"},
		},
		"a dependent changes before what it needed goes": {
			Input{
				Manifest:   manifest(map[string]string{"b": "one"}, service("b", 2)),
				Placements: []deploy.Placement{placed("one", service("a", 1)), placed("one", service("b", 1, "a"))},
			},
			[]string{"upgrade b on one: b: other properties, other dependencies", "deactivate a on one: not in the manifest any more"},
		},
		"an address is given up before it is taken": {
			Input{
				Manifest:   manifest(map[string]string{"a": "one"}, public(service("a", 1), "x:80")),
				Placements: []deploy.Placement{placed("one", service("a", 1)), placed("one", public(service("b", 1), "x:80"))},
			},
			[]string{"deactivate b on one: not in the manifest any more", "upgrade a on one: other public address"},
		},
		"back where its state is": {
			Input{
				Manifest: manifest(map[string]string{"a": "one"}, service("a", 1)),
				Retired:  []deploy.Placement{placed("one", service("a", 1))},
			},
			[]string{"activate a on one: runs nowhere now; its state is still there"},
		},
		"back elsewhere": {
			Input{
				Manifest: manifest(map[string]string{"a": "two"}, service("a", 1)),
				Retired:  []deploy.Placement{placed("one", service("a", 1))},
			},
			[]string{"activate a from one to two with the state of a-db: runs nowhere now; its state is on one"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Stateful = map[string]bool{"db": true}
			if diff := cmp.Diff(c.want, lines(Compute(c.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// system draws services a to f, each on a node, each depending on earlier ones only.
func system(t *rapid.T, label string) ([]deploy.Service, map[string]string) {
	var services []deploy.Service
	where := map[string]string{}
	var names []string
	for i := range 6 {
		if !rapid.Bool().Draw(t, fmt.Sprintf("%s has %d", label, i)) {
			continue
		}
		name := string(rune('a' + (i*5)%6)) // dependencies do not follow the alphabet
		var on []string
		for _, other := range names {
			if rapid.Bool().Draw(t, label+name+other) {
				on = append(on, other)
			}
		}
		names = append(names, name)
		services = append(services, service(name, rapid.IntRange(1, 2).Draw(t, label+name+" version"), on...))
		where[name] = rapid.SampledFrom([]string{"one", "two"}).Draw(t, label+name+" node")
	}
	return services, where
}

func TestEveryPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, beforeAt := system(t, "before ")
		after, afterAt := system(t, "after ")
		in := Input{Manifest: manifest(afterAt, after...), Stateful: map[string]bool{"db": true}}
		for _, s := range before {
			in.Placements = append(in.Placements, placed(beforeAt[s.Name], s))
		}
		p := Compute(in)
		slices.Reverse(in.Placements)
		slices.Reverse(in.Manifest.Services)
		if diff := cmp.Diff(p, Compute(in)); diff != "" {
			t.Fatalf("the order of the input matters:\n%s", diff)
		}
		at := map[string]int{}
		for i, step := range p.Steps {
			if _, ok := at[step.Service]; ok {
				t.Fatalf("two steps for %s", step.Service)
			}
			at[step.Service] = i
		}
		for _, s := range after {
			i, changes := at[s.Name]
			for _, on := range s.DependsOn {
				if j, ok := at[on]; ok && changes && j > i {
					t.Fatalf("%s comes before %s, which it needs", s.Name, on)
				}
			}
		}
		for _, s := range before {
			for _, on := range s.DependsOn {
				i, a := at[s.Name]
				j, b := at[on]
				if a && b && p.Steps[i].Kind == deploy.StepDeactivate && p.Steps[j].Kind == deploy.StepDeactivate && j < i {
					t.Fatalf("%s goes before its dependent %s", on, s.Name)
				}
			}
		}
		// What the steps lead to needs no further step.
		in.Placements = nil
		for _, s := range after {
			in.Placements = append(in.Placements, placed(afterAt[s.Name], s))
		}
		if again := Compute(in); !Nothing(again) {
			t.Fatalf("not done: %v", lines(again))
		}
	})
}

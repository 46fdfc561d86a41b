package address

import (
	"errors"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func generation(component string, number uint64, id string, age time.Duration, tags ...string) state.Generation {
	return state.Generation{
		Container: "c", Component: component, Number: number, Snapshot: state.SnapshotID(id + strings.Repeat("0", 64-len(id))),
		Time: now.Add(-age), Label: state.Label{Tags: tags},
	}
}

var all = []state.Generation{
	generation("a", 1, "aa11", 72*time.Hour, "release"),
	generation("a", 2, "aa22", 48*time.Hour, "both", "blue"),
	generation("a", 3, "bb33", time.Hour, "release"),
	generation("a@blue", 1, "cc44", 30*time.Minute),
	generation("b", 1, "dd55", 40*time.Hour, "both"),
	generation("b", 2, "aa11", time.Minute),
}

func TestFind(t *testing.T) {
	for name, want := range map[string]string{
		"bb":                                 "c/a 3",
		"aa1":                                "c/b 2", // the same state, the newest generation that has it
		"c/a":                                "c/a 3",
		"c/a@latest":                         "c/a 3",
		"c/a@2":                              "c/a 2",
		"c/a@release":                        "c/a 3",
		"c/a@2026-11-24":                     "c/a 2",
		"c/a@2026-11-23T12:00":               "c/a 2",
		"c/a@2026-11-23T11:59:59":            "c/a 1",
		"c/a@2026-11-23T13:00+01:00":         "c/a 2",
		"c/a@2d":                             "c/a 2",
		"c/a@30m":                            "c/a 3",
		"@release":                           "c/a 3",
		"c/a@blue@latest":                    "c/a@blue 1",
		"c/a@blue@1":                         "c/a@blue 1",
		strings.Repeat("ab", 32):             "/ 0",
		"cc44" + string(all[3].Snapshot[4:]): "c/a@blue 1",
	} {
		g, err := Find(all, name, time.Time{}, Clock{Now: now})
		if got := ref(g).String() + " " + string('0'+rune(g.Number)); err != nil || got != want {
			t.Errorf("%s means %s (%v), want %s", name, got, err, want)
		}
	}
}

func TestBefore(t *testing.T) {
	for name, want := range map[string]uint64{"c/a": 2, "c/a@release": 1, "@release": 1, "aa": 2} {
		among := all[:3]
		if g, err := Find(among, name, now.Add(-2*time.Hour), Clock{Now: now}); name != "aa" && (err != nil || g.Number != want) {
			t.Errorf("%s means %d (%v), want %d", name, g.Number, err, want)
		}
	}
	if g, err := Find(all, "bb", now.Add(-2*time.Hour), Clock{Now: now}); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestNotFound(t *testing.T) {
	for _, name := range []string{
		"", "ee", "c/x", "c/x@1", "c/a@9", "c/a@nothing", "c/a@2020-01-01", "@nothing", "nothing!", "../x/y", "c/a@", "/", "@", "c/A@latest",
	} {
		g, err := Find(all, name, time.Time{}, Clock{Now: now})
		if name == "c/a@" { // an empty selector is the newest
			if err != nil || g.Number != 3 {
				t.Errorf("%s: %+v, %v", name, g, err)
			}
			continue
		}
		if !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%q: %+v, %v", name, g, err)
		}
	}
	for _, name := range []string{"aa", "c/a@blue", "@both"} {
		if g, err := Find(all, name, time.Time{}, Clock{Now: now}); !errors.Is(err, ErrAmbiguous) {
			t.Errorf("%q: %+v, %v", name, g, err)
		}
	}
}

func TestReservedTags(t *testing.T) {
	for _, tag := range []string{"latest", "12", "2026-11-25", "7d", "36h", "2026-11-25T10:00"} {
		if !ReservedTag(tag) {
			t.Errorf("%s could be taken for something else", tag)
		}
	}
	for _, tag := range []string{"release", "v12", "before-upgrade", "2026"} {
		if ReservedTag(tag) != (tag == "2026") {
			t.Errorf("%s: %v", tag, ReservedTag(tag))
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("c/a@2026-11-25")
	f.Add("aa11")
	f.Add("@@/@")
	f.Fuzz(func(t *testing.T, name string) {
		g, err := Find(all, name, time.Time{}, Clock{Now: now})
		if err == nil && g.Snapshot == "" {
			t.Fatalf("%q means nothing", name)
		}
		if again, second := Find(all, name, time.Time{}, Clock{Now: now}); again.Number != g.Number || (second == nil) != (err == nil) {
			t.Fatalf("%q means two things", name)
		}
	})
}

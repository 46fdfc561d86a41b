package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"orrery/fabric"
)

func TestMemberChanges(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 11, 26, 10, 0, second, 0, time.UTC) }
	one := fabric.Member{ID: "1", Name: "one", Address: "a:1", State: fabric.MemberAlive, Since: at(1)}
	two := fabric.Member{ID: "2", Name: "two", Address: "a:2", State: fabric.MemberSuspect, Since: at(2), Roles: []string{"web", "gpu"}}
	dead, moved := two, one
	dead.State, dead.Since = fabric.MemberDead, at(3)
	moved.Address, moved.Zone = "a:3", "rack"
	var out bytes.Buffer
	c := &cli{stdout: &out}
	for i, step := range [][2][]fabric.Member{{nil, {one, two}}, {{one, two}, {one, two}}, {{one, two}, {moved, dead}}, {{moved, dead}, {moved}}} {
		for _, change := range memberChanges(step[0], step[1], at(10+i)) {
			if err := c.printChange(change); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := `2026-11-26T10:00:01Z one 1 alive a:1  - -
2026-11-26T10:00:02Z two 2 suspect a:2  - web,gpu
2026-11-26T10:00:12Z one 1 alive a:3  rack -
2026-11-26T10:00:03Z two 2 dead, was suspect a:2  - web,gpu
2026-11-26T10:00:13Z two 2 forgotten a:2  - web,gpu
`
	if got := strings.ReplaceAll(out.String(), "\t", " "); got != want {
		t.Errorf("%s", got)
	}
}

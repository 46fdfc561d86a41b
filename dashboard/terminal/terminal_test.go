package terminal

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

var update = flag.Bool("update", false, "write the frames in testdata anew")

// TestMain sets the zone in which times are shown.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

func at(seconds int) time.Time {
	return time.Date(2026, 11, 26, 14, 5, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

// cluster is three nodes with two chains, seconds after a time.
func cluster(seconds int) Snapshot {
	done := uint64(seconds * 1200)
	usage := func(load float64) *Usage {
		return &Usage{Started: at(-7200), Memory: 91_400_000, Load: load, Processors: 2, Free: 41e9, Counters: Counters{
			Reads: done, Writes: done / 4, Requests: uint64(seconds * 30), Gossip: uint64(seconds * 400), Events: uint64(seconds),
			ReadTimes:  Histogram{Bounds: []float64{0.00004, 0.00008, 0.0026}, Counts: []uint64{done / 64, done / 20, done / 16, done / 16}},
			WriteTimes: Histogram{Bounds: []float64{0.0013, 0.0026, 0.0051}, Counts: []uint64{done / 6, done / 5, done / 4, done / 4}},
			Syncs:      Histogram{Bounds: []float64{0.001, 0.002, 0.004}, Counts: []uint64{done / 8, done / 4, done / 4, done / 4}},
		}}
	}
	node := func(i int, name, zone string, services ...string) Node {
		return Node{
			Name: name, ID: fmt.Sprintf("%016x", i), State: "alive", Address: fmt.Sprintf("192.0.2.%d:7373", i), Version: "v0.4.0", Zone: zone,
			Since: at(-7200), Via: "mdns", Services: services, Replicas: 2, Usage: usage(0.3 * float64(i)),
		}
	}
	replica := func(name string, last uint64) Replica {
		return Replica{Node: name, State: "serving", Known: true, Last: last, Durable: last, Committed: done, Bytes: 3_400_000, Reads: 400, Writes: 300}
	}
	return Snapshot{
		Time: at(seconds), Cluster: "home", Node: "one", Leader: "one", Keeper: "one", Services: 3, Sessions: 1,
		Nodes: []Node{node(1, "one", "attic", "catalog"), node(2, "two", "attic", "notes", "sky"), node(3, "three", "cellar")},
		Chains: []Chain{
			{ID: 1000001, Bucket: "notes", Range: `[, "m")`, Epoch: 3, Reason: "its replicas are made", Members: []Replica{replica("one", done+4), replica("two", done+4), replica("three", done+1)}},
			{ID: 1000002, Bucket: "notes", Range: `["m", )`, Epoch: 1, Reason: "its replicas are made", Members: []Replica{replica("two", done), replica("three", done), replica("one", done)}},
		},
		Events: []Event{
			{at(-20), "session", "session blue of ada began"}, {at(-60), "deploy", "service notes moved from one to two"}, {at(-3000), "member", "node three joined"},
		},
	}
}

// troubled is the same after node three died.
func troubled(seconds int) Snapshot {
	s := cluster(seconds)
	s.Nodes[2].State, s.Nodes[2].Since, s.Nodes[2].Usage = "dead", at(seconds-5), nil
	for i := range s.Chains {
		c := &s.Chains[i]
		c.Waits = "2 of 3 replicas: a place is kept for [three]"
		for j := range c.Members {
			if c.Members[j].Node == "three" {
				c.Members[j].Gone = "its lease ended"
			}
		}
	}
	s.Events = append([]Event{{at(seconds - 5), "member", "node three is dead"}}, s.Events...)
	return s
}

// after applies messages to a new screen.
func after(t *testing.T, messages ...tea.Msg) Model {
	t.Helper()
	m := New()
	for _, msg := range messages {
		next, _ := m.Update(msg)
		m = next.(Model)
	}
	return m
}

// press are keys: names of some, and for the others their text.
func press(keys ...string) []tea.Msg {
	named := map[string]rune{"tab": tea.KeyTab, "enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "backspace": tea.KeyBackspace, "end": tea.KeyEnd}
	var all []tea.Msg
	for _, k := range keys {
		if code, ok := named[k]; ok {
			all = append(all, tea.KeyPressMsg{Code: code})
			continue
		}
		all = append(all, tea.KeyPressMsg{Code: []rune(k)[0], Text: k})
	}
	return all
}

func size(width, height int) tea.Msg { return tea.WindowSizeMsg{Width: width, Height: height} }

func plainly(m Model) string {
	var lines []string
	for l := range strings.Lines(ansi.Strip(m.View().Content) + "\n") {
		lines = append(lines, strings.TrimRight(l, " \n"))
	}
	return strings.Join(lines, "\n") + "\n"
}

func TestFrames(t *testing.T) {
	first, second := Arrived{cluster(0)}, Arrived{cluster(2)}
	dead := Arrived{troubled(4)}
	scripts := map[string][]tea.Msg{
		"empty":    {size(80, 24)},
		"wide":     {size(140, 30), first, second},
		"narrow":   {size(64, 26), first, second},
		"small":    append([]tea.Msg{size(40, 9), first, second}, press("tab")...),
		"dead":     {size(120, 30), first, second, dead},
		"lost":     {size(100, 24), first, second, Lost{errors.New("connection\nrefused"), at(14)}},
		"filtered": append([]tea.Msg{size(100, 24), first}, press("/", "c", "e", "l", "x", "backspace", "enter")...),
		"typing":   append([]tea.Msg{size(100, 24), first}, press("tab", "/", "n")...),
		"sorted":   append([]tea.Msg{size(120, 24), first}, press("s", "s", "s", "s", "s", "s", "s", "S", "down")...),
		"node":     append([]tea.Msg{size(120, 24), first, second}, press("down", "enter")...),
		"chain":    append([]tea.Msg{size(120, 24), first, second, dead}, press("tab", "enter")...),
		"event":    append([]tea.Msg{size(80, 24), first}, press("4", "down", "enter")...),
		"help":     append([]tea.Msg{size(110, 24), first}, press("?")...),
		"paused":   append([]tea.Msg{size(100, 24), first}, append(press("p"), dead)...),
		"alone":    {size(100, 24), Arrived{Snapshot{Time: at(0), Cluster: "home", Node: "one", Nodes: cluster(0).Nodes[:1]}}},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			got := plainly(after(t, script...))
			path := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the frame is\n%s\nand not\n%s", got, want)
			}
		})
	}
}

// TestAnySize presses keys at random in terminals of random sizes: every frame fits exactly, and nothing panics.
func TestAnySize(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	keys := []string{"tab", "enter", "esc", "up", "down", "end", "/", "backspace", "s", "S", "p", "?", "1", "2", "3", "4", "n", "ö"}
	var m tea.Model = New()
	for step := range 1000 {
		var msg tea.Msg
		switch r.IntN(8) {
		case 0:
			msg = size(1+r.IntN(160), 1+r.IntN(50))
		case 1:
			s := []Snapshot{cluster(step), troubled(step), {Time: at(step)}}[r.IntN(3)]
			s.Nodes, s.Chains = s.Nodes[:r.IntN(len(s.Nodes)+1)], s.Chains[:r.IntN(len(s.Chains)+1)]
			msg = Arrived{s}
		case 2:
			msg = Lost{errors.New("gone"), at(step)}
		default:
			msg = press(keys[r.IntN(len(keys))])[0]
		}
		m, _ = m.Update(msg)
		now := m.(Model)
		lines := strings.Split(now.View().Content, "\n")
		if len(lines) > now.height {
			t.Fatalf("seed %d, step %d: %d lines in a terminal of %d", seed, step, len(lines), now.height)
		}
		for _, l := range lines {
			if w := ansi.StringWidth(l); w > now.width {
				t.Fatalf("seed %d, step %d: %d columns in a terminal of %d: %q", seed, step, w, now.width, l)
			}
		}
	}
}

func TestQuit(t *testing.T) {
	for _, k := range []tea.KeyPressMsg{{Code: 'q', Text: "q"}, {Code: 'c', Mod: tea.ModCtrl}} {
		if _, cmd := after(t, size(80, 24)).Update(k); cmd == nil {
			t.Errorf("%s does not quit", k)
		}
	}
	typing := after(t, append([]tea.Msg{Arrived{cluster(0)}}, press("/")...)...)
	if next, cmd := typing.Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd != nil || next.(Model).views[nodesPanel].filter != "q" {
		t.Error("q cannot be typed into a filter")
	}
}

// TestSelectionStays: a selected row is followed when rows come and go.
func TestSelectionStays(t *testing.T) {
	m := after(t, append([]tea.Msg{size(100, 30), Arrived{cluster(0)}}, press("down")...)...)
	s := cluster(1)
	s.Nodes = s.Nodes[1:]
	next, _ := m.Update(Arrived{s})
	rows, i := next.(Model).rows()
	if rows[i].cells[0].text != "two" {
		t.Errorf("%s is selected", rows[i].cells[0].text)
	}
}

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Snapshot)
		level  Level
		want   string
	}{
		{"well", func(*Snapshot) {}, Well, "all is well: 3 nodes, 2 chains, 3 services"},
		{"no quorum", func(s *Snapshot) { s.Leader = "" }, Bad, "no quorum"},
		{"a leader that is gone", func(s *Snapshot) { s.Nodes[0].State = "dead" }, Bad, "no quorum: nothing can be changed before one is back; node one is dead"},
		{"suspect", func(s *Snapshot) { s.Nodes[1].State = "suspect" }, Watch, "node two is suspect"},
		{"left", func(s *Snapshot) { s.Nodes[1].State = "left" }, Well, "all is well: 2 nodes"},
		{"silent", func(s *Snapshot) { s.Nodes[1].Usage = nil }, Watch, "node two does not answer"},
		{"the worst first", func(s *Snapshot) { s.Nodes[0].State, s.Nodes[1].State = "suspect", "dead" }, Bad, "node two is dead; node one is suspect"},
		{"chains together", func(s *Snapshot) { s.Chains[0].Waits, s.Chains[1].Waits = "patience", "patience" }, Watch, "2 chains: patience"},
		{"one chain", func(s *Snapshot) { s.Chains[1].Waits = "patience" }, Watch, "chain 1000002 of notes: patience"},
		{"disk", func(s *Snapshot) { s.Chains[0].Members[1].Failed = "no space" }, Bad, "the disk of two failed chain 1000001: no space"},
		{"out of service", func(s *Snapshot) {
			for i := range s.Chains[0].Members {
				s.Chains[0].Members[i].Gone = "dead"
			}
		}, Bad, "chain 1000001 of notes out of service: no replica serves"},
		{"trouble", func(s *Snapshot) { s.Trouble = "the chains cannot be seen" }, Watch, "the chains cannot be seen"},
	} {
		s := cluster(0)
		c.change(&s)
		if h := HealthOf(s); h.Level != c.level || !strings.HasPrefix(h.String(), c.want) {
			t.Errorf("%s: level %d, %q", c.name, h.Level, h)
		}
	}
}

func TestRates(t *testing.T) {
	r, ok := RateBetween(cluster(10), cluster(12))
	if want := (Rates{
		Reads: 3600, Writes: 900, Requests: 90, Gossip: 1200, Events: 3, ReadP50: 0.00008, ReadP99: 0.0026, WriteP50: 0.0013, WriteP99: 0.0051, SyncP99: 0.002,
	}); !ok || r != want {
		t.Errorf("%+v, %v", r, ok)
	}
	restarted := cluster(12)
	u := restarted.Nodes[0].Usage
	u.Started, u.Counters = at(11), Counters{Reads: 100}
	if r, _ := RateBetween(cluster(10), restarted); r.Reads != 2450 {
		t.Errorf("%g reads with a node that was started anew", r.Reads)
	}
	gone := cluster(12)
	gone.Nodes[0].Usage = nil
	if r, _ := RateBetween(cluster(10), gone); r.Reads != 2400 {
		t.Errorf("%g reads with a node that does not answer", r.Reads)
	}
	if _, ok := RateBetween(cluster(10), cluster(10)); ok {
		t.Error("there are rates without time")
	}
	if r, ok := RateBetween(Snapshot{Time: at(0)}, cluster(2)); ok || r != (Rates{}) {
		t.Errorf("%+v of nothing", r)
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	r, _ := RateBetween(cluster(0), troubled(4))
	if err := Print(&b, troubled(4), r); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "print.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || b.String() != string(want) {
		t.Errorf("%v: printed is\n%s", err, b.String())
	}
}

// TestHostileTexts: what comes from elsewhere moves no cursor and breaks no line.
func TestHostileTexts(t *testing.T) {
	const hostile = "a\x1b[2Jb\nc\u202ed\te\x07"
	s := cluster(0)
	s.Cluster, s.Trouble, s.Node = hostile, hostile, hostile
	s.Nodes[0].Name, s.Nodes[0].Version, s.Nodes[0].Roles, s.Nodes[0].Services = hostile, hostile, []string{hostile}, []string{hostile}
	s.Chains[0].Bucket, s.Chains[0].Waits, s.Chains[0].Members[0].Failed = hostile, hostile, hostile
	s.Events[0].Text = hostile
	var printed strings.Builder
	if err := Print(&printed, s, Rates{}); err != nil {
		t.Fatal(err)
	}
	frames := []string{printed.String(), after(t, size(200, 40), Lost{errors.New(hostile), at(0)}).View().Content}
	for _, keys := range [][]string{{"1"}, {"1", "enter"}, {"2", "enter"}, {"4", "enter"}} {
		frames = append(frames, after(t, append([]tea.Msg{size(200, 40), Arrived{s}}, press(keys...)...)...).View().Content)
	}
	for _, f := range frames {
		if strings.Contains(f, "\x1b[2J") || strings.ContainsAny(f, "\x07\u202e\t") || !strings.Contains(f, "a[2Jb cd e") {
			t.Errorf("%q", f)
		}
	}
}

func TestNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"0": count(0), "0.4": count(0.42), "12": count(12), "3.4k": count(3400), "340k": count(340_000),
		"12 B": bytes(12), "3.4 MB": bytes(3.4e6), "1.0 kB": bytes(1000), "-": span(0), "1.6ms": span(0.0016), "▁▅█": spark([]float64{9, 0, 4, 8}[1:], 3),
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

package terminal

import (
	"fmt"
	"math"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
)

// The colours are the terminal's own sixteen, so that they suit its background.
var (
	green  = lipgloss.NewStyle().Foreground(lipgloss.Green)
	yellow = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	red    = lipgloss.NewStyle().Foreground(lipgloss.Red).Bold(true)
	faint  = lipgloss.NewStyle().Faint(true)
	bold   = lipgloss.NewStyle().Bold(true)
	accent = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
	chosen = lipgloss.NewStyle().Reverse(true)
)

var stateTints = map[string]lipgloss.Style{"alive": green, "suspect": yellow, "dead": red, "left": faint}

var nodeColumns = []column{
	{title: "NAME", least: 8},
	{title: "STATE"},
	{title: "ZONE", drop: 4},
	{title: "ADDRESS", drop: 6},
	{title: "VERSION", drop: 7, least: 8},
	{title: "SINCE", right: true, drop: 2},
	{title: "LOAD", right: true, drop: 3},
	{title: "MEMORY", right: true, drop: 3},
	{title: "CHAINS", right: true, drop: 5},
	{title: "SERVICES", drop: 5, least: 12},
}

func nodeRows(s Snapshot) []row {
	rows := make([]row, 0, len(s.Nodes))
	for _, n := range s.Nodes {
		name := n.Name
		if n.Name == s.Node {
			name += " *"
		}
		load, memory := number("-", -1), number("-", -1)
		if u := n.Usage; u != nil {
			load, memory = number(fmt.Sprintf("%.2f", u.Load), u.Load), number(bytes(float64(u.Memory)), float64(u.Memory))
			if u.Processors > 0 && u.Load > 2*float64(u.Processors) {
				load.tint = yellow
			}
		}
		state := n.State
		if n.Drain {
			state += ", drained"
		}
		rows = append(rows, row{n.ID, []cell{
			said(name),
			{text: state, tint: stateTints[n.State]},
			said(n.Zone),
			{text: n.Address, tint: faint},
			{text: n.Version, tint: faint},
			number(since(s.Time, n.Since), s.Time.Sub(n.Since).Seconds()), load, memory,
			number(fmt.Sprint(n.Replicas), float64(n.Replicas)), said(strings.Join(n.Services, " ")),
		}})
	}
	return rows
}

var chainColumns = []column{
	{title: "CHAIN", right: true},
	{title: "BUCKET", least: 6},
	{title: "KEYS", drop: 4, least: 8},
	{title: "EPOCH", right: true, drop: 6},
	{title: "HEAD TO TAIL", least: 18},
	{title: "SIZE", right: true, drop: 5},
	{title: "READS/S", right: true, drop: 2},
	{title: "WRITES/S", right: true, drop: 2},
	{title: "LAG", right: true, drop: 3},
	{title: "WAITS FOR", drop: 1, least: 12},
}

func chainRows(s Snapshot) []row {
	rows := make([]row, 0, len(s.Chains))
	for _, c := range s.Chains {
		size, reads, writes := c.size()
		waits := cell{text: c.Waits, tint: yellow}
		rows = append(rows, row{fmt.Sprint(c.ID), []cell{
			number(fmt.Sprint(c.ID), float64(c.ID)), said(c.Bucket),
			{text: c.Range, tint: faint},
			number(fmt.Sprint(c.Epoch), float64(c.Epoch)),
			said(order(c)), number(bytes(float64(size)), float64(size)), number(count(reads), reads), number(count(writes), writes),
			number(count(float64(c.lag())), float64(c.lag())), waits,
		}})
	}
	return rows
}

// order is a chain's members: "one > two > three (syncing)".
func order(c Chain) string {
	var names []string
	for _, m := range c.Members {
		name := m.Node
		switch {
		case m.Failed != "":
			name += " (failed)"
		case m.Gone != "":
			name += " (gone)"
		case m.State != "serving":
			name += " (" + m.State + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " > ")
}

var eventColumns = []column{{title: "TIME"}, {title: "WHAT", least: 16}}

func eventRows(s Snapshot) []row {
	rows := make([]row, 0, len(s.Events))
	tints := map[string]lipgloss.Style{"member": accent, "chain": yellow}
	for i, e := range s.Events {
		at := e.Time.Local().Format("15:04:05")
		if s.Time.Sub(e.Time) > 24*time.Hour {
			at = e.Time.Local().Format("2006-01-02")
		}
		rows = append(rows, row{fmt.Sprint(len(s.Events)-i, e.Time.UnixNano()), []cell{
			{text: at, sort: float64(e.Time.UnixNano()), tint: faint}, {text: e.Text, tint: tints[e.Kind]},
		}})
	}
	return rows
}

// gauge is a line of the rates.
type gauge struct {
	name string
	of   func(Rates) float64
	text func(float64) string
	half func(Rates) float64 // nil, or the median that is shown before it
}

// value is what is shown of rates.
func (g gauge) value(r Rates) string {
	if g.half == nil {
		return g.text(g.of(r))
	}
	if g.of(r) == 0 {
		return "-"
	}
	return g.text(g.half(r)) + " " + g.text(g.of(r))
}

var gauges = []gauge{
	{name: "kv reads/s", of: func(r Rates) float64 { return r.Reads }, text: count},
	{name: "  p50 p99", of: func(r Rates) float64 { return r.ReadP99 }, text: brief, half: func(r Rates) float64 { return r.ReadP50 }},
	{name: "kv writes/s", of: func(r Rates) float64 { return r.Writes }, text: count},
	{name: "  p50 p99", of: func(r Rates) float64 { return r.WriteP99 }, text: brief, half: func(r Rates) float64 { return r.WriteP50 }},
	{name: "disk sync p99", of: func(r Rates) float64 { return r.SyncP99 }, text: span},
	{name: "events/s", of: func(r Rates) float64 { return r.Events }, text: count},
	{name: "requests/s", of: func(r Rates) float64 { return r.Requests }, text: count},
	{name: "gossip/s", of: func(r Rates) float64 { return r.Gossip }, text: bytes},
	{name: "refused/s", of: func(r Rates) float64 { return r.Refused }, text: count},
}

// spark draws the last values as bars beside each other, the highest as high as a line.
func spark(values []float64, width int) string {
	levels := []rune("▁▂▃▄▅▆▇█")
	if len(values) > width {
		values = values[len(values)-width:]
	}
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	var b strings.Builder
	for _, v := range values {
		level := 0
		if highest > 0 {
			level = min(len(levels)-1, int(v/highest*float64(len(levels)-1)+0.5))
		}
		b.WriteRune(levels[level])
	}
	return b.String()
}

// count prints a number in four characters or so: 0, 0.4, 12, 3.4k.
func count(n float64) string {
	switch {
	case n < 9.95 && n != math.Trunc(n):
		return fmt.Sprintf("%.1f", n)
	case n < 999.5:
		return fmt.Sprintf("%.0f", n)
	}
	return scaled(n, "")
}

// bytes prints an amount: 3.4 MB.
func bytes(n float64) string {
	if n < 999.5 {
		return fmt.Sprintf("%.0f B", n)
	}
	return scaled(n, " ") + "B"
}

func scaled(n float64, space string) string {
	unit := 0
	for n >= 999.5 && unit < 4 {
		n /= 1000
		unit++
	}
	text := fmt.Sprintf("%.1f", n)
	if n >= 99.95 {
		text = fmt.Sprintf("%.0f", n)
	}
	return text + space + string(" kMGT"[unit])
}

// span prints seconds: 1.6 ms.
func span(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}

// brief prints a time in two digits or so: 80µs, 2.6ms.
func brief(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 10*time.Microsecond:
		return d.Round(time.Microsecond).String()
	case d < time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// since prints how long ago something was, in one unit: 12s, 3m, 5h, 9d.
func since(now, then time.Time) string {
	d := max(0, now.Sub(then))
	switch {
	case then.IsZero():
		return "-"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

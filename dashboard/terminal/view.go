package terminal

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// Where there is less room than this, one panel is shown at a time, and rates and events are not beside each other.
const (
	fewLines   = 18
	fewColumns = 96
)

// View makes the frame: as many lines as the terminal has.
func (m Model) View() tea.View {
	lines := append(m.header(), m.body(max(1, m.height-3))...)
	lines = append(lines[:min(len(lines), max(1, m.height-1))], m.footer())
	v := tea.NewView(strings.Join(lines[max(0, len(lines)-m.height):], "\n"))
	v.AltScreen = true
	v.WindowTitle = "orrery top"
	if m.have {
		v.WindowTitle += ": " + m.shown.Cluster
	}
	return v
}

// header is two lines: what this is, and how it is.
func (m Model) header() []string {
	if !m.have {
		text := "looking for the node ..."
		if m.lost.Err != nil {
			text = red.Render("cannot reach the node: " + legible(m.lost.Err.Error()))
		}
		return []string{pad(bold.Render("orrery top"), m.width, false), pad(text, m.width, false)}
	}
	s := m.shown
	alive := 0
	for _, n := range s.Nodes {
		if n.State == "alive" {
			alive++
		}
	}
	left := bold.Render("orrery") + " " + accent.Render(s.Cluster) + fmt.Sprintf("  seen by %s  %d of %s alive", s.Node, alive, many(len(s.Nodes), "node"))
	if s.Sessions > 0 {
		left += ", " + many(s.Sessions, "session")
	}
	right := s.Time.Local().Format("2006-01-02 15:04:05")
	if m.paused {
		right = yellow.Render("paused") + "  " + right
	}
	first := pad(left, m.width, false)
	if room := m.width - ansi.StringWidth(right) - 1; room >= 30 {
		first = pad(left, room, false) + " " + right
	}
	return []string{first, pad(m.health(), m.width, false)}
}

func (m Model) health() string {
	if m.lost.Err != nil {
		return red.Render(fmt.Sprintf("no answer for %s, trying again: %s", since(m.lost.At, m.shown.Time), legible(m.lost.Err.Error())))
	}
	h := HealthOf(m.shown)
	mark := []string{green.Render("●"), yellow.Render("▲"), red.Render("■")}[h.Level]
	return mark + " " + h.String()
}

func (m Model) footer() string {
	v := m.views[m.focus]
	switch {
	case m.typing:
		return pad(bold.Render("/"+v.filter)+chosen.Render(" ")+faint.Render("  enter keeps the filter, esc drops it"), m.width, false)
	case m.help || m.detail:
		return pad(keys("↑↓", "scroll", "esc", "back", "q", "quit"), m.width, false)
	}
	return pad(keys("tab", "panel", "↑↓", "row", "enter", "details", "/", "filter", "s", "sort", "p", "pause", "?", "help", "q", "quit"), m.width, false)
}

func keys(all ...string) string {
	var b strings.Builder
	for i := 0; i < len(all); i += 2 {
		b.WriteString(bold.Render(all[i]) + " " + faint.Render(all[i+1]) + "  ")
	}
	return b.String()
}

// body is what is between header and footer.
func (m Model) body(height int) []string {
	switch {
	case m.help || m.detail:
		lines := m.overlay()
		title := "Help"
		if m.detail && !m.help {
			title = m.subject()
		}
		return box(title, lines[min(m.scroll, len(lines)-1):], m.width, height, true)
	case height < fewLines-3:
		return m.panel(m.focus, m.width, height)
	}
	nodes, chains, bottom := share(len(m.shown.Nodes)+3, len(m.shown.Chains)+3, len(gauges)+2, height)
	lines := append(m.panel(nodesPanel, m.width, nodes), m.panel(chainsPanel, m.width, chains)...)
	if m.width < fewColumns {
		last := ratesPanel
		if m.focus == eventsPanel {
			last = eventsPanel
		}
		return append(lines, m.panel(last, m.width, bottom)...)
	}
	left := m.width * 2 / 5
	rates, events := m.panel(ratesPanel, left, bottom), m.panel(eventsPanel, m.width-left, bottom)
	for i := range rates {
		lines = append(lines, rates[i]+events[i])
	}
	return lines
}

// share gives panels what they want of a height, as far as that goes; what is left is the bottom's.
func share(nodes, chains, bottom, height int) (int, int, int) {
	nodes, chains = max(nodes, 4), max(chains, 4)
	bottom = min(bottom, max(5, height/3))
	if over := nodes + chains + bottom - height; over > 0 {
		half := (height - bottom) / 2
		switch {
		case nodes <= half:
			chains = height - bottom - nodes
		case chains <= half:
			nodes = height - bottom - chains
		default:
			nodes = half
			chains = height - bottom - half
		}
	}
	return nodes, chains, height - nodes - chains
}

// panel draws one panel.
func (m Model) panel(which, width, height int) []string {
	if which == ratesPanel {
		return box("Rates", m.rates(width-4), width, height, m.focus == which)
	}
	columns := [panels][]column{nodeColumns, chainColumns, nil, eventColumns}[which]
	rows, at := m.rowsOf(which)
	v := m.views[which]
	title := [panels]string{"Nodes", "Chains", "", "Events"}[which]
	if which != eventsPanel {
		title += fmt.Sprintf(" %d", len(rows))
	}
	if v.filter != "" {
		title += " /" + v.filter
	}
	inside := width - 4
	titles := heads(columns, v.sort)
	widths := fit(columns, append([]row{{cells: titles}}, rows...), inside)
	var lines []string
	if which != eventsPanel || v.sort != 0 {
		lines = append(lines, faint.Render(line(columns, widths, titles, inside, true)))
	}
	room := max(0, height-2-len(lines))
	first := max(0, min(at-room/2, len(rows)-room))
	for i := first; i < min(len(rows), first+room); i++ {
		selected := i == at && m.focus == which
		text := line(columns, widths, rows[i].cells, inside, selected)
		if selected {
			text = chosen.Render(text)
		}
		lines = append(lines, text)
	}
	if len(rows) == 0 {
		lines = append(lines, faint.Render(nothing(which, v.filter)))
	}
	return box(title, lines, width, height, m.focus == which)
}

func nothing(panel int, filter string) string {
	switch {
	case filter != "":
		return "nothing here has " + filter
	case panel == chainsPanel:
		return "no chains (orrery kv bucket create makes some)"
	}
	return "nothing yet"
}

// heads are the titles of columns, with a mark at the one that sorts.
func heads(columns []column, by int) []cell {
	var cells []cell
	for i, c := range columns {
		title := c.title
		switch by {
		case i + 1:
			title += "↑"
		case -i - 1:
			title += "↓"
		}
		cells = append(cells, said(title))
	}
	return cells
}

// rates draws each rate, and how it was.
func (m Model) rates(width int) []string {
	lines := make([]string, 0, len(gauges))
	for _, g := range gauges {
		now := "-"
		values := make([]float64, 0, len(m.history))
		for _, r := range m.history {
			values = append(values, g.of(r))
		}
		if len(values) > 0 {
			now = g.value(m.history[len(m.history)-1])
		}
		lines = append(lines, pad(g.name, 13, false)+" "+pad(now, 11, true)+"  "+accent.Render(spark(values, max(0, width-27))))
	}
	return lines
}

// box draws a frame around lines, exactly so wide and high.
func box(title string, lines []string, width, height int, focus bool) []string {
	if width < 8 || height < 2 {
		return make([]string, max(0, height))
	}
	edge := faint
	if focus {
		edge = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
	}
	name := ansi.Truncate(title, width-6, "…")
	if focus {
		name = bold.Render(name)
	}
	out := []string{edge.Render("╭─") + " " + name + " " + edge.Render(strings.Repeat("─", max(0, width-5-ansi.StringWidth(name)))+"╮")}
	for i := range height - 2 {
		text := ""
		if i < len(lines) {
			text = lines[i]
		}
		out = append(out, edge.Render("│")+" "+pad(text, width-4, false)+" "+edge.Render("│"))
	}
	return append(out, edge.Render("╰"+strings.Repeat("─", width-2)+"╯"))
}

package terminal

import (
	"fmt"
	"image/color"
	"io"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/picker"
)

// overlay is what lies over the list, in lines; nil: nothing.
func (m *model) overlay() []string {
	switch m.state.Overlay {
	case picker.Help:
		lines := []string{m.query()}
		for _, k := range picker.Keys {
			lines = append(lines, m.cut(fmt.Sprintf("  %-16s %s", k[0], k[1])))
		}
		return lines[:min(len(lines), max(1, m.height))]
	case picker.Menu:
		return append(m.menu(), m.footer())
	case picker.Code:
		return m.code()
	case picker.Swatch:
		return m.swatch()
	case picker.Text:
		return m.text()
	case picker.None:
	}
	return nil
}

func (m *model) cut(line string) string { return ansi.Truncate(line, m.width, "…") }

func (m *model) menu() []string {
	lines := []string{m.query()}
	rows := max(1, m.height-3)
	from := max(0, m.state.Choice-rows+1)
	for i, a := range m.state.Menu[from:min(len(m.state.Menu), from+rows)] {
		number := "  "
		if from+i < 9 {
			number = fmt.Sprintf("%d ", from+i+1)
		}
		line := m.cut("  " + number + harmless(a.Name))
		if from+i == m.state.Choice {
			line = chosen.Render(line + strings.Repeat(" ", max(0, m.width-ansi.StringWidth(line))))
		}
		lines = append(lines, line)
	}
	return append(lines, "")
}

// code draws a QR code, two squares above each other in a letter, light on dark whatever the terminal's colours are.
func (m *model) code() []string {
	size := m.state.Code.Size
	if size+2*margin > m.width || (size+2*margin+1)/2 > m.height {
		return []string{m.cut(fmt.Sprintf("the QR code needs %d columns and %d lines: make the terminal larger, or its letters smaller", size+2*margin, (size+2*margin+1)/2))}
	}
	style := lipgloss.NewStyle().Foreground(color.White).Background(color.Black)
	lines := Code(m.state.Code)
	for i, line := range lines {
		lines[i] = style.Render(line)
	}
	return lines
}

// margin is what a QR code needs around it.
const margin = 4

// Code draws a QR code in lines, without colours: light letters on a dark ground.
func Code(code *picker.Modules) []string {
	var lines []string
	for y := -margin; y < code.Size+margin; y += 2 {
		var line strings.Builder
		for x := -margin; x < code.Size+margin; x++ {
			line.WriteString(halves[code.Dark(x, y)][code.Dark(x, y+1)])
		}
		lines = append(lines, line.String())
	}
	return lines
}

// halves are letters by whether their upper and their lower half is dark.
var halves = map[bool]map[bool]string{false: {false: "█", true: "▀"}, true: {false: "▄", true: " "}} //nolint:gochecknoglobals // a table

func (m *model) swatch() []string {
	c := m.state.Colour
	lines := make([]string, 0, max(3, m.height-2))
	for range max(1, m.height-2) {
		lines = append(lines, patch(c, m.width))
	}
	return append(lines, m.cut(fmt.Sprintf("%s  rgb(%d, %d, %d)", c, c.R, c.G, c.B)))
}

// patch is a piece of a line in a colour.
func patch(c action.Colour, width int) string {
	return lipgloss.NewStyle().Background(color.RGBA{c.R, c.G, c.B, 0xff}).Render(strings.Repeat(" ", width))
}

func (m *model) text() []string {
	rows := max(1, m.height-1)
	first := min(m.state.First, max(0, len(m.state.Lines)-1))
	var lines []string
	for _, line := range m.state.Lines[first:min(len(m.state.Lines), first+rows)] {
		lines = append(lines, m.cut(harmless(strings.ReplaceAll(line, "\t", "    "))))
	}
	for len(lines) < rows {
		lines = append(lines, "")
	}
	return append(lines, faint.Render(m.cut(fmt.Sprintf("line %d of %d · esc goes back", first+1, len(m.state.Lines)))))
}

// preview is the item under the cursor, in some rows.
func (m *model) preview(rows int) []string {
	lines := make([]string, 0, rows)
	if shows := m.state.Shows; shows != nil && rows > 0 {
		lines = m.fill(lines, rows, shows)
	}
	for len(lines) < rows {
		lines = append(lines, "")
	}
	return lines
}

func (m *model) fill(lines []string, rows int, shows *picker.Preview) []string {
	if shows.Colour != nil {
		lines = append(lines, patch(*shows.Colour, min(8, m.width)))
	}
	if shows.Image != nil {
		lines = append(lines, m.picture(shows.Image, rows-len(lines))...)
	}
	for line := range strings.SplitSeq(shows.Text, "\n") {
		if len(lines) >= rows || shows.Text == "" {
			break
		}
		lines = append(lines, m.cut(harmless(strings.ReplaceAll(strings.TrimRight(line, "\r"), "\t", "    "))))
	}
	for _, c := range shows.Types {
		if len(lines) >= rows {
			break
		}
		lines = append(lines, faint.Render(m.cut(fmt.Sprintf("%s, %d bytes", harmless(c.Type), len(c.Data)))))
	}
	return lines[:min(len(lines), rows)]
}

// editing is an editor while it has the terminal.
type editing struct {
	m               *model
	id              clip.ID
	in              io.Reader
	out, complaints io.Writer
	made            *clip.Summary
}

// SetStdin is tea.ExecCommand's.
func (e *editing) SetStdin(r io.Reader) { e.in = r }

// SetStdout is tea.ExecCommand's.
func (e *editing) SetStdout(w io.Writer) { e.out = w }

// SetStderr is tea.ExecCommand's.
func (e *editing) SetStderr(w io.Writer) { e.complaints = w }

// Run is tea.ExecCommand's.
func (e *editing) Run() (err error) {
	e.made, err = e.m.source.Edit(e.m.ctx, e.id, e.in, e.out, e.complaints)
	return err
}

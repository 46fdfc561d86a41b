package terminal

import (
	"cmp"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// column is a column of a table.
type column struct {
	title string
	right bool // numbers
	drop  int  // columns with the highest are left out first where there is no room; 0: never
	least int  // characters to which it may shrink before others are left out; 0: it does not shrink
}

// cell is what a row has in a column.
type cell struct {
	text string
	sort float64 // by which numbers are sorted; texts by text
	tint lipgloss.Style
}

// row is a line of a table. Its id tells it from others when it is there again.
type row struct {
	id    string
	cells []cell
}

// said is a cell of text.
func said(text string) cell { return cell{text: text} }

// number is a cell with a number behind its text.
func number(text string, n float64) cell { return cell{text: text, sort: n} }

// matching are the rows that hold a text somewhere, whatever its case.
func matching(rows []row, filter string) []row {
	if filter == "" {
		return rows
	}
	filter = strings.ToLower(filter)
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return !slices.ContainsFunc(r.cells, func(c cell) bool { return strings.Contains(strings.ToLower(c.text), filter) })
	})
}

// sorted are the rows in the order of a column, counted from 1, downwards if it is negative; 0 leaves them as they are.
func sorted(rows []row, by int) []row {
	if by == 0 || len(rows) == 0 || max(by, -by) > len(rows[0].cells) {
		return rows
	}
	rows = slices.Clone(rows)
	slices.SortStableFunc(rows, func(a, b row) int {
		x, y := a.cells[max(by, -by)-1], b.cells[max(by, -by)-1]
		order := cmp.Or(cmp.Compare(x.sort, y.sort), strings.Compare(x.text, y.text))
		if by < 0 {
			return -order
		}
		return order
	})
	return rows
}

// fit chooses which columns are shown in a width, and how wide each is; 0: not.
func fit(columns []column, rows []row, width int) []int {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = ansi.StringWidth(c.title)
		for _, r := range rows {
			widths[i] = max(widths[i], ansi.StringWidth(r.cells[i].text))
		}
	}
	for {
		over := -2 - width // two spaces between columns
		for _, w := range widths {
			if w > 0 {
				over += w + 2
			}
		}
		if over <= 0 {
			return widths
		}
		if over = shrink(columns, widths, over); over == 0 {
			return widths
		}
		if !dropOne(columns, widths) {
			return widths // lines are cut
		}
	}
}

// shrink takes from the columns that allow it, if that is enough, and returns what is still too much.
func shrink(columns []column, widths []int, over int) int {
	spare := 0
	for i, c := range columns {
		if widths[i] > 0 && c.least > 0 {
			spare += max(0, widths[i]-c.least)
		}
	}
	if spare < over {
		return over
	}
	for ; over > 0; over-- {
		widest := -1
		for i, c := range columns {
			if c.least > 0 && widths[i] > c.least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		widths[widest]--
	}
	return 0
}

// dropOne leaves out the column that matters least.
func dropOne(columns []column, widths []int) bool {
	least := -1
	for i, c := range columns {
		if widths[i] > 0 && c.drop > 0 && (least < 0 || c.drop > columns[least].drop) {
			least = i
		}
	}
	if least < 0 {
		return false
	}
	widths[least] = 0
	return true
}

// line is a row as it is shown, exactly as wide as the width. Where it is selected its own colours would be hard to read.
func line(columns []column, widths []int, cells []cell, width int, selected bool) string {
	var parts []string
	for i, w := range widths {
		if w == 0 {
			continue
		}
		text := pad(cells[i].text, w, columns[i].right)
		if !selected {
			text = cells[i].tint.Render(text)
		}
		parts = append(parts, text)
	}
	return pad(strings.Join(parts, "  "), width, false)
}

// pad makes a text exactly so wide.
func pad(text string, width int, right bool) string {
	if width <= 0 {
		return ""
	}
	text = ansi.Truncate(text, width, "…")
	space := strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
	if right {
		return space + text
	}
	return text + space
}

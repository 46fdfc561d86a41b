package terminal

import (
	"fmt"
	"io"
	"strings"
)

// Print writes a snapshot as tables, without colours, however wide they are.
func Print(w io.Writer, s Snapshot, rates Rates) error {
	s = s.legible()
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seen by %s at %s\n%s\n", s.Cluster, s.Node, s.Time.Local().Format("2006-01-02 15:04:05"), HealthOf(s))
	printTable(&b, nodeColumns, nodeRows(s))
	printTable(&b, chainColumns, chainRows(s))
	b.WriteString("\n")
	for _, g := range gauges {
		fmt.Fprintf(&b, "%s %s\n", pad(g.name, 13, false), g.value(rates))
	}
	if len(s.Events) > 0 {
		b.WriteString("\n")
	}
	for _, e := range s.Events {
		fmt.Fprintf(&b, "%s  %s\n", e.Time.Local().Format("2006-01-02 15:04:05"), e.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printTable(b *strings.Builder, columns []column, rows []row) {
	if len(rows) == 0 {
		return
	}
	const wide = 1 << 12
	widths := fit(columns, rows, wide)
	b.WriteString("\n" + strings.TrimRight(line(columns, widths, heads(columns, 0), wide, true), " ") + "\n")
	for _, r := range rows {
		b.WriteString(strings.TrimRight(line(columns, widths, r.cells, wide, true), " ") + "\n")
	}
}

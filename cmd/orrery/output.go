package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"orrery/internal/commandline"
)

// table prints rows under a header, or value as JSON if that was asked for.
// The rows are what people look at; value is what programs read.
func (c *cli) table(value any, header []string, rows [][]string) error {
	if c.output == "json" {
		return c.json(value)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(header, "\t")))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func (c *cli) json(value any) error {
	return commandline.JSON(c.stdout, value)
}

// line prints one sentence for people; nothing where JSON was asked for.
func (c *cli) line(format string, args ...any) {
	if c.output != "json" {
		fmt.Fprintf(c.stdout, format+"\n", args...)
	}
}

// ago prints how long ago t was, or "-".
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return t.Format("2006-01-02")
}

// short is the beginning of an id, long enough to tell it from others.
func short[S ~string](id S) string {
	if len(id) > 12 {
		return string(id[:12])
	}
	return string(id)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// progressWriter is where progress goes: nowhere when JSON was asked for.
func (c *cli) progressWriter() io.Writer {
	if c.output == "json" {
		return io.Discard
	}
	return c.stderr
}

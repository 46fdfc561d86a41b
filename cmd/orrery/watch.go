package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"orrery/internal/commandline"
	"orrery/internal/progress"
)

// watch shows what is done under the context: with -o json as lines of JSON on standard error, otherwise, where that is a
// terminal, as one line. The returned function takes that away; it is called when the work is done.
func (c *cli) watch(ctx context.Context) (context.Context, func()) {
	if c.output == "json" {
		l := &progressLines{w: c.stderr}
		return progress.Watch(ctx, l.show), func() {}
	}
	f, ok := c.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return ctx, func() {}
	}
	l := &progressLine{w: f}
	return progress.Watch(ctx, l.show), l.clear
}

// progressLines are lines of JSON, one an event.
type progressLines struct {
	mu sync.Mutex
	w  io.Writer
}

// progressEvent is such a line.
type progressEvent struct {
	Progress progress.Event `json:"progress"`
	Rate     int64          `json:"rate"` // bytes a second
}

func (l *progressLines) show(e progress.Event) {
	b, err := json.Marshal(progressEvent{e, int64(e.Rate())})
	if err != nil {
		return // an event has nothing that could not be said in JSON
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(append(b, '\n')) // a reader that is gone cannot be told so
}

// progressLine is the line of a terminal that shows how far the work is.
type progressLine struct {
	mu    sync.Mutex
	w     io.Writer
	shown bool
}

const clearLine = "\r\x1b[K"

func (l *progressLine) show(e progress.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = true
	_, _ = io.WriteString(l.w, clearLine+describe(e)) // a terminal that is gone cannot be told so
}

func (l *progressLine) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		_, _ = io.WriteString(l.w, clearLine)
	}
	l.shown = false
}

// describe says how far a task is: "verify 3f9a2c…: 12.0 MB of 48.0 MB, 25%, 110.2 MB/s".
func describe(e progress.Event) string {
	text := e.Task + ": " + commandline.Size(e.Done)
	if e.Total > 0 {
		text += fmt.Sprintf(" of %s, %d%%", commandline.Size(e.Total), min(100, e.Done*100/e.Total))
	}
	if e.Saved > 0 {
		text += ", " + commandline.Size(e.Saved) + " saved"
	}
	return fmt.Sprintf("%s, %s/s", text, commandline.Size(int64(e.Rate())))
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/internal/progress"
)

func TestProgressIsOneLine(t *testing.T) {
	var out bytes.Buffer
	l := &progressLine{w: &out}
	l.show(progress.Event{Task: "verify 3f9a2c", Done: 12_000_000, Total: 48_000_000, Elapsed: 100 * time.Millisecond})
	l.show(progress.Event{Task: "snapshot a/b", Done: 2000, Saved: 1500, Elapsed: time.Second})
	l.clear()
	want := clearLine + "verify 3f9a2c: 12.0 MB of 48.0 MB, 25%, 120.0 MB/s" + clearLine + "snapshot a/b: 2.0 kB, 1.5 kB saved, 2.0 kB/s" + clearLine
	if out.String() != want || strings.Contains(want, "\n") {
		t.Fatalf("%q", out.String())
	}
	out.Reset()
	l.clear()
	if out.Len() > 0 {
		t.Fatalf("cleared what was not shown: %q", out.String())
	}
}

// A program that reads JSON gets an object a line, from all tasks, and each task's last word.
func TestProgressForPrograms(t *testing.T) {
	var out bytes.Buffer
	c := &cli{stderr: &out, output: "json"}
	ctx, end := c.watch(context.Background())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			task := progress.Start(ctx, "snapshot a/b", 100)
			for range 100 {
				task.Add(1)
			}
			task.Saved(60)
			task.End()
		})
	}
	all.Wait()
	end()
	ended := 0
	for line := range strings.Lines(out.String()) {
		var e progressEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Progress.Task != "snapshot a/b" || e.Progress.Total != 100 {
			t.Fatalf("%q: %+v, %v", line, e, err)
		}
		if e.Progress.Ended {
			if ended++; e.Progress.Done != 100 || e.Progress.Saved != 60 || e.Rate <= 0 {
				t.Fatalf("%+v", e)
			}
		}
	}
	if ended != 4 {
		t.Fatalf("%d tasks ended", ended)
	}
}

// What is no terminal gets nothing, and the work is not even asked how far it is.
func TestProgressIsForTerminals(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // nothing is written
	for _, c := range []*cli{{stderr: file, output: "table"}, {stderr: &bytes.Buffer{}, output: "table"}} {
		ctx, end := c.watch(context.Background())
		if task := progress.Start(ctx, "verify", 1); task != nil {
			t.Fatal("somebody watches")
		}
		end()
	}
}

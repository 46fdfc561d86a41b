package progress

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
)

func TestTheLastEventHasAll(t *testing.T) {
	var events []Event
	ctx := Watch(t.Context(), func(e Event) { events = append(events, e) })
	task := Start(ctx, "copy", 10)
	for range 10 {
		task.Add(1)
		task.Saved(2)
	}
	task.End()
	last := events[len(events)-1]
	if last.Task != "copy" || last.Done != 10 || last.Saved != 20 || last.Total != 10 || !last.Ended {
		t.Fatalf("%+v", last)
	}
	if len(events) > 5 {
		t.Fatalf("%d events for what took no time", len(events))
	}
}

func TestNobodyWatches(t *testing.T) {
	task := Start(context.Background(), "copy", 1)
	task.Add(1)
	task.Saved(1)
	task.End()
	r, w := strings.NewReader("x"), &bytes.Buffer{}
	if task.Reader(r) != io.Reader(r) || task.Writer(w) != io.Writer(w) {
		t.Fatal("counted for nobody")
	}
}

func TestCountsStreams(t *testing.T) {
	var mu sync.Mutex
	var last Event
	ctx := Watch(t.Context(), func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		last = e
	})
	task := Start(ctx, "copy", 0)
	var out bytes.Buffer
	if _, err := io.Copy(task.Writer(&out), task.Reader(strings.NewReader("hello"))); err != nil {
		t.Fatal(err)
	}
	task.End()
	if last.Done != 10 || out.String() != "hello" || last.Rate() <= 0 {
		t.Fatalf("%+v", last)
	}
}

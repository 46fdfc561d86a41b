// Package progress carries how far a long operation is from whoever does the work to whoever shows it, by way of the
// context. Where nobody watches, reporting costs next to nothing. The watcher is called by the goroutines that work,
// at most ten times a second for each task, and once when the task ends.
package progress

import (
	"context"
	"io"
	"sync"
	"time"
)

// Event is how far a task is.
type Event struct {
	Task  string `json:"task"`            // what is being done, to what: "verify 3f9a2c…"
	Done  int64  `json:"done"`            // bytes that were worked on
	Total int64  `json:"total,omitempty"` // of so many; 0: nobody knows
	Saved int64  `json:"saved,omitempty"` // bytes that it did not have to store
	// Elapsed is since the task began.
	Elapsed time.Duration `json:"elapsed"`
	Ended   bool          `json:"ended,omitempty"`
}

// Rate is in bytes a second.
func (e Event) Rate() float64 {
	if e.Elapsed <= 0 {
		return 0
	}
	return float64(e.Done) / e.Elapsed.Seconds()
}

// every is how long a task that goes on is silent between two events.
const every = 100 * time.Millisecond

type watching struct{}

// Watch returns a context under which watch is told of what is done. It may be called from several goroutines at once.
func Watch(ctx context.Context, watch func(Event)) context.Context {
	return context.WithValue(ctx, watching{}, watch)
}

// Task is one piece of work under way. A nil Task may be used and does nothing.
type Task struct {
	watch func(Event)
	began time.Time

	mu    sync.Mutex
	told  time.Time
	event Event
}

// Start begins a task of so many bytes, 0 if that is not known; nil if nobody watches.
func Start(ctx context.Context, task string, total int64) *Task {
	watch, ok := ctx.Value(watching{}).(func(Event))
	if !ok {
		return nil
	}
	return &Task{watch: watch, began: time.Now(), event: Event{Task: task, Total: total}}
}

// Add says that so many bytes more are done.
func (t *Task) Add(n int64) { t.change(func(e *Event) { e.Done += n }, false) }

// Saved says that so many bytes did not have to be stored.
func (t *Task) Saved(n int64) { t.change(func(e *Event) { e.Saved += n }, false) }

// End ends the task. Whoever started it calls it once, whether it went well or not.
func (t *Task) End() { t.change(func(e *Event) { e.Ended = true }, true) }

func (t *Task) change(by func(*Event), now bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	by(&t.event)
	t.event.Elapsed = time.Since(t.began)
	e, due := t.event, now || time.Since(t.told) >= every
	if due {
		t.told = time.Now()
	}
	t.mu.Unlock()
	if due {
		t.watch(e)
	}
}

// Reader counts what is read through it. It is r itself for a nil Task.
func (t *Task) Reader(r io.Reader) io.Reader {
	if t == nil {
		return r
	}
	return reader{r, t}
}

// Writer counts what is written through it. It is w itself for a nil Task.
func (t *Task) Writer(w io.Writer) io.Writer {
	if t == nil {
		return w
	}
	return writer{w, t}
}

type reader struct {
	io.Reader
	task *Task
}

func (r reader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.task.Add(int64(n))
	return n, err
}

type writer struct {
	io.Writer
	task *Task
}

func (w writer) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	w.task.Add(int64(n))
	return n, err
}

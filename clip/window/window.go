// Package window is a picker in a window of its own: it shows what clip/picker says, and takes in keys, clicks and what the history answers.
//
// A Screen is a window that an adapter (x11window, waylandwindow) has opened: it gives Events and shows pictures. Run is the loop between it and a Source;
// nothing that may take time is done in it.
package window

import (
	"context"
	"image"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/find"
)

// Name is what the window system is told about the window: its application, and its title, which is all that a screen reader can say of it.
const (
	Application = "orrery-clip"
	Title       = "Clipboard history"
)

// Screen is a window on a screen. Its methods are safe for concurrent use.
type Screen interface {
	// Next waits for the next event. An error is final; io.EOF is the end of the window, by its user.
	Next(ctx context.Context) (Event, error)
	// Show shows a picture, of the size that Resized said last; one of another size may be cut. It is the caller's again after the call.
	Show(picture *image.RGBA) error
	Close() error
}

// Event is what happened to a window.
type Event any

// The events.
type (
	// Resized says how large it is, in pixels, and how many of them a length at scale 1 is. It is the first event.
	Resized struct {
		Width, Height int
		Scale         float64
	}
	// Exposed says that what was shown is lost.
	Exposed struct{}
	// Pressed is a key: a word for picker.State.Key, or text for Type. Composing is what is being written, and is not text yet.
	Pressed struct{ Word, Text, Composing string }
	// Erased says that an input method takes text before the cursor back.
	Erased struct{ Bytes int }
	// Clicked is the first button of the mouse.
	Clicked struct{ X, Y int }
	// Scrolled is the mouse's wheel, in rows; down is positive.
	Scrolled struct{ Rows int }
	// Left says that another window has the keyboard now.
	Left struct{}
)

// Source is where items come from, and what is done with them.
type Source interface {
	Search(ctx context.Context, query string, mode find.Mode, limit int) ([]clip.Summary, error)
	Show(ctx context.Context, id clip.ID) (clip.Item, error)
	// Give puts an item into the clipboard. paste also pastes it, once the picker has ended, into the window that then has the focus.
	Give(ctx context.Context, id clip.ID, plain, paste bool) error
	Pin(ctx context.Context, id clip.ID, pinned bool) error
	Delete(ctx context.Context, id clip.ID) error
	// EditElsewhere has somebody edit an item's text in a terminal that it opens. It does not wait for it.
	EditElsewhere(ctx context.Context, id clip.ID) error
	Open(ctx context.Context, address string) error
	// Run carries an action out, keeps what it printed where that is its output, and returns that.
	Run(ctx context.Context, id clip.ID, a action.Action) (printed string, err error)
}

// Package clip is the contract of a clipboard manager in two processes: a recorder that keeps what was copied, and a picker that shows it
// and gives one back.
//
// A Selection is one of a display's clipboards. Whoever copies becomes its owner and offers the same content in several types; an Item is one
// such copy, all its types together. A Display is a connection to a window system; an Offer is what an owner offers just now. The History keeps items.
//
// It holds nouns and errors only. The parts: history (the log on disk), find (search, pure), policy (what is recorded, pure), x11 and
// wayland (displays), recorder (the running part), control (how other processes talk to the recorder).
package clip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	// ErrNotFound says that the history has no such item.
	ErrNotFound = errors.New("not in the history")
	// ErrGone says that an offer is over: its owner has gone, or somebody else copied meanwhile.
	ErrGone = errors.New("the owner has gone")
	// ErrTooLarge says that content is larger than the limit.
	ErrTooLarge = errors.New("too large")
	// ErrUnsupported says that the display has no way to watch its clipboards.
	ErrUnsupported = errors.New("not supported by the display")
	// ErrCorrupt says that bytes on disk are not what was written.
	ErrCorrupt = errors.New("corrupt")
	// ErrLocked says that the history is encrypted, and the key is not at hand.
	ErrLocked = errors.New("history is locked")
	// ErrInUse says that another recorder has the history.
	ErrInUse = errors.New("in use")
)

// Limits.
const (
	MaxTypes    = 64        // types of one item
	MaxType     = 256       // bytes of a type's name
	MaxItem     = 256 << 20 // bytes of all contents of an item, whatever the settings say
	MaxNote     = 4 << 10   // bytes of a note
	MaxTags     = 32
	MaxTag      = 64 // bytes of a tag
	PreviewSize = 256
)

// Selection is one of a display's clipboards.
type Selection byte

// The selections.
const (
	Clipboard Selection = 1 // what copy and paste use
	Primary   Selection = 2 // what is marked with the mouse, and pasted with its middle button
)

// String is the selection's name.
func (s Selection) String() string {
	switch s {
	case Clipboard:
		return "clipboard"
	case Primary:
		return "primary"
	}
	return "unknown"
}

// Content is what was copied, in one type.
type Content struct {
	Type string `json:"type"` // a MIME type, or an X11 target that has none
	Data []byte `json:"data"`
}

// ID names an item of a history; never used again.
type ID uint64

// Mark is what people say of an item.
type Mark struct {
	Pinned  bool      `json:"pinned,omitempty"` // exempt from all limits
	Note    string    `json:"note,omitempty"`
	Tags    []string  `json:"tags,omitempty"`   // sorted
	Expires time.Time `json:"expires,omitzero"` // when it is deleted, also from the live clipboard; zero: never
}

// Kind is what sort of content an item has.
type Kind byte

// The kinds. The numbers are on disk.
const (
	Text  Kind = 1
	HTML  Kind = 2 // text with markup
	Image Kind = 3
	Files Kind = 4 // a list of files
	Other Kind = 5
)

// String is the kind's name.
func (k Kind) String() string {
	switch k {
	case Text:
		return "text"
	case HTML:
		return "html"
	case Image:
		return "image"
	case Files:
		return "files"
	case Other:
		return "other"
	}
	return "unknown"
}

// MarshalText writes its name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads a name.
func (k *Kind) UnmarshalText(text []byte) error {
	for *k = Text; *k <= Other; *k++ {
		if k.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("kind %q is unknown", text)
}

// Summary is what lists show of an item.
type Summary struct {
	ID      ID        `json:"id"`
	Kind    Kind      `json:"kind"`
	Used    time.Time `json:"used"`    // when it was last copied
	Count   int       `json:"count"`   // how often it was copied
	Size    int64     `json:"size"`    // bytes of all contents
	Preview string    `json:"preview"` // its beginning on one line, at most PreviewSize bytes
	Mark
}

// Item is a copy, with all its types.
type Item struct {
	Summary
	Created  time.Time `json:"created"`
	App      string    `json:"app,omitempty"` // who owned the selection, as far as the display tells
	Contents []Content `json:"contents"`      // in the owner's order
}

// Offer is what the owner of a selection offers.
type Offer interface {
	Selection() Selection
	// Types are in the owner's order; none: nobody owns the selection now.
	Types() []string
	// App names the owner; "" where the display does not tell.
	App() string
	// Own says that the owner is this Display itself.
	Own() bool
	// Cleared says, where Types is empty, that the owner let go of the selection on purpose, as password managers do, and did not just exit. False
	// where the display does not tell.
	Cleared() bool
	// Exited says, where Types is empty, that the owner is gone, so that no other offer of it is on its way. False where the display does not tell.
	Exited() bool
	// Read reads the content in one of Types: ErrGone once the offer is over, ErrTooLarge beyond limit bytes, ctx.Err() when ctx ends.
	Read(ctx context.Context, kind string, limit int64) ([]byte, error)
}

// Display is a connection to a window system. Its methods are safe for concurrent use.
type Display interface {
	// Name is the protocol that is spoken.
	Name() string
	// Next waits for the next change of a selection. Of changes in quick succession the last is delivered at least. An error is final.
	Next(ctx context.Context) (Offer, error)
	// Offer makes this process the owner of a selection until somebody else copies. The contents must not change afterwards.
	Offer(s Selection, contents []Content) error
	// Clear leaves a selection without an owner if this process owns it.
	Clear(s Selection) error
	Close() error
}

// Window is one of any program; the zero Window is none, or one that the display does not tell of.
type Window struct {
	ID  uint64
	App string
}

// Chord is a key with others held down, as programs paste by: V or Insert.
type Chord struct{ Control, Shift, Insert bool }

// String is it as people write it.
func (c Chord) String() string {
	text := ""
	if c.Control {
		text += "ctrl+"
	}
	if c.Shift {
		text += "shift+"
	}
	if c.Insert {
		return text + "insert"
	}
	return text + "v"
}

// Keyboard presses keys as a person would, in the window that has the focus. It is for one goroutine. Whoever opens one gets an error that wraps ErrUnsupported if the
// display has no way to do it.
type Keyboard interface {
	// Focus is the window that has the focus.
	Focus() (Window, error)
	Press(ctx context.Context, c Chord) error
	Close() error
}

// textTypes are the names of plain text, the best first. They have the same content, so one of them is read.
var textTypes = []string{"text/plain;charset=utf-8", "UTF8_STRING", "text/plain;charset=UTF-8", "text/plain", "STRING", "TEXT", "COMPOUND_TEXT"}

// TextType says whether a type is plain text by one of its names.
func TextType(kind string) bool { return textRank(kind) < len(textTypes) }

func textRank(kind string) int {
	for i, t := range textTypes {
		if kind == t {
			return i
		}
	}
	return len(textTypes)
}

// Fold leaves of several names of plain text the best one, in the place of the first.
func Fold(types []string) []string {
	best, place := len(textTypes), -1
	folded := make([]string, 0, len(types))
	for _, t := range types {
		rank := textRank(t)
		if rank == len(textTypes) {
			folded = append(folded, t)
			continue
		}
		if place < 0 {
			place = len(folded)
			folded = append(folded, t)
		}
		if rank < best {
			best, folded[place] = rank, t
		}
	}
	return folded
}

// Names are all types under which an item is offered again: its own, and every name of plain text if it has that.
func Names(contents []Content) map[string]int {
	names := make(map[string]int, len(contents)+len(textTypes))
	for i, c := range contents {
		if _, ok := names[c.Type]; !ok {
			names[c.Type] = i
		}
	}
	for i, c := range contents {
		if TextType(c.Type) {
			for _, t := range textTypes[:len(textTypes)-1] { // COMPOUND_TEXT has an encoding of its own
				if _, ok := names[t]; !ok {
					names[t] = i
				}
			}
			break
		}
	}
	return names
}

// PlainText is an item's plain text, if it has any.
func PlainText(contents []Content) (string, bool) {
	best, found := len(textTypes), -1
	for i, c := range contents {
		if rank := textRank(c.Type); rank < best {
			best, found = rank, i
		}
	}
	if found < 0 {
		return "", false
	}
	return string(contents[found].Data), true
}

// KindOf says what sort of content an item has.
func KindOf(contents []Content) Kind {
	kind := Other
	for _, c := range contents {
		switch {
		case c.Type == "text/uri-list", c.Type == "x-special/gnome-copied-files":
			return Files
		case strings.HasPrefix(c.Type, "image/"):
			kind = Image
		case c.Type == "text/html" && kind != Image:
			kind = HTML
		case TextType(c.Type) && kind == Other:
			kind = Text
		}
	}
	return kind
}

// Preview is the beginning of an item on one line, at most PreviewSize bytes of valid UTF-8.
func Preview(contents []Content) string {
	if text, ok := PlainText(contents); ok {
		if line := oneLine(text); line != "" {
			return line
		}
	}
	for _, c := range contents {
		if c.Type == "text/uri-list" {
			return oneLine(string(c.Data))
		}
	}
	if len(contents) == 0 {
		return ""
	}
	first := contents[0]
	for _, c := range contents {
		if strings.HasPrefix(c.Type, "image/") {
			first = c
			break
		}
	}
	return oneLine(first.Type)
}

// oneLine replaces white space by single spaces, and what is not printable by U+FFFD.
func oneLine(text string) string {
	out := make([]byte, 0, min(len(text), PreviewSize))
	space := false
	for _, r := range text {
		switch {
		case r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\v' || r == '\f' || r == 0x85 || r == 0xa0:
			space = len(out) > 0
			continue
		case r < ' ' || r == 0x7f || (r > 0x7f && r < 0xa0):
			r = utf8.RuneError
		}
		need := utf8.RuneLen(r)
		if space {
			need++
		}
		if len(out)+need > PreviewSize {
			break
		}
		if space {
			out = append(out, ' ')
			space = false
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out)
}

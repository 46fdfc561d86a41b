// Package control is how other processes talk to the recorder: over a Unix socket that only its user can open.
//
// A connection carries one request. Both sides send a message, which is its length in 4 bytes (little endian) and a JSON object, and then the bytes of contents that
// the object announces. Lists and watches answer with a message and then text, a line an item, until the end. docs/formats/clip-control.md specifies it.
package control

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/mirror"
	"orrery/clip/recorder"
)

// Version of the protocol.
const Version = 1

// The operations.
const (
	OpStatus  = "status"
	OpList    = "list"   // lines
	OpSearch  = "search" // lines
	OpWatch   = "watch"  // lines, without an end
	OpShow    = "show"
	OpGive    = "give"
	OpAdd     = "add"
	OpImport  = "import"
	OpDelete  = "delete"
	OpMark    = "mark"
	OpPause   = "pause"
	OpPaste   = "paste" // answers twice: at once, and after the client has ended what it sends
	OpCompact = "compact"
	OpLock    = "lock"
	OpUnlock  = "unlock"
	OpRekey   = "rekey"
	OpStop    = "stop"
	OpSync    = "sync"
)

// Request is what a client asks. Operations use the fields that they name; the others are zero.
type Request struct {
	Version   int            `json:"version"`
	Op        string         `json:"op"`
	IDs       []clip.ID      `json:"ids,omitempty"`       // show, give and mark take one
	Selection clip.Selection `json:"selection,omitempty"` // give, add: 0 leaves the display alone
	Plain     bool           `json:"plain,omitempty"`     // give: the text alone
	Query     string         `json:"query,omitempty"`     // search
	Mode      string         `json:"mode,omitempty"`
	Limit     int            `json:"limit,omitempty"`    // list, search; 0: all
	Format    string         `json:"format,omitempty"`   // list, search, watch: FormatTSV, FormatJSON, FormatNUL
	Contents  []Sized        `json:"contents,omitempty"` // add, import: their bytes follow
	Mark      *clip.Mark     `json:"mark,omitempty"`     // add, import
	Used      time.Time      `json:"used,omitzero"`      // add, import: when it was copied, if that was not now
	Created   time.Time      `json:"created,omitzero"`   // import: when for the first time
	Times     int            `json:"times,omitempty"`    // import: how often
	App       string         `json:"app,omitempty"`      // import
	Change    *Change        `json:"change,omitempty"`   // mark
	Pause     *Pause         `json:"pause,omitempty"`
	// Secrets are, for unlock, what may open the history besides those that the recorder finds by itself, and for rekey all that are to open it from then on; none: it is
	// not encrypted any more.
	Secrets []history.Secret `json:"secrets,omitempty"`
	Leave   bool             `json:"leave,omitempty"` // paste: into the next window that has the focus, not the one that has it now
	Sync    *Sync            `json:"sync,omitempty"`
}

// The formats of lines.
const (
	FormatTSV  = "tsv"  // id, tab, preview
	FormatJSON = "json" // a clip.Summary
	FormatNUL  = "nul"  // as FormatTSV, each with a zero byte at its end in place of a line feed
)

// Sized announces the bytes of a content.
type Sized struct {
	Type string `json:"type"`
	Size int64  `json:"size"`
}

// Change is what is to be said of an item; nil leaves it.
type Change struct {
	Pinned  *bool      `json:"pinned,omitempty"`
	Note    *string    `json:"note,omitempty"`
	Tag     []string   `json:"tag,omitempty"`
	Untag   []string   `json:"untag,omitempty"`
	Expires *time.Time `json:"expires,omitempty"` // zero: never
}

// What OpSync does.
const (
	SyncStatus = "status"
	SyncNow    = "now"
	SyncPause  = "pause"
	SyncResume = "resume"
	SyncReload = "reload" // machines were paired or removed
)

// Sync is about the machines that are paired with this one.
type Sync struct {
	Do  string        `json:"do"`
	For time.Duration `json:"for,omitempty"` // pause; 0: until it is resumed
}

// Pause is what OpPause does: Resume, Skip the next copy, or pause For a time (0: until Resume).
type Pause struct {
	For    time.Duration `json:"for,omitempty"`
	Resume bool          `json:"resume,omitempty"`
	Skip   bool          `json:"skip,omitempty"`
}

// Response is the answer.
type Response struct {
	Error   string        `json:"error,omitempty"`
	Kind    string        `json:"kind,omitempty"` // of the error
	Summary *clip.Summary `json:"summary,omitempty"`
	App     string        `json:"app,omitempty"`
	Created time.Time     `json:"created,omitzero"`
	// Contents are announced: their bytes follow.
	Contents []Sized        `json:"contents,omitempty"`
	Count    int            `json:"count,omitempty"`
	Sync     *mirror.Status `json:"sync,omitempty"`
	Refused  string         `json:"refused,omitempty"` // import: why it is not kept
	Status   *Status        `json:"status,omitempty"`
}

// Status is how the recorder is.
type Status struct {
	Display string          `json:"display"`
	Started time.Time       `json:"started"`
	PID     int             `json:"pid"`
	Paused  bool            `json:"paused"`
	Until   time.Time       `json:"until,omitzero"` // it is paused until then
	History history.Stats   `json:"history"`
	Counts  recorder.Counts `json:"counts"`
}

// maxMessage bounds a message.
const maxMessage = 4 << 20

// ErrMessage says that the far side does not speak this protocol.
var ErrMessage = errors.New("not a message of the clipboard's recorder")

func writeMessage(w io.Writer, m any) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("message of %d bytes: %w", len(text), clip.ErrTooLarge)
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text))), text...)) //nolint:gosec // bounded
	return err
}

func readMessage(r io.Reader, m any) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n > maxMessage {
		return fmt.Errorf("%w: %d bytes", ErrMessage, n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if err := json.Unmarshal(text, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	return nil
}

// readContents reads the bytes of contents that were announced.
func readContents(r io.Reader, announced []Sized) ([]clip.Content, error) {
	var total int64
	for _, s := range announced {
		if s.Size < 0 || s.Size > clip.MaxItem {
			return nil, fmt.Errorf("content of %d bytes: %w", s.Size, clip.ErrTooLarge)
		}
		total += s.Size
	}
	if total > clip.MaxItem || len(announced) > clip.MaxTypes {
		return nil, fmt.Errorf("%d types of %d bytes: %w", len(announced), total, clip.ErrTooLarge)
	}
	contents := make([]clip.Content, 0, len(announced))
	for _, s := range announced {
		data := make([]byte, s.Size)
		if _, err := io.ReadFull(r, data); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMessage, err)
		}
		contents = append(contents, clip.Content{Type: s.Type, Data: data})
	}
	return contents, nil
}

func announce(contents []clip.Content) []Sized {
	all := make([]Sized, 0, len(contents))
	for _, c := range contents {
		all = append(all, Sized{c.Type, int64(len(c.Data))})
	}
	return all
}

// kinds are the errors that keep their meaning.
var kinds = map[string]error{ //nolint:gochecknoglobals // a table
	"not_found": clip.ErrNotFound, "too_large": clip.ErrTooLarge, "corrupt": clip.ErrCorrupt, "locked": clip.ErrLocked, "unsupported": clip.ErrUnsupported,
}

func failure(err error) *Response {
	r := &Response{Error: err.Error()}
	for kind, sentinel := range kinds {
		if errors.Is(err, sentinel) {
			r.Kind = kind
		}
	}
	return r
}

// told is an error of the far side.
type told struct {
	text string
	kind error
}

// Error implements error.
func (t *told) Error() string { return t.text }

// Unwrap implements errors.
func (t *told) Unwrap() error { return t.kind }

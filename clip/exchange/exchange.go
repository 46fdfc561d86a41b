// Package exchange reads the histories that other clipboard managers left on disk, and reads and writes one of its own (docs/formats/clip-export.md).
//
// Readers give items one after another, the oldest first, and hold one of them in memory, or what their format needs for that order. What they read is not trusted: a file that is not
// as its format has it is an error that says where, after the items before.
package exchange

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"orrery/clip"
)

var (
	// ErrFormat says that a file is not what it was said to be.
	ErrFormat = errors.New("not in that format")
	// ErrEncrypted says that it cannot be read without the other program.
	ErrEncrypted = errors.New("encrypted")
)

// Each takes an item. An error ends the reading.
type Each func(clip.Item) error

// format is another program's.
type format struct {
	read func(ctx context.Context, path string, each Each) error
	path func() string // where the program keeps it
}

var formats = map[string]format{ //nolint:gochecknoglobals // a table
	"clip":     {readOwn, func() string { return "" }},
	"cliphist": {readCliphist, func() string { return folder("XDG_CACHE_HOME", ".cache", "cliphist", "db") }},
	"clipman":  {readClipman, func() string { return folder("XDG_DATA_HOME", ".local/share", "clipman.json") }},
	"copyq":    {readCopyQ, func() string { return folder("XDG_CONFIG_HOME", ".config", "copyq") }},
	"gpaste":   {readGPaste, func() string { return folder("XDG_DATA_HOME", ".local/share", "gpaste", "history.xml") }},
}

// Formats are the names that Read knows.
func Formats() []string { return slices.Sorted(maps.Keys(formats)) }

// Read gives each item of a history; path is empty for where the program keeps it.
func Read(ctx context.Context, name, path string, each Each) error {
	f, ok := formats[name]
	if !ok {
		return fmt.Errorf("format %q is unknown (use one of %s)", name, strings.Join(Formats(), ", "))
	}
	if path == "" {
		path = f.path()
	}
	if path == "" {
		return fmt.Errorf("format %q has no place of its own (name a file)", name)
	}
	if err := f.read(ctx, path, each); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func folder(variable, below string, names ...string) string {
	dir := os.Getenv(variable)
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, below)
	}
	return filepath.Join(append([]string{dir}, names...)...)
}

const plainText = "text/plain;charset=utf-8"

// TypeOf is the type that content looks like: what is valid text is text.
func TypeOf(data []byte) string {
	if utf8.Valid(data) && !slices.Contains(data, 0) {
		return plainText
	}
	kind, _, _ := strings.Cut(http.DetectContentType(data), ";")
	if strings.HasPrefix(kind, "text/") {
		return plainText
	}
	return kind
}

// clock gives items of a history that has no times the order that they had: a millisecond apart, the last when the file was written.
type clock struct{ next time.Time }

func newClock(written time.Time, items int) *clock {
	return &clock{written.Add(-time.Duration(items) * time.Millisecond)}
}

func (c *clock) tick() time.Time {
	c.next = c.next.Add(time.Millisecond)
	return c.next
}

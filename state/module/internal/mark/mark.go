// Package mark keeps what a module knows of a fork and its component's properties cannot say: how it was made, and
// where its own server is. It is a file in the component's folder.
package mark

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"orrery/state"
)

func file(t state.Target) string { return filepath.Join(t.Directory, "fork.json") }

// Read returns a component's mark, the zero one if it has none. ErrCorrupt.
func Read[M any](t state.Target) (m M, err error) {
	content, err := os.ReadFile(file(t))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(content, &m); err != nil {
		return m, fmt.Errorf("%s: %w: %w", file(t), state.ErrCorrupt, err)
	}
	return m, nil
}

// Write replaces a component's mark.
func Write[M any](t state.Target, m M) error {
	content, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file(t)+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(file(t)+".new", file(t))
}

// Remove removes it; it is no error if there is none.
func Remove(t state.Target) error {
	if err := os.Remove(file(t)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

package postgresql

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"orrery/state"
)

// mark says of a fork what its component's properties cannot: it lies in the component's folder.
type mark struct {
	Method string `json:"method"`
	User   string `json:"user,omitempty"` // of clients, where that is not the container's
	Port   int    `json:"port,omitempty"` // of the fork's own server
	Bin    string `json:"bin,omitempty"`  // of that server's programs
}

const markFile = "fork.json"

// readMark returns the zero mark for a component that has none.
func readMark(t state.Target) (mark, error) {
	var k mark
	content, err := os.ReadFile(filepath.Join(t.Directory, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(content, &k); err != nil {
		return k, fmt.Errorf("%s: %w: %w", filepath.Join(t.Directory, markFile), state.ErrCorrupt, err)
	}
	return k, nil
}

func writeMark(t state.Target, k mark) error {
	content, err := json.Marshal(k)
	if err != nil {
		return err
	}
	path := filepath.Join(t.Directory, markFile)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func removeMark(t state.Target) error {
	err := os.Remove(filepath.Join(t.Directory, markFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// at is the server as the fork's clients find it.
func (k mark) at(s server) server {
	if k.User != "" {
		s.User = k.User
	}
	if k.Port != 0 {
		s.Host, s.Port, s.SSLMode = "127.0.0.1", k.Port, "disable"
	}
	return s
}

package mysql

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"orrery/state"
)

// mark says of a thin fork what its component's properties cannot: it lies in the component's folder.
type mark struct {
	Method   string `json:"method"`
	Port     int    `json:"port"`     // of the fork's own server
	Database string `json:"database"` // the source's name of it
	Program  string `json:"program"`  // the server
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

// resolve is a target's server and database as its clients find them.
func resolve(t state.Target) (s server, p properties, err error) {
	if s, err = decodeContainer(t.Container); err != nil {
		return s, p, err
	}
	if p, err = decodeComponent(t.Component); err != nil {
		return s, p, err
	}
	k, err := readMark(t)
	if err != nil {
		return s, p, err
	}
	s, p = k.at(t, s, p)
	return s, p, nil
}

// at is a server and database as those of a thin fork are found; the zero mark leaves them.
func (k mark) at(t state.Target, s server, p properties) (server, properties) {
	if k.Method == "" {
		return s, p
	}
	p.Database = k.Database
	if s.Socket != "" {
		s.Socket = thinCopy(t, s, k).Socket()
	}
	s.Host, s.Port = "127.0.0.1", k.Port
	return s, p
}

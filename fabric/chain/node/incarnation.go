package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// NextIncarnation counts the starts of a node in a file of a folder, which is made. Where the file is lost the clock is ahead of what was counted. When it returns, that is durable.
func NextIncarnation(dir string) (uint64, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	path := filepath.Join(dir, "incarnation.json")
	var last uint64
	content, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(content, &last)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("cannot read %s: %w", path, err)
	}
	next := max(last+1, uint64(time.Now().UnixMilli())) //nolint:gosec // not before 1970
	return next, replace(path, fmt.Appendln(nil, next))
}

// replace gives a file another content, durably.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	for _, name := range []string{path, filepath.Dir(path)} {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

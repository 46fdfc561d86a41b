package manager

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"orrery/state"
)

// item is what is placed for a program: files, and then symbolic links.
type item struct {
	files []file
	links []link
}

type file struct {
	path    string
	content []byte
	mode    fs.FileMode
}

type link struct{ path, target string }

// placed is what was placed, in the component's own folder; written before anything else is.
type placed struct {
	Paths []string `json:"paths"` // in the order in which they were placed
}

func placedFile(directory string) string { return filepath.Join(directory, "placed.json") }

// readPlaced returns what was placed; nil if nothing was.
func readPlaced(directory string) (*placed, error) {
	content, err := os.ReadFile(placedFile(directory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing was placed
	}
	if err != nil {
		return nil, err
	}
	p := &placed{}
	if err := json.Unmarshal(content, p); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", placedFile(directory), err)
	}
	return p, nil
}

// place puts an item where it belongs, each file whole or not at all, and says whether anything is different from before.
func (it item) place(directory string) (changed bool, err error) {
	before, err := readPlaced(directory)
	if err != nil {
		return false, err
	}
	mine := map[string]bool{}
	if before != nil {
		for _, path := range before.Paths {
			mine[path] = true
		}
	}
	var now placed
	for _, path := range it.paths() {
		now.Paths = append(now.Paths, path)
		if _, err := os.Lstat(path); err == nil && !mine[path] {
			return false, fmt.Errorf("%s exists and is not of this component: %w (remove it, or give the component another name)", path, state.ErrInUse)
		}
	}
	for path := range mine { // of an earlier version with other paths
		if !slices.Contains(now.Paths, path) {
			now.Paths = append(now.Paths, path)
		}
	}
	content, err := json.Marshal(now)
	if err != nil {
		return false, err
	}
	if err := replace(placedFile(directory), content, 0o600); err != nil {
		return false, err
	}
	for _, f := range it.files {
		if has, err := os.ReadFile(f.path); err == nil && bytes.Equal(has, f.content) {
			continue
		}
		if err := replace(f.path, f.content, f.mode); err != nil {
			return false, err
		}
		changed = true
	}
	for _, l := range it.links {
		if has, err := os.Readlink(l.path); err == nil && has == l.target {
			continue
		}
		if err := relink(l); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}

func (it item) paths() []string {
	var all []string
	for _, f := range it.files {
		all = append(all, f.path)
	}
	for _, l := range it.links {
		all = append(all, l.path)
	}
	return all
}

// remove removes what was placed, the last first, and what a crash left beside it.
func (p *placed) remove() error {
	for _, path := range slices.Backward(p.Paths) {
		for _, name := range []string{path, temporary(path)} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// forget is the end of a removal.
func (p *placed) forget(directory string) error { return os.Remove(placedFile(directory)) }

// temporary is a name beside path that no process manager reads: it begins with a dot and has an ending of its own.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".orrery-new")
}

// replace writes a file beside path and renames it when it is complete and durable.
func replace(path string, content []byte, mode fs.FileMode) error {
	side := temporary(path)
	f, err := os.OpenFile(side, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(side, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(side))
	}
	return nil
}

func relink(l link) error {
	side := temporary(l.path)
	if err := os.Remove(side); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(l.target, side); err != nil {
		return err
	}
	if err := os.Rename(side, l.path); err != nil {
		return errors.Join(err, os.Remove(side))
	}
	return nil
}

package history

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"orrery/clip"
)

// digestOf names contents, whatever order they are in, and whichever of its names plain text has: X11, Wayland and other clipboard managers prefer different ones.
func digestOf(contents []clip.Content) digest {
	sorted := slices.Clone(contents)
	for i, c := range sorted {
		if clip.TextType(c.Type) && c.Type != "COMPOUND_TEXT" { // which has an encoding of its own
			sorted[i].Type = "text/plain"
		}
	}
	slices.SortStableFunc(sorted, func(a, b clip.Content) int { return cmp.Compare(a.Type, b.Type) })
	h := sha256.New()
	var n [8]byte
	for _, c := range sorted {
		for _, piece := range [][]byte{[]byte(c.Type), c.Data} {
			binary.LittleEndian.PutUint64(n[:], uint64(len(piece)))
			h.Write(n[:])
			h.Write(piece)
		}
	}
	return digest(h.Sum(nil)[:len(digest{})])
}

// objects are the files of contents that are too large for a record. A file's name is the hash of its content, keyed where the history is
// encrypted, so that names tell nothing.
type objects struct {
	dir  string
	seal *seal
	key  []byte
}

func (o *objects) name(data []byte) string {
	if o.seal == nil {
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:])
	}
	h := hmac.New(sha256.New, o.key)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

func (o *objects) path(name string) string { return filepath.Join(o.dir, name) }

// put writes a file durably, unless it is there.
func (o *objects) put(data []byte) (name string, err error) {
	name = o.name(data)
	if _, err := os.Stat(o.path(name)); err == nil {
		return name, nil
	}
	if o.seal != nil {
		data = o.seal.close(nil, data, []byte(name))
	}
	return name, writeDurably(o.path(name), data)
}

// writeDurably makes a file as a whole, or not at all.
func writeDurably(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what is left is swept at the next start
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(sync(d), d.Close())
}

// get reads a file and checks that it is what was written.
func (o *objects) get(name string) ([]byte, error) {
	data, err := os.ReadFile(o.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: file %s of the history is missing", clip.ErrCorrupt, name)
	}
	if err != nil {
		return nil, err
	}
	if o.seal != nil {
		if data, err = o.seal.open(data, []byte(name)); err != nil {
			return nil, fmt.Errorf("file %s of the history: %w", name, err)
		}
	}
	if o.name(data) != name {
		return nil, fmt.Errorf("%w: file %s of the history has another content", clip.ErrCorrupt, name)
	}
	return data, nil
}

// remove deletes files that no item needs. A file that stays after an error is swept at the next start.
func (o *objects) remove(names []string) error {
	var errs []error
	for _, name := range names {
		if err := os.Remove(o.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweep deletes all files but those that are needed.
func (o *objects) sweep(needed func(name string) bool) error {
	files, err := os.ReadDir(o.dir)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range files {
		if !needed(f.Name()) {
			names = append(names, f.Name())
		}
	}
	return o.remove(names)
}

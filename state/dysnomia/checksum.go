package dysnomia

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A snapshot has two checksums. checksums/ has Dysnomia's, which depends on the order in which the file system lists
// a folder. Ours, in sorted order, lies below .orrery and holds wherever the snapshot is copied.

// outputHash is the checksum of a file, or of a folder: its paths, an empty line, and the content of its files.
func outputHash(path string, sorted bool) (string, error) {
	h := sha256.New()
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().IsRegular() {
		err = hashFile(h, path)
	} else {
		err = hashFolder(h, path, sorted)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), err
}

func hashFolder(h io.Writer, root string, sorted bool) error {
	var files []string
	err := walk(root, ".", sorted, func(path string, mode fs.FileMode) error {
		if mode.IsRegular() {
			files = append(files, path)
		}
		_, err := io.WriteString(h, path+"\n")
		return err
	})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(h, "\n"); err != nil {
		return err
	}
	for _, path := range files {
		if err := hashFile(h, filepath.Join(root, path)); err != nil {
			return err
		}
	}
	return nil
}

// walk visits a tree in the order of find: each folder before what is in it.
func walk(root, path string, sorted bool, visit func(path string, mode fs.FileMode) error) error {
	info, err := os.Lstat(filepath.Join(root, path))
	if err != nil {
		return err
	}
	if err := visit(path, info.Mode()); err != nil || !info.IsDir() {
		return err
	}
	names, err := listed(filepath.Join(root, path), sorted)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := walk(root, path+"/"+name, sorted, visit); err != nil {
			return err
		}
	}
	return nil
}

// listed are the names in a folder, sorted or in the order in which the file system has them.
func listed(folder string, sorted bool) ([]string, error) {
	if !sorted {
		f, err := os.Open(folder)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		return f.Readdirnames(-1)
	}
	entries, err := os.ReadDir(folder)
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.Name()
	}
	return all, err
}

func hashFile(h io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(h, f)
	return err
}

func sameContent(a, b string) (bool, error) {
	first, err := outputHash(a, true)
	if err != nil {
		return false, err
	}
	second, err := outputHash(b, true)
	return first == second, err
}

func (d *Directory) writeChecksums(r Ref, id string) error {
	path := d.SnapshotPath(r, id)
	for folder, sorted := range map[string]bool{checksums: false, filepath.Join(own, checksums): true} {
		sum, err := outputHash(path, sorted)
		if err != nil {
			return err
		}
		if err := writeFile(d.join(folder, r, id), sum); err != nil {
			return err
		}
	}
	return nil
}

// writeFile puts a small file in its place, whole and durable.
func writeFile(path, content string) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, ".new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(f.Name(), path), syncFolder(folder))
}

// errNoChecksum says that nothing is known about a snapshot; it may be good.
var errNoChecksum = errors.New("no checksum")

// Verify compares a snapshot's files with its checksum; ErrChecksum.
func (d *Directory) Verify(g Generation) error {
	for _, c := range []struct {
		folder string
		orders []bool
	}{{filepath.Join(own, checksums), []bool{true}}, {checksums, []bool{false, true}}} {
		content, err := os.ReadFile(d.join(c.folder, g.Ref, g.Snapshot))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		return d.compare(g, strings.TrimSpace(string(content)), c.orders)
	}
	return errNoChecksum
}

func (d *Directory) compare(g Generation, want string, orders []bool) error {
	var got string
	for _, sorted := range orders {
		var err error
		if got, err = outputHash(d.SnapshotPath(g.Ref, g.Snapshot), sorted); err != nil {
			return fmt.Errorf("%w for snapshot: %s: %w", ErrChecksum, g.Relative(), err)
		}
		if got == want {
			return nil
		}
	}
	return fmt.Errorf("%w detected for snapshot: %s, we have: '%s', we expect: '%s'", ErrChecksum, g.Relative(), got, want)
}

// IsUnknown says whether an error of Verify is that there is no checksum.
func IsUnknown(err error) bool { return errors.Is(err, errNoChecksum) }

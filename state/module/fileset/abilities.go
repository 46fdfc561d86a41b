package fileset

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"

	"orrery/state"
)

var (
	_ state.Neighbor     = (*Module)(nil)
	_ state.Sheller      = (*Module)(nil)
	_ state.Itemizer     = (*Module)(nil)
	_ state.Presenter    = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
	_ state.Portable     = (*Module)(nil)
)

// Beside leaves out the property that names the folder, so that the other component has one of its own.
func (m *Module) Beside(c state.Component, name string) state.Component {
	c.Name = name
	c.Properties = maps.Clone(c.Properties)
	delete(c.Properties, "directory")
	return c
}

// Shell is a shell in the folder.
func (m *Module) Shell(_ context.Context, t state.Target, command string) (state.Command, error) {
	folder, _, err := locate(t)
	if err != nil {
		return state.Command{}, err
	}
	c := state.Command{Path: "/bin/sh", Dir: folder}
	if command != "" {
		c.Args = []string{"-c", command}
	}
	return c, nil
}

// Items are the files, folders and links of a snapshot, by path. The content is a digest of everything that is kept of them.
func (m *Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	return entries(ctx, snapshot, func(h *tar.Header, content io.Reader) error {
		digest := sha256.New()
		// Encoded so that no two different headers are the same bytes.
		about, err := json.Marshal([]any{h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.UnixNano(), h.Linkname, h.Size, attributes(h)})
		if err != nil {
			return err
		}
		_, _ = digest.Write(about) // never fails
		if _, err := io.Copy(digest, content); err != nil {
			return err
		}
		return visit(state.Item{Key: []byte(path.Clean(h.Name)), Content: digest.Sum(nil)})
	})
}

// Group implements state.Presenter: a file is counted with its folder.
func (*Module) Group(i state.Item) string { return path.Dir(string(i.Key)) }

// Name implements state.Presenter.
func (*Module) Name(i state.Item) string { return string(i.Key) }

// attributes are the records of an entry that belong to the file.
func attributes(h *tar.Header) map[string]string {
	kept := maps.Clone(h.PAXRecords)
	maps.DeleteFunc(kept, func(name, _ string) bool { return !strings.HasPrefix(name, "SCHILY.xattr.") })
	return kept
}

// entries reads an archive to its end.
func entries(ctx context.Context, snapshot io.Reader, visit func(h *tar.Header, content io.Reader) error) error {
	in := tar.NewReader(snapshot)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			_, err = io.Copy(io.Discard, snapshot) // whoever yields it verifies it to its end
			return err
		}
		if err != nil {
			return fmt.Errorf("cannot read the archive: %w: %w", state.ErrCorrupt, err)
		}
		if err := visit(h, in); err != nil {
			return err
		}
	}
}

// RestorePart brings back a file, or a folder with all that is in it, by its path in the folder. It is unpacked beside,
// and exchanged with what is there in one step where the system can.
func (m *Module) RestorePart(ctx context.Context, t state.Target, snapshot io.Reader, part string) (err error) {
	folder, _, err := settled(t)
	if err != nil {
		return err
	}
	part = filepath.Clean(filepath.FromSlash(part))
	if !filepath.IsLocal(part) || part == "." {
		return fmt.Errorf("%w: path %q is none below the folder", state.ErrBadProperty, part)
	}
	if err := plain(folder, filepath.Dir(part)); err != nil {
		return err
	}
	side := folder + suffixSide
	if err := os.RemoveAll(side); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(side)) }()
	if err := unpackPart(ctx, side, snapshot, part); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(part)), 0o755); err != nil {
		return err
	}
	here := filepath.Join(folder, part)
	if err := put(filepath.Join(side, part), here); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(here))
}

// plain says whether a path below a folder leads through folders only, as far as it exists: a link could lead elsewhere.
func plain(folder, below string) error {
	for at := below; at != "."; at = filepath.Dir(at) {
		info, err := os.Lstat(filepath.Join(folder, at))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%w: %s is no folder there now", state.ErrInUse, at)
		}
	}
	return nil
}

// put moves a file or folder to its place and what is there in its stead.
func put(side, here string) error {
	if _, err := os.Lstat(here); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(side, here)
	}
	return swapNames(side, here)
}

// unpackPart makes a new folder of what an archive has of one path.
func unpackPart(ctx context.Context, folder string, r io.Reader, part string) error {
	want, found := filepath.ToSlash(part), false
	inside := func(name string) bool {
		name = path.Clean(name)
		return name == want || strings.HasPrefix(name, want+"/")
	}
	err := build(folder, func(b *builder) error {
		return entries(ctx, r, func(h *tar.Header, content io.Reader) error {
			if !inside(h.Name) {
				return nil
			}
			if h.Typeflag == tar.TypeLink && !inside(h.Linkname) {
				return fmt.Errorf("%w: %s is a hard link to %s, which is not in this part (restore all of it)", state.ErrNotAble, h.Name, h.Linkname)
			}
			found = true
			return b.add(h, func(f *os.File) error {
				_, err := io.Copy(f, content)
				return err
			})
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("path %q in the snapshot: %w", part, state.ErrNotFound)
	}
	return err
}

// Extension is that of tar files, which snapshots are.
func (m *Module) Extension() string { return ".tar" }

// Export writes the snapshot as it is.
func (m *Module) Export(_ context.Context, snapshot io.Reader, w io.Writer) error {
	_, err := io.Copy(w, snapshot)
	return err
}

// Import reads any tar file. One of another program is unpacked and packed as a snapshot is; owners are those that
// this process may give to files.
func (m *Module) Import(ctx context.Context, archive io.Reader, w io.Writer) (err error) {
	var head bytes.Buffer
	first, err := tar.NewReader(io.TeeReader(archive, &head)).Next()
	if err != nil {
		return fmt.Errorf("cannot read the archive: %w: %w", state.ErrCorrupt, err)
	}
	whole := io.MultiReader(&head, archive)
	folder, err := os.MkdirTemp("", "orrery-fileset-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if first.PAXRecords[recordEntries] != "" {
		_, err := io.Copy(w, whole)
		return err
	}
	files := filepath.Join(folder, "files")
	if err := unpack(ctx, files, whole); err != nil {
		return err
	}
	return writeTar(ctx, files, w)
}

package fileset

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"orrery/state"
)

// builder makes a tree of files inside a folder, and never outside it.
type builder struct {
	root    *os.Root
	folders []*tar.Header // whose attributes are set when everything is in them
}

// build makes a new folder and has fill put files into it.
func build(folder string, fill func(b *builder) error) (err error) {
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	b := &builder{root: root}
	if err := fill(b); err != nil {
		return err
	}
	for _, h := range slices.Backward(b.folders) {
		if err := b.dress(h); err != nil {
			return err
		}
	}
	return syncTree(folder)
}

// add makes what the header says; content fills a regular file.
func (b *builder) add(h *tar.Header, content func(f *os.File) error) error {
	name := filepath.FromSlash(h.Name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("path %q leaves the folder: %w", h.Name, state.ErrCorrupt)
	}
	if parent := filepath.Dir(name); parent != "." {
		if err := b.root.MkdirAll(parent, 0o755); err != nil { // foreign archives may lack the entry
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		b.folders = append(b.folders, h)
		return b.root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		if err := b.addFile(name, content); err != nil {
			return err
		}
		return b.dress(h)
	case tar.TypeSymlink:
		if err := b.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return b.own(name, h)
	case tar.TypeLink:
		if !filepath.IsLocal(filepath.FromSlash(h.Linkname)) {
			return fmt.Errorf("link %q to %q leaves the folder: %w", h.Name, h.Linkname, state.ErrCorrupt)
		}
		return b.root.Link(filepath.FromSlash(h.Linkname), name)
	case tar.TypeXGlobalHeader:
		return nil
	}
	return fmt.Errorf("%q is of type %q, neither file nor folder nor link: %w", h.Name, h.Typeflag, state.ErrCorrupt)
}

func (b *builder) addFile(name string, content func(f *os.File) error) error {
	f, err := b.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(content(f), f.Close())
}

// dress sets owner, extended attributes, mode and time, in the order in which they do not undo each other.
func (b *builder) dress(h *tar.Header) error {
	name := filepath.FromSlash(h.Name)
	if err := b.own(name, h); err != nil {
		return err
	}
	if err := b.attribute(name, h); err != nil {
		return err
	}
	if err := b.root.Chmod(name, fileMode(h.Mode)); err != nil {
		return err
	}
	return b.root.Chtimes(name, h.ModTime, h.ModTime)
}

// own sets the owner as far as this process may: only root can give files away.
func (b *builder) own(name string, h *tar.Header) error {
	if err := b.root.Lchown(name, h.Uid, h.Gid); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// attribute sets the extended attributes, as far as this process may.
func (b *builder) attribute(name string, h *tar.Header) (err error) {
	if !slices.ContainsFunc(slices.Collect(maps.Keys(h.PAXRecords)), isAttribute) {
		return nil
	}
	f, err := b.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if !isAttribute(key) {
			continue
		}
		attribute := strings.TrimPrefix(key, attributePrefix)
		err := setAttribute(f, attribute, h.PAXRecords[key])
		if err != nil && (os.Geteuid() == 0 || !errors.Is(err, fs.ErrPermission)) {
			return fmt.Errorf("cannot set attribute %s of %s (does the file system keep such attributes?): %w", attribute, h.Name, err)
		}
	}
	return nil
}

// unpack makes a new folder of a tar stream.
func unpack(ctx context.Context, folder string, r io.Reader) error {
	return build(folder, func(b *builder) error {
		in := tar.NewReader(r)
		want, got := -1, 0
		for ; ; got++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("cannot read the archive: %w: %w", state.ErrCorrupt, err)
			}
			if n, ok := h.PAXRecords[recordEntries]; ok {
				if want, err = strconv.Atoi(n); err != nil {
					return fmt.Errorf("number of entries %q: %w", n, state.ErrCorrupt)
				}
			}
			err = b.add(h, func(f *os.File) error {
				return copySparse(f, in)
			})
			if err != nil {
				return err
			}
		}
		if want >= 0 && got != want {
			return fmt.Errorf("archive has %d of %d entries: %w", got, want, state.ErrCorrupt)
		}
		if want < 0 && got == 0 {
			return fmt.Errorf("archive has no entries: %w", state.ErrCorrupt)
		}
		_, err := io.Copy(io.Discard, r) // whoever yields it verifies it to its end
		return err
	})
}

// duplicate copies a folder into a new one, and begins anew when files change.
func duplicate(ctx context.Context, source, folder string) (method string, err error) {
	for range attempts {
		method, err = tryDuplicate(ctx, source, folder)
		if !errors.Is(err, errChanged) {
			return method, err
		}
		if err := os.RemoveAll(folder); err != nil {
			return "", err
		}
	}
	return "", err
}

func tryDuplicate(ctx context.Context, source, folder string) (method string, err error) {
	entries, err := calm(ctx, source)
	if err != nil {
		return "", err
	}
	method = "reflink"
	err = build(folder, func(b *builder) error {
		i := -1
		for h, err := range headers(source, entries) {
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			i++
			err = b.add(h, func(into *os.File) error {
				return entries[i].read(source, func(from *os.File) error {
					if h.Size == 0 || cloneFile(into, from) == nil {
						return nil
					}
					method = "copy"
					return copySparse(into, from)
				})
			})
			if err != nil {
				return err
			}
		}
		return unchanged(ctx, source, entries)
	})
	return method, err
}

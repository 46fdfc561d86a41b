// Package tree writes folders as tar streams, and reads them back.
//
// The same files give the same bytes, in whatever order a file system lists them. Reading cannot leave its folder,
// whatever the stream says, and a stream that is cut short is an error.
package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ErrStream says that a stream is no tree, or not all of one.
var ErrStream = errors.New("bad stream of files")

// Pack writes those of root's paths, which are relative and inside, with all that is below them. Files, folders and
// symbolic links are kept with their modes and owners, files with the second of their last change.
func Pack(root string, paths []string, w io.Writer) error {
	return packAll(root, paths, w, func(*tar.Header) {})
}

// PackContent is Pack without times and owners: of files that are a snapshot, who wrote them and when is not part of it.
func PackContent(root string, paths []string, w io.Writer) error {
	return packAll(root, paths, w, func(h *tar.Header) {
		h.ModTime, h.Uid, h.Gid, h.Uname, h.Gname = time.Unix(0, 0), 0, 0, "", ""
	})
}

func packAll(root string, paths []string, w io.Writer, adapt func(*tar.Header)) error {
	t := tar.NewWriter(w)
	for _, one := range slices.Sorted(slices.Values(paths)) {
		if !filepath.IsLocal(one) {
			return fmt.Errorf("%q leads out of %s", one, root)
		}
		err := filepath.WalkDir(filepath.Join(root, one), func(file string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			return pack(t, file, name, e, adapt)
		})
		if err != nil {
			return err
		}
	}
	return t.Close()
}

func pack(t *tar.Writer, file, name string, e fs.DirEntry, adapt func(*tar.Header)) error {
	info, err := e.Info()
	if err != nil {
		return err
	}
	target := ""
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		if target, err = os.Readlink(file); err != nil {
			return err
		}
	case !info.Mode().IsRegular() && !info.IsDir():
		return fmt.Errorf("%s is neither a file, a folder nor a link", file)
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name, h.Format = filepath.ToSlash(name), tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	h.ModTime = info.ModTime().Truncate(time.Second)
	if !info.Mode().IsRegular() {
		h.ModTime = time.Unix(0, 0)
	}
	if info.IsDir() {
		h.Name += "/"
	}
	adapt(h)
	if err := t.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	n, err := io.Copy(t, f)
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%s changed while it was read", file)
	}
	return err
}

// Unpack reads a tree into a folder that exists and is empty. It keeps owners if it may.
func Unpack(r io.Reader, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	u := unpacking{root: root, owners: os.Geteuid() == 0}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = u.one(h, t)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrStream, err)
		}
	}
	// The reader stops at the end marker; what is behind it is padding, and has to be readable.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	if u.entries == 0 {
		return fmt.Errorf("%w: it is empty", ErrStream)
	}
	return u.finish()
}

type unpacking struct {
	root    *os.Root
	owners  bool
	entries int
	folders []*tar.Header // their modes are set last: they may forbid writing
}

func (u *unpacking) one(h *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimPrefix(h.Name, "./"))
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%q leads out of the folder", h.Name)
	}
	h.Name = name
	u.entries++
	if name != "." {
		if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.folders = append(u.folders, h)
		return u.root.MkdirAll(name, 0o700)
	case tar.TypeReg:
		if err := u.file(h, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
	case tar.TypeLink:
		if err := u.root.Link(path.Clean(strings.TrimPrefix(h.Linkname, "./")), name); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%q is neither a file, a folder nor a link", h.Name)
	}
	return u.own(h)
}

func (u *unpacking) own(h *tar.Header) error {
	if !u.owners {
		return nil
	}
	if err := u.root.Lchown(h.Name, h.Uid, h.Gid); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	return u.root.Chmod(h.Name, h.FileInfo().Mode()) // a change of owner takes away what is special in it
}

func (u *unpacking) file(h *tar.Header, content io.Reader) error {
	f, err := u.root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Chmod(h.FileInfo().Mode()), f.Sync(), f.Close()); err != nil {
		return err
	}
	return u.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func (u *unpacking) finish() error {
	for _, h := range slices.Backward(u.folders) {
		if err := u.own(h); err != nil {
			return err
		}
		if err := u.root.Chmod(h.Name, h.FileInfo().Mode().Perm()|h.FileInfo().Mode()&(fs.ModeSetgid|fs.ModeSticky)); err != nil {
			return err
		}
	}
	return nil
}

package place

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"orrery/state"
)

// MaxLine bounds a line, such as one with a path: what a reader's buffer must hold.
const MaxLine = 64 << 10

const lastLine = "configured"

// maxConfiguration bounds a file.
const maxConfiguration = 64 << 20

// modeMask are the permissions that a snapshot keeps: the group's belong to the place.
const modeMask = 0o707

// Files are those files of a repository that configure it: which of a snapshot's are taken, and which are kept.
type Files struct {
	Roots []string               // folders and files in the repository
	Skip  func(name string) bool // templates and what is derived
}

// ours says whether a name is of such a file.
func (c Files) ours(name string) bool {
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) || c.Skip(name) {
		return false
	}
	return slices.ContainsFunc(c.Roots, func(root string) bool { return name == root || strings.HasPrefix(name, root+"/") })
}

// walk visits them by name.
func (c Files) walk(root *os.Root, visit func(name string, d fs.DirEntry) error) error {
	for _, top := range c.Roots {
		err := fs.WalkDir(root.FS(), top, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || c.Skip(name) {
				if errors.Is(err, fs.ErrNotExist) && name == top {
					return nil
				}
				return err
			}
			return visit(name, d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Write writes a snapshot's part about the files of the repository at, or that they are not in it:
//
//	configuration yes                   or no, and nothing after it
//	file 0604 12 "conf/authz"           a file by its name, and its bytes
//	link "hooks/check" "../check"       what a symbolic link says
//	configured
func (c Files) Write(w io.Writer, at string, has bool) error {
	if !has {
		_, err := io.WriteString(w, "configuration no\n")
		return err
	}
	if _, err := io.WriteString(w, "configuration yes\n"); err != nil {
		return err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	err = c.walk(root, func(name string, d fs.DirEntry) error {
		if d.Type()&fs.ModeSymlink != 0 {
			link, err := root.Readlink(name)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w, "link %q %q\n", name, link)
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a link: %w keep it", name, state.ErrNotAble)
		}
		return writeFile(w, root, name)
	})
	if err = errors.Join(err, root.Close()); err != nil {
		return err
	}
	_, err = io.WriteString(w, lastLine+"\n")
	return err
}

func writeFile(w io.Writer, root *os.Root, name string) (err error) {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxConfiguration {
		return fmt.Errorf("%s has more than %d bytes: %w keep it (set configuration to false)", name, maxConfiguration, state.ErrNotAble)
	}
	if _, err := fmt.Fprintf(w, "file %04o %d %q\n", info.Mode().Perm()&modeMask, info.Size(), name); err != nil {
		return err
	}
	if _, err := io.CopyN(w, f, info.Size()); err != nil {
		return fmt.Errorf("%s changed while it was read: %w", name, err)
	}
	return nil
}

// Read reads that part, says whether the snapshot has files, and makes them in the folder at if take is set.
func (c Files) Read(in *bufio.Reader, at string, take bool) (has bool, err error) {
	line, err := readLine(in)
	if err != nil {
		return false, err
	}
	if line == "configuration no" {
		return false, nil
	}
	if line != "configuration yes" {
		return false, fmt.Errorf("%w: the snapshot says %.40q about its configuration", state.ErrCorrupt, line)
	}
	into := &taking{Files: c, in: in}
	if take {
		if into.root, err = os.OpenRoot(at); err != nil {
			return true, err
		}
		defer func() { err = errors.Join(err, into.root.Close()) }()
		if err := into.clear(); err != nil {
			return true, err
		}
	}
	for {
		line, err := readLine(in)
		if err != nil || line == lastLine {
			return true, err
		}
		if err := into.entry(line); err != nil {
			return true, err
		}
	}
}

func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: the snapshot ends in its configuration, or has too long a line", state.ErrCorrupt)
	case err != nil:
		return "", fmt.Errorf("cannot read the snapshot: %w", err)
	}
	return string(line[:len(line)-1]), nil
}

// taking is the files that are being read; they are only checked where there is no root.
type taking struct {
	Files
	in   *bufio.Reader
	root *os.Root
}

// clear removes what a new repository has.
func (c *taking) clear() error {
	return c.walk(c.root, func(name string, _ fs.DirEntry) error { return c.root.Remove(name) })
}

func (c *taking) entry(line string) error {
	var name, link string
	var mode uint32
	var size int64
	if n, err := fmt.Sscanf(line, "link %q %q", &name, &link); err == nil && n == 2 {
		if !c.ours(name) {
			return fmt.Errorf("%w: %q in the snapshot is no file of a configuration", state.ErrCorrupt, name)
		}
		return c.link(name, link)
	}
	head, quoted, _ := strings.Cut(line, ` "`)
	n, err := fmt.Sscanf(head, "file %o %d", &mode, &size)
	if err == nil && n == 2 {
		name, err = strconv.Unquote(`"` + quoted)
	}
	if err != nil || mode&^modeMask != 0 || size < 0 || size > maxConfiguration || !c.ours(name) {
		return fmt.Errorf("%w: %.80q in the snapshot is no file of a configuration", state.ErrCorrupt, line)
	}
	return c.file(name, fs.FileMode(mode), size)
}

func (c *taking) link(name, target string) error {
	if c.root == nil {
		return nil
	}
	if err := c.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return c.root.Symlink(target, name)
}

func (c *taking) file(name string, mode fs.FileMode, size int64) error {
	if c.root == nil {
		_, err := io.CopyN(io.Discard, c.in, size)
		return cut(err)
	}
	if err := c.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, c.in, size)
	mode |= mode & 0o7 << 3
	return errors.Join(cut(err), f.Chmod(mode), f.Close())
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: the snapshot ends in the middle of a file", state.ErrCorrupt)
	}
	return err
}

// Copy gives the repository side the files of another one.
func (c Files) Copy(side, from string) (err error) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := c.Write(w, from, true)
		w.CloseWithError(err)
		written <- err
	}()
	_, err = c.Read(bufio.NewReaderSize(r, MaxLine), side, true)
	r.CloseWithError(io.ErrClosedPipe)
	return errors.Join(err, <-written)
}

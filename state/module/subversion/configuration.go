package subversion

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"orrery/state"
)

// maxConfiguration bounds a file in conf/ and hooks/.
const maxConfiguration = 64 << 20

// modeMask are the permissions that a snapshot keeps: the group's belong to the place.
const modeMask = 0o707

// walkConfiguration visits the files and links in conf/ and hooks/ but templates, by name.
func walkConfiguration(root *os.Root, visit func(name string, d fs.DirEntry) error) error {
	for _, top := range []string{"conf", "hooks"} {
		err := fs.WalkDir(root.FS(), top, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(name, ".tmpl") {
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

// writeConfiguration writes a snapshot's part about conf/ and hooks/.
func writeConfiguration(w io.Writer, at string, has bool) error {
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
	err = walkConfiguration(root, func(name string, d fs.DirEntry) error {
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
	return errors.Join(err, root.Close())
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

// readConfiguration reads that part, to the line dump, and makes the files in the folder at if take is set.
func readConfiguration(in *bufio.Reader, at string, take bool) (has bool, err error) {
	line, err := readLine(in)
	if err != nil {
		return false, err
	}
	if line == "configuration no" {
		return false, expect(in, dumpLine)
	}
	if line != "configuration yes" {
		return false, fmt.Errorf("%w: the snapshot says %.40q about its configuration", state.ErrCorrupt, line)
	}
	into := &configuration{in: in}
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
		if err != nil || line+"\n" == dumpLine {
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
		return "", fmt.Errorf("%w: the snapshot ends before its dump, or has too long a line", state.ErrCorrupt)
	case err != nil:
		return "", fmt.Errorf("cannot read the snapshot: %w", err)
	}
	return string(line[:len(line)-1]), nil
}

// configuration is the files in conf/ and hooks/ that are being read; they are only checked where there is no root.
type configuration struct {
	in   *bufio.Reader
	root *os.Root
}

// clear removes what svnadmin create wrote, but for templates.
func (c *configuration) clear() error {
	return walkConfiguration(c.root, func(name string, _ fs.DirEntry) error { return c.root.Remove(name) })
}

func (c *configuration) entry(line string) error {
	var name, link string
	var mode uint32
	var size int64
	if n, err := fmt.Sscanf(line, "link %q %q", &name, &link); err == nil && n == 2 {
		if !ours(name) {
			return fmt.Errorf("%w: %q in the snapshot is not in conf or hooks", state.ErrCorrupt, name)
		}
		return c.link(name, link)
	}
	head, quoted, _ := strings.Cut(line, ` "`)
	n, err := fmt.Sscanf(head, "file %o %d", &mode, &size)
	if err == nil && n == 2 {
		name, err = strconv.Unquote(`"` + quoted)
	}
	if err != nil || mode&^modeMask != 0 || size < 0 || size > maxConfiguration || !ours(name) {
		return fmt.Errorf("%w: %.80q in the snapshot is no file of conf or hooks", state.ErrCorrupt, line)
	}
	return c.file(name, fs.FileMode(mode), size)
}

// ours says whether a name is of a file in conf/ or hooks/.
func ours(name string) bool {
	return fs.ValidPath(name) && !strings.ContainsRune(name, 0) && !strings.HasSuffix(name, ".tmpl") &&
		(strings.HasPrefix(name, "conf/") || strings.HasPrefix(name, "hooks/"))
}

func (c *configuration) link(name, target string) error {
	if c.root == nil {
		return nil
	}
	if err := c.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return c.root.Symlink(target, name)
}

func (c *configuration) file(name string, mode fs.FileMode, size int64) error {
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

// copyConfiguration gives the repository side the conf/ and hooks/ of another one.
func copyConfiguration(side, from string) (err error) {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeConfiguration(w, from, true)
		if err == nil {
			_, err = io.WriteString(w, dumpLine)
		}
		w.CloseWithError(err)
		written <- err
	}()
	_, err = readConfiguration(bufio.NewReaderSize(r, maxLine), side, true)
	r.CloseWithError(io.ErrClosedPipe)
	return errors.Join(err, <-written)
}

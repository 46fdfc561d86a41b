package fileset

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"orrery/state"
)

// errChanged says that files changed while they were being read.
var errChanged = errors.New("files change while they are read (stop what writes to them, or try again)")

const (
	// attempts is how often reading begins anew after a change.
	attempts = 5
	// racy is how old a file's last change must be for a later one to show in its times, which file systems
	// take from a clock with a tick.
	racy = 20 * time.Millisecond
)

// entry is a file, folder or link as a walk found it. Two equal entries are of a file that did not change.
type entry struct {
	path     string // relative to the folder; "." for itself
	link     string // what a symbolic link says
	mode     fs.FileMode
	size     int64
	modified time.Time
	owner
}

// walk looks at everything in a folder, in an order that depends on the names only.
func walk(ctx context.Context, folder string) ([]entry, error) {
	var entries []entry
	err := names(ctx, folder, func(path string) error {
		entries = append(entries, entry{path: path})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = inParallel(ctx, len(entries), func(i int) (err error) {
		entries[i], err = found(folder, entries[i].path)
		return err
	})
	return entries, err
}

// names calls visit for every relative path in a folder but those of sockets, which belong to who listens on them.
func names(ctx context.Context, folder string, visit func(path string) error) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if d.Type()&fs.ModeSocket != 0 {
			return nil
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return visit(relative)
	})
}

// found looks at one file, folder or link.
func found(folder, relative string) (entry, error) {
	path := filepath.Join(folder, relative)
	info, err := os.Lstat(path)
	if err != nil {
		return entry{}, err
	}
	e := look(relative, info)
	switch e.mode.Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if e.link, err = os.Readlink(path); err != nil {
			return entry{}, err
		}
	case fs.ModeSocket: // it took the place of something else since its folder was listed
		return entry{}, fmt.Errorf("%s: %w", path, errChanged)
	default:
		return entry{}, fmt.Errorf("%s is neither a file nor a folder nor a link, and cannot be kept", path)
	}
	return e, nil
}

func look(path string, info fs.FileInfo) entry {
	e := entry{path: path, mode: info.Mode(), modified: info.ModTime(), owner: ownerOf(info)}
	if e.mode.IsRegular() {
		e.size = info.Size()
	}
	return e
}

// calm walks until nothing changed so recently that a further change might not show.
func calm(ctx context.Context, folder string) ([]entry, error) {
	for range attempts {
		began := time.Now()
		entries, err := walk(ctx, folder)
		if errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			if _, gone := os.Lstat(folder); gone != nil {
				return nil, gone
			}
			continue // a file was removed under the walk
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(entries, func(e entry) bool { return e.changed.After(began.Add(-racy)) }) {
			return entries, nil
		}
		timer := time.NewTimer(racy + racy/2)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("%s: %w", folder, errChanged)
}

// unchanged says whether a folder is still as it was found.
func unchanged(ctx context.Context, folder string, entries []entry) error {
	n := 0
	err := names(ctx, folder, func(path string) error {
		if n == len(entries) || entries[n].path != path {
			return errChanged
		}
		n++
		return nil
	})
	if err == nil && n < len(entries) {
		err = errChanged
	}
	if err == nil {
		err = inParallel(ctx, n, func(i int) error {
			if e, err := found(folder, entries[i].path); err != nil || e != entries[i] {
				return errChanged
			}
			return nil
		})
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", folder, errChanged)
	}
	return err
}

// read opens a file that was found, and sees to it that it stays the same while use reads it.
func (e entry) read(folder string, use func(f *os.File) error) (err error) {
	f, err := openFile(filepath.Join(folder, e.path))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", e.path, errChanged)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := e.still(f); err != nil {
		return err
	}
	if err := use(f); err != nil {
		return err
	}
	return e.still(f)
}

func (e entry) still(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if look(e.path, info) != e {
		return fmt.Errorf("%s: %w", e.path, errChanged)
	}
	return nil
}

// headers makes the tar header of each entry. Only regular entries have content.
func headers(folder string, entries []entry) iter.Seq2[*tar.Header, error] {
	return func(yield func(*tar.Header, error) bool) {
		first := map[[2]uint64]string{}
		for _, e := range entries {
			p := piece{entry: e, header: e.header(first)}
			err := p.describe(folder)
			if err != nil {
				err = changedIfGone(e.path, err)
			}
			if !yield(p.header, err) || err != nil {
				return
			}
		}
	}
}

// header is an entry's tar header without its extended attributes. First are the names of files by device and inode,
// of those that have several.
func (e entry) header(first map[[2]uint64]string) *tar.Header {
	h := &tar.Header{
		Format: tar.FormatPAX, Name: filepath.ToSlash(e.path), Mode: int64(unixMode(e.mode)), Uid: e.uid, Gid: e.gid,
		ModTime: e.modified, Typeflag: tar.TypeReg, Size: e.size,
	}
	switch {
	case e.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case e.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname, h.ModTime = tar.TypeSymlink, e.link, time.Unix(0, 0)
	case e.links > 1:
		if original, ok := first[e.id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, original, 0
		} else {
			first[e.id] = h.Name
		}
	}
	return h
}

func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&flag != 0 {
			mode |= bit
		}
	}
	return mode
}

func fileMode(mode int64) fs.FileMode {
	m := fs.FileMode(mode).Perm()
	for bit, flag := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// Snapshot writes the folder as a tar stream.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	folder, _, err := settled(t)
	if err != nil {
		return err
	}
	for range attempts {
		held := &holder{to: w}
		if err = writeTar(ctx, folder, held); err == nil {
			return held.flush()
		}
		if !errors.Is(err, errChanged) || held.passed {
			return err
		}
	}
	return err
}

// recordEntries tells how many entries a stream has, so that a shorter one shows.
const recordEntries = "ORRERY.entries"

// bufferSize is how much of a stream is passed on at a time, in bytes.
const bufferSize = 256 << 10

func writeTar(ctx context.Context, folder string, w io.Writer) error {
	entries, err := calm(ctx, folder)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(w, bufferSize)
	out := tar.NewWriter(buffered)
	for p, err := range ahead(ctx, folder, entries) {
		if err != nil {
			return err
		}
		if p.entry.path == "." {
			p.header.PAXRecords[recordEntries] = strconv.Itoa(len(entries))
		}
		if err := p.write(folder, out); err != nil {
			return err
		}
	}
	if err := unchanged(ctx, folder, entries); err != nil {
		return err
	}
	return errors.Join(out.Close(), buffered.Flush())
}

// write appends a piece to a tar stream.
func (p piece) write(folder string, out *tar.Writer) error {
	if err := out.WriteHeader(p.header); err != nil {
		return fmt.Errorf("%s: %w", p.entry.path, err)
	}
	if p.header.Typeflag != tar.TypeReg {
		return nil
	}
	if p.small {
		_, err := out.Write(p.content)
		return err
	}
	return p.entry.read(folder, func(f *os.File) error {
		n, err := io.CopyN(out, f, p.header.Size)
		if errors.Is(err, io.EOF) && n < p.header.Size {
			return fmt.Errorf("%s: %w", p.entry.path, errChanged)
		}
		return err
	})
}

// holdBack is how much of a stream is kept before it is passed on, in bytes: until then reading can begin anew.
const holdBack = 8 << 20

// holder keeps the beginning of what is written to it.
type holder struct {
	to     io.Writer
	kept   []byte
	passed bool
}

func (h *holder) Write(b []byte) (int, error) {
	if !h.passed && len(h.kept)+len(b) <= holdBack {
		h.kept = append(h.kept, b...)
		return len(b), nil
	}
	if err := h.flush(); err != nil {
		return 0, err
	}
	return h.to.Write(b)
}

func (h *holder) flush() error {
	if h.passed {
		return nil
	}
	h.passed = true
	_, err := h.to.Write(h.kept)
	h.kept = nil
	return err
}

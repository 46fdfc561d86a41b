package subversion

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// A snapshot is, in this order:
//
//	Orrery Subversion snapshot 1
//	configuration yes                       what is in conf/ and hooks/ but for templates (see place.Files)
//	SVN-fs-dump-format-version: 2           what svnadmin dump writes of all revisions
//	...
//	Orrery-end: 17                          the number of the newest revision; the end
const (
	magic    = "Orrery Subversion snapshot 1\n"
	endField = "Orrery-end"
)

// dump writes the repository's snapshot.
func (r *repository) dump(ctx context.Context, at string, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if _, err := out.WriteString(magic); err != nil {
		return err
	}
	if err := configuration.Write(out, at, r.props.Configuration); err != nil {
		return err
	}
	// What is committed from here on is not in it.
	youngest, err := r.youngest(ctx, at)
	if err != nil {
		return err
	}
	p, err := r.program("svnadmin", at, "dump", "--quiet", "--revision", "0:"+strconv.FormatInt(youngest, 10), ".")
	if err != nil {
		return err
	}
	err = p.Drain(ctx, func(dump io.Reader) error {
		got := reading{r: bufio.NewReaderSize(dump, place.MaxLine), w: out}
		if err := got.all(); err != nil {
			return fmt.Errorf("what svnadmin dumps: %w", err)
		}
		if got.revision != youngest {
			return fmt.Errorf("%w: svnadmin dumped revisions to %d of %d", state.ErrCorrupt, got.revision, youngest)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s: %d\n", endField, youngest); err != nil {
		return err
	}
	return out.Flush()
}

// load makes the repository side from a snapshot. Before is the repository that it replaces, if any.
func (r *repository) load(ctx context.Context, side, before string, owner folder.Owner, snapshot io.Reader) error {
	in := bufio.NewReaderSize(snapshot, place.MaxLine)
	if err := expect(in, magic); err != nil {
		return err
	}
	if err := r.found(ctx, side, owner); err != nil {
		return err
	}
	take := r.props.Configuration
	has, err := configuration.Read(in, side, take)
	if err != nil {
		return err
	}
	if err := r.loadDump(ctx, side, in, true); err != nil {
		return err
	}
	if before != "" && (!has || !take) {
		if err := configuration.Copy(side, before); err != nil {
			return err
		}
	}
	return owner.Give(side)
}

// loadDump fills an empty repository from a dump, which ends with an end marker if it is framed, and compares what
// came out.
func (r *repository) loadDump(ctx context.Context, side string, in io.Reader, framed bool) error {
	p, err := r.program("svnadmin", side, "load", "--quiet", "--force-uuid", "--bypass-prop-validation", "--no-flush-to-disk", ".")
	if err != nil {
		return err
	}
	got := reading{r: bufio.NewReaderSize(in, place.MaxLine), framed: framed}
	err = p.Feed(ctx, func(w io.Writer) error {
		got.w = w
		return got.all()
	})
	if err != nil {
		return err
	}
	youngest, err := r.youngest(ctx, side)
	if err != nil {
		return err
	}
	uuid, err := r.ask(ctx, "svnlook", side, "uuid", ".")
	if err != nil {
		return err
	}
	if youngest != got.revision || uuid != got.uuid {
		return fmt.Errorf("%w: svnadmin loaded revision %d of %s, not %d of %s", state.ErrCorrupt, youngest, uuid, got.revision, got.uuid)
	}
	return nil
}

// expect reads a line that must be there.
func expect(in *bufio.Reader, want string) error {
	line, err := in.ReadSlice('\n')
	if string(line) == want {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("cannot read the snapshot: %w", err)
	}
	return fmt.Errorf("%w: the snapshot has no line %q where it should", state.ErrCorrupt, want[:len(want)-1])
}

package postgresql

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"orrery/state"
)

// A canonical dump is a line that names the format, then what pg_dump writes from its first statement to its end
// marker. Left out is what differs between dumps of the same state: versions of server and tool, and the random
// key of the lines \restrict and \unrestrict. The end marker is the end: a dump without it is truncated.
const (
	magic     = "-- Orrery PostgreSQL dump 1\n\n"
	endMarker = "\n--\n-- PostgreSQL database dump complete\n--\n"
	// heldBack is how much of the end is looked at before it is passed on: the marker and a line \unrestrict.
	heldBack = 512
	// maxHeader bounds what may come before the first statement.
	maxHeader = 8 << 10
)

// dump writes the database's canonical dump.
func (d *database) dump(ctx context.Context, w io.Writer) error {
	if !d.props.Privileges {
		return d.dumpWith(ctx, w, "--no-privileges")
	}
	return d.dumpWith(ctx, w)
}

// dumpWith writes a canonical dump that pg_dump makes with more options.
func (d *database) dumpWith(ctx context.Context, w io.Writer, options ...string) error {
	exists, err := d.exists(ctx, d.name)
	if err != nil {
		return err
	}
	if !exists {
		return fmt.Errorf("database %q %w on the server at %s", d.name, state.ErrNotFound, d.server.address())
	}
	found, err := d.tools(ctx)
	if err != nil {
		return err
	}
	args := append([]string{"--format=plain", "--no-owner", "--no-tablespaces", "--no-subscriptions", "--encoding=UTF8", "--no-password"}, options...)
	c := &canonical{w: w}
	err = d.run(ctx, d.name, "", nil, c, found.pgDump, args...)
	if c.err != nil { // why pg_dump could not write on
		return c.err
	}
	if err != nil {
		return err
	}
	return c.finish()
}

// canonical turns what pg_dump writes into a canonical dump.
type canonical struct {
	w      io.Writer
	header []byte // lines before the first statement, while in them
	inBody bool
	end    []byte // held back
	err    error  // the first one; nothing is written after it
}

// Write implements io.Writer.
func (c *canonical) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.inBody {
		c.err = c.body(p)
	} else {
		c.header = append(c.header, p...)
		c.err = c.skipHeader()
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

// skipHeader takes whole lines off the header until the first statement begins.
func (c *canonical) skipHeader() error {
	for {
		line, rest, whole := bytes.Cut(c.header, []byte("\n"))
		if !whole {
			if len(c.header) > maxHeader {
				return fmt.Errorf("%w: pg_dump wrote no statement", state.ErrCorrupt)
			}
			return nil
		}
		if len(line) > 0 && !bytes.HasPrefix(line, []byte("--")) && !bytes.HasPrefix(line, []byte(`\restrict `)) {
			break
		}
		c.header = rest
	}
	c.inBody = true
	if _, err := io.WriteString(c.w, magic); err != nil {
		return err
	}
	first := c.header
	c.header = nil
	return c.body(first)
}

// body passes on all but the last heldBack bytes.
func (c *canonical) body(p []byte) error {
	if len(p) >= heldBack {
		if _, err := c.w.Write(c.end); err != nil {
			return err
		}
		if _, err := c.w.Write(p[:len(p)-heldBack]); err != nil {
			return err
		}
		c.end = append(c.end[:0], p[len(p)-heldBack:]...)
		return nil
	}
	c.end = append(c.end, p...)
	if excess := len(c.end) - heldBack; excess > 0 {
		if _, err := c.w.Write(c.end[:excess]); err != nil {
			return err
		}
		c.end = append(c.end[:0], c.end[excess:]...)
	}
	return nil
}

// finish looks for the end marker and writes what was held back.
func (c *canonical) finish() error {
	at := bytes.LastIndex(c.end, []byte(endMarker))
	if !c.inBody || at < 0 {
		return fmt.Errorf("%w: pg_dump's output has no end marker", state.ErrCorrupt)
	}
	after := strings.TrimSpace(string(c.end[at+len(endMarker):]))
	if after != "" && (!strings.HasPrefix(after, `\unrestrict `) || strings.Contains(after, "\n")) {
		return fmt.Errorf("%w: pg_dump wrote something after its end marker", state.ErrCorrupt)
	}
	_, err := c.w.Write(c.end[:at+len(endMarker)])
	return err
}

// load fills the side database from a canonical dump.
func (d *database) load(ctx context.Context, r io.Reader) error {
	body, err := openDump(r)
	if err != nil {
		return err
	}
	// In restricted mode psql takes no command but the \unrestrict that has the key, which the dump cannot know.
	key := rand.Text()
	in := io.MultiReader(strings.NewReader(`\restrict `+key+"\n"), body, strings.NewReader("\n"+`\unrestrict `+key+"\n"))
	err = d.psql(ctx, in, "-")
	done, broken := body.outcome()
	if broken != nil { // an incomplete dump explains whatever psql makes of it
		return broken
	}
	if err == nil && !done {
		return fmt.Errorf("psql stopped before the end of the snapshot: %w", state.ErrCorrupt)
	}
	return err
}

// loadSchema fills the side database from the component's schema.
func (d *database) loadSchema(ctx context.Context) error {
	if d.props.Schema == "" {
		return nil
	}
	if err := d.psql(ctx, nil, d.props.Schema); err != nil {
		return fmt.Errorf("cannot load schema %s: %w", d.props.Schema, err)
	}
	return nil
}

// psql carries out a file, or in if that is "-", in one transaction in the side database.
func (d *database) psql(ctx context.Context, in io.Reader, file string) error {
	found, err := d.tools(ctx)
	if err != nil {
		return err
	}
	return d.run(ctx, d.next, d.role, in, nil, found.psql,
		"--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file="+file)
}

// dumpBody reads a canonical dump after its first line. It yields an error in place of the end where the end marker
// is missing. Where psql ends early, whoever feeds it may still be waiting for r.
type dumpBody struct {
	r   io.Reader
	end []byte // the last bytes

	mu   sync.Mutex
	err  error
	done bool // the end marker was the end
}

// outcome says whether the end was reached, and what was wrong.
func (b *dumpBody) outcome() (done bool, broken error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done, b.err
}

func openDump(r io.Reader) (*dumpBody, error) {
	first := make([]byte, len(magic))
	if _, err := io.ReadFull(r, first); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if string(first) != magic {
		return nil, fmt.Errorf("%w: the snapshot is not a PostgreSQL dump of version 1", state.ErrCorrupt)
	}
	return &dumpBody{r: r}, nil
}

// Read implements io.Reader.
func (b *dumpBody) Read(p []byte) (int, error) {
	if _, broken := b.outcome(); broken != nil {
		return 0, broken
	}
	n, err := b.r.Read(p)
	b.end = append(b.end, p[max(0, n-len(endMarker)):n]...)
	b.end = b.end[max(0, len(b.end)-len(endMarker)):]
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !errors.Is(err, io.EOF):
		b.err = fmt.Errorf("cannot read the snapshot: %w", err)
	case string(b.end) != endMarker:
		b.err = fmt.Errorf("%w: the snapshot ends before its end marker", state.ErrCorrupt)
	default:
		b.done = true
		return n, io.EOF
	}
	return n, b.err
}

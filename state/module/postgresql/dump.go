package postgresql

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"orrery/state"
)

// A canonical dump is a line that names the format and its version, then SQL with rows of COPY that psql reads, to pg_dump's
// end marker. Left out is what differs between dumps of the same state: versions of server and tool, and the random
// key of the lines \restrict and \unrestrict. The end marker is the end: a dump without it is truncated.
//
// Version 2 has the rows of each table in the order of its key (see rows.go), and before the end marker how many they are.
// Version 1 is what pg_dump writes as a whole, with rows as they lie on the server's disk; files that were imported and
// components with rowOrder physical still have it.
const (
	magicBegin = "-- Orrery PostgreSQL dump "
	magic      = magicBegin + "1\n\n"
	magic2     = magicBegin + "2\n\n" // as long as magic
	endMarker  = "\n--\n-- PostgreSQL database dump complete\n--\n"
	newest     = 2
	// heldBack is how much of the end is looked at before it is passed on: the marker and a line \unrestrict.
	heldBack = 512
	// maxHeader bounds what may come before the first statement.
	maxHeader = 8 << 10
)

// dump writes the database's canonical dump.
func (d *database) dump(ctx context.Context, w io.Writer) error {
	if d.props.RowOrder == orderPhysical {
		return d.dumpWhole(ctx, w, d.privileges()...)
	}
	pgDump, err := d.dumpTool(ctx)
	if err != nil {
		return err
	}
	for range attempts {
		if err = d.dumpOrdered(ctx, w, pgDump); !errors.Is(err, errMoved) {
			return err
		}
	}
	return fmt.Errorf("%w: after %d attempts (try again when nobody makes, alters or drops tables): %w", state.ErrInUse, attempts, err)
}

// privileges are the options that leave out what snapshots of the component do not hold.
func (d *database) privileges() []string {
	if !d.props.Privileges {
		return []string{"--no-privileges"}
	}
	return nil
}

// dumpTool finds the pg_dump for the component's database, which exists.
func (d *database) dumpTool(ctx context.Context) (string, error) {
	exists, err := d.exists(ctx, d.name)
	if err != nil {
		return "", err
	}
	if !exists {
		return "", fmt.Errorf("database %q %w on the server at %s", d.name, state.ErrNotFound, d.server.address())
	}
	found, err := d.tools(ctx)
	return found.pgDump, err
}

// runDump has pg_dump write a plain dump.
func (d *database) runDump(ctx context.Context, w io.Writer, pgDump string, options ...string) error {
	args := append([]string{"--format=plain", "--no-owner", "--no-tablespaces", "--no-subscriptions", "--encoding=UTF8", "--no-password"}, options...)
	return d.run(ctx, d.name, "", nil, w, pgDump, args...)
}

// dumpWhole writes a dump of version 1, which pg_dump makes with more options.
func (d *database) dumpWhole(ctx context.Context, w io.Writer, options ...string) error {
	pgDump, err := d.dumpTool(ctx)
	if err != nil {
		return err
	}
	c := &canonical{w: w, begin: magic}
	err = d.runDump(ctx, c, pgDump, options...)
	if c.err != nil { // why pg_dump could not write on
		return c.err
	}
	if err != nil {
		return err
	}
	return c.finish(endMarker)
}

// canonical turns what pg_dump writes into a canonical dump, or a part of one.
type canonical struct {
	w       io.Writer
	begin   string // comes in place of the lines before the first statement
	further bool   // the settings that pg_dump begins with are left out, because another part has them
	// settings says that some were left out: the next other line, also an empty one, belongs to the body.
	settings bool
	header   []byte // lines before the body, while in them
	inBody   bool
	end      []byte // held back
	err      error  // the first one; nothing is written after it
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

// skipHeader takes whole lines off the header until the body begins.
func (c *canonical) skipHeader() error {
	for {
		line, rest, whole := bytes.Cut(c.header, []byte("\n"))
		if !whole {
			if len(c.header) > maxHeader {
				return fmt.Errorf("%w: pg_dump wrote no statement", state.ErrCorrupt)
			}
			return nil
		}
		if !c.beforeBody(line) {
			break
		}
		c.header = rest
	}
	c.inBody = true
	if _, err := io.WriteString(c.w, c.begin); err != nil {
		return err
	}
	first := c.header
	c.header = nil
	return c.body(first)
}

// beforeBody says whether a line of the header is left out.
func (c *canonical) beforeBody(line []byte) bool {
	if c.further && (bytes.HasPrefix(line, []byte("SET ")) || bytes.HasPrefix(line, []byte("SELECT pg_catalog.set_config("))) {
		c.settings = true
		return true
	}
	return !c.settings && (len(line) == 0 || bytes.HasPrefix(line, []byte("--")) || bytes.HasPrefix(line, []byte(`\restrict `)))
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

// finish looks for the end marker, writes what was held back before it, and then end.
func (c *canonical) finish(end string) error {
	at := bytes.LastIndex(c.end, []byte(endMarker))
	if !c.inBody || at < 0 {
		return fmt.Errorf("%w: pg_dump's output has no end marker", state.ErrCorrupt)
	}
	after := strings.TrimSpace(string(c.end[at+len(endMarker):]))
	if after != "" && (!strings.HasPrefix(after, `\unrestrict `) || strings.Contains(after, "\n")) {
		return fmt.Errorf("%w: pg_dump wrote something after its end marker", state.ErrCorrupt)
	}
	if _, err := c.w.Write(c.end[:at]); err != nil {
		return err
	}
	_, err := io.WriteString(c.w, end)
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

// dumpBody reads what is between the first line and the end of a canonical dump.
type dumpBody struct {
	r       io.Reader
	version int
	end     []byte // the last bytes that were read

	mu   sync.Mutex // psql may end, and be looked at, while its input is still read
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
	n, err := io.ReadFull(r, first)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	version, err := dumpVersion(string(first[:n]))
	if err != nil {
		return nil, err
	}
	return &dumpBody{r: r, version: version}, nil
}

// dumpVersion reads a dump's first line.
func dumpVersion(line string) (int, error) {
	rest, ours := strings.CutPrefix(line, magicBegin)
	digits, _, _ := strings.Cut(rest, "\n")
	version, err := strconv.Atoi(digits)
	switch {
	case line == magic:
		return 1, nil
	case line == magic2:
		return 2, nil
	case !ours || err != nil || version <= newest:
		return 0, fmt.Errorf("%w: the snapshot is not a PostgreSQL dump", state.ErrCorrupt)
	}
	return 0, fmt.Errorf("the snapshot is a PostgreSQL dump of version %s, and this program knows versions 1 and 2: %w read it (upgrade orrery on this machine)", digits, state.ErrNotAble)
}

// Read implements io.Reader.
func (b *dumpBody) Read(p []byte) (int, error) {
	if _, broken := b.outcome(); broken != nil {
		return 0, broken
	}
	n, err := b.r.Read(p)
	const kept = len(endMarker) + maxTotal
	b.end = append(b.end, p[max(0, n-kept):n]...)
	b.end = append(b.end[:0], b.end[max(0, len(b.end)-kept):]...)
	if err == nil {
		return n, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !errors.Is(err, io.EOF) {
		b.err = fmt.Errorf("cannot read the snapshot: %w", err)
		return n, b.err
	}
	if b.err = b.checkEnd(); b.err != nil {
		return n, b.err
	}
	b.done = true
	return n, io.EOF
}

func (b *dumpBody) checkEnd() error {
	before, whole := bytes.CutSuffix(b.end, []byte(endMarker))
	switch {
	case !whole:
		return fmt.Errorf("%w: the snapshot ends before its end marker", state.ErrCorrupt)
	case b.version > 1 && !totalLine.Match(before):
		return fmt.Errorf("%w: the snapshot does not say how many rows it has", state.ErrCorrupt)
	}
	return nil
}

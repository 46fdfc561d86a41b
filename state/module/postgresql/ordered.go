package postgresql

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orrery/state"
)

// A dump of version 2 is made in three parts under one snapshot of the server: pg_dump writes what comes before the
// rows and the rows that it alone knows (of extensions, large objects), this package writes where sequences are and copies the rows of
// tables in order, and another pg_dump writes what comes after (indexes, constraints, triggers).
//
// The tables are locked, in the mode that only changes of their structure wait for, before the snapshot is taken. A client that
// wants to change one meanwhile waits for the end of the dump, and whoever comes after it waits for that client: also pg_dump, which
// the dump waits for. The server cannot know of the last of these, so that this package looks for it. A pg_dump has all its locks and has
// read all but rows when it writes its first byte. So nothing is written before both are there; where one waits for a client that waits for
// the dump, all is given up, which lets the client go on, and begun again.

const (
	// attempts bounds how often a dump begins anew because a table was made, altered or dropped under it.
	attempts = 5
	// lockTick is how often this package looks who waits for whom while a dump begins.
	lockTick = 300 * time.Millisecond
	// copyBuffer is how much of a table's rows is passed on at once.
	copyBuffer = 256 << 10
	// patternLimit bounds an argument of pg_dump, of which Linux takes 128 KiB.
	patternLimit = 64 << 10
)

// errMoved says that what was to be dumped changed before it could be held.
var errMoved = errors.New("tables were made, altered or dropped while the dump began")

// The total is the last line of a dump before its end marker, and at most so long.
const maxTotal = 80

var totalLine = regexp.MustCompile(`\n-- Rows of \d{1,20} tables: \d{1,20}\n--\n$`)

// dumpOrdered writes a dump of version 2. With errMoved nothing was written.
func (d *database) dumpOrdered(ctx context.Context, w io.Writer, pgDump string) error {
	ctx, cancel := context.WithCancel(ctx)
	r, err := d.hold(ctx)
	if err != nil {
		cancel()
		return err
	}
	defer r.release(ctx)
	first := &canonical{w: w, begin: magic2}
	last := &canonical{w: w, further: true}
	options := append(d.privileges(), "--snapshot="+r.snapshot)
	begin := append(slices.Clone(options), "--section=pre-data")
	if r.others {
		begin = slices.Concat(begin, []string{"--section=data"}, r.exclusions())
	}
	before := d.section(ctx, first, pgDump, begin)
	after := d.section(ctx, last, pgDump, slices.Concat(options, []string{"--section=post-data"}))
	defer func() {
		cancel()
		<-before.ended
		<-after.ended
	}()
	if err := d.bothBegan(ctx, r, before, after); err != nil {
		return err
	}
	if err := before.finish(); err != nil {
		return err
	}
	if err := first.finish(r.sequences); err != nil {
		return err
	}
	counts, err := r.copyRows(ctx, w)
	if err != nil {
		return err
	}
	if err := after.finish(); err != nil {
		return err
	}
	return last.finish(counts + endMarker)
}

// bothBegan waits for the first bytes of both. It is errMoved if one waits for somebody who waits for this dump.
func (d *database) bothBegan(ctx context.Context, r *reading, sections ...*section) error {
	tick := time.NewTicker(lockTick)
	defer tick.Stop()
	for _, s := range sections {
		for waits := true; waits; {
			select {
			case <-s.reached:
				waits = false
			case <-s.ended:
				if err := s.early(); err != nil {
					return err
				}
				waits = false
			case <-tick.C:
				if err := d.lookForCircle(ctx, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// lookForCircle looks for a session of this module that waits for a client that waits for the reading.
func (d *database) lookForCircle(ctx context.Context, r *reading) error {
	var circle bool
	err := d.admin.QueryRow(ctx, `select exists (
		select from pg_stat_activity client join pg_stat_activity ours on client.pid = any (pg_blocking_pids(ours.pid))
		where $1::int = any (pg_blocking_pids(client.pid)) and ours.datname = $2 and ours.application_name = 'orrery')`, int64(r.pid), d.name).Scan(&circle)
	if err == nil && circle {
		err = errMoved
	}
	return err
}

// section is a run of pg_dump that stops at its first byte until it may go on.
type section struct {
	to      *canonical
	stop    <-chan struct{} // closed when nobody wants it any more
	reached chan struct{}   // closed at its first byte, when it has locked and read all but rows
	open    chan struct{}   // closed when it may go on
	ended   chan struct{}   // closed after err is set
	err     error
	once    sync.Once
}

// section starts one. It ends with ctx at the latest.
func (d *database) section(ctx context.Context, to *canonical, pgDump string, options []string) *section {
	s := &section{to: to, stop: ctx.Done(), reached: make(chan struct{}), open: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = d.runDump(ctx, s, pgDump, options...)
	}()
	return s
}

// Write implements io.Writer.
func (s *section) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.reached) })
	select {
	case <-s.open:
		return s.to.Write(p)
	case <-s.stop:
		return 0, context.Canceled
	}
}

// early says why it ended, if that was before its first byte.
func (s *section) early() error {
	select {
	case <-s.reached:
		return nil
	default:
	}
	if s.err == nil {
		return fmt.Errorf("%w: pg_dump wrote nothing", state.ErrCorrupt)
	}
	return s.err
}

// finish lets it write all.
func (s *section) finish() error {
	close(s.open)
	<-s.ended
	if s.to.err != nil { // why pg_dump could not write on
		return s.to.err
	}
	return s.err
}

// exclusions are the options by which pg_dump leaves out the rows that this package copies. They are patterns, in
// which only what is in double quotes is taken literally, one for the tables of a schema or a part of them.
func (r *reading) exclusions() []string {
	var options []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			options = append(options, "--exclude-table-data="+b.String()+")")
			b.Reset()
		}
	}
	schema := ""
	for _, t := range r.tables {
		if t.schema != schema || b.Len()+len(t.name) > patternLimit {
			flush()
			schema = t.schema
		}
		if b.Len() == 0 {
			b.WriteString(quote(schema) + ".(")
		} else {
			b.WriteByte('|')
		}
		b.WriteString(quote(t.name))
	}
	flush()
	return options
}

// copyRows writes the rows of all tables, and returns what the dump says about how many they are.
func (r *reading) copyRows(ctx context.Context, w io.Writer) (counts string, err error) {
	out := &rowWriter{w: bufio.NewWriterSize(w, copyBuffer)}
	var b strings.Builder
	b.WriteString("\n--\n")
	var tables, total int64
	for _, t := range r.tables {
		if t.part {
			continue
		}
		n, err := r.copyTable(ctx, out, t)
		if err != nil {
			return "", fmt.Errorf("cannot copy the rows of table %s: %w", t.qualified, err)
		}
		total += n
		tables++
		b.WriteString("-- Rows of " + strconv.Quote(t.qualified) + ": " + strconv.FormatInt(n, 10) + "\n")
	}
	fmt.Fprintf(&b, "-- Rows of %d tables: %d\n--\n", tables, total)
	return b.String(), out.w.Flush()
}

// copyTable writes a table's rows as pg_dump does.
func (r *reading) copyTable(ctx context.Context, out *rowWriter, t table) (int64, error) {
	columns := ""
	if t.columns != "" {
		columns = "(" + t.columns + ") "
	}
	if _, err := out.w.WriteString("COPY " + t.qualified + " " + columns + "FROM stdin;\n"); err != nil {
		return 0, err
	}
	from := " from only "
	if t.whole {
		from = " from "
	}
	out.rows = 0
	tag, err := r.conn.PgConn().CopyTo(ctx, out, "copy (select "+t.columns+from+t.qualified+t.order+") to stdout")
	if err != nil {
		return 0, err
	}
	if tag.RowsAffected() != out.rows {
		return 0, fmt.Errorf("%w: the server says that it sent %d rows, and %d came", state.ErrCorrupt, tag.RowsAffected(), out.rows)
	}
	_, err = out.w.WriteString("\\.\n\n\n")
	return out.rows, err
}

// rowWriter counts rows; a newline in a row is written otherwise.
type rowWriter struct {
	w    *bufio.Writer
	rows int64
}

// Write implements io.Writer.
func (r *rowWriter) Write(p []byte) (int, error) {
	r.rows += int64(bytes.Count(p, []byte{'\n'}))
	return r.w.Write(p)
}

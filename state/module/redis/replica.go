package redis

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"orrery/internal/extsort"
	"orrery/state"
	"orrery/state/module/redis/rdb"
)

const (
	// idleTimeout is how long the server may be silent: it says something every second, also while it prepares.
	idleTimeout = time.Minute
	markLength  = 40
	// staleAttempts and stalePause bound the wait for an older copy that the server is making for somebody else.
	staleAttempts = 1500
	stalePause    = 200 * time.Millisecond
)

var errStale = errors.New("the server hands out a copy that it began before")

// dump writes a snapshot of the keys as of one point in time after its call.
func (d *database) dump(ctx context.Context, w io.Writer) (err error) {
	now, err := d.now(ctx)
	if err != nil {
		return err
	}
	s := newSorter(d.folder, extsort.Memory)
	defer func() { err = errors.Join(err, s.Close()) }()
	for range staleAttempts {
		diskless := d.diskless()
		err = d.replicate(ctx, &pieces{out: s, db: uint64(d.number), skip: d.prefix, now: now}) //nolint:gosec // not negative
		if errors.Is(err, state.ErrUnreachable) && !diskless && d.examine(ctx) == nil && d.diskless() {
			continue // the server could not write its file, and has sent nothing
		}
		if !errors.Is(err, errStale) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(stalePause):
		}
	}
	if err != nil {
		return err
	}
	return assemble(ctx, s, w)
}

// replicate asks the server for all its data as a replica does, and tells sink.
func (d *database) replicate(ctx context.Context, sink rdb.Sink) error {
	l, err := d.dialReplica(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer func() {
		stop()
		_ = l.conn.Close() // so the server forgets this replica
	}()
	if err := d.synchronise(l); err != nil {
		return d.whileReplicating(ctx, err)
	}
	return d.whileReplicating(ctx, l.receive(sink))
}

// whileReplicating says what an error means.
func (d *database) whileReplicating(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, rdb.ErrUnknown):
		return fmt.Errorf("%w: %w", state.ErrNotAble, err)
	case errors.Is(err, rdb.ErrFormat):
		return fmt.Errorf("what the server sent cannot be used (see the server's log; try again): %w", err)
	}
	return err
}

// link is a connection on which the server replicates.
type link struct {
	conn net.Conn
	in   *bufio.Reader
}

// patient gives each read its time.
type patient struct{ net.Conn }

func (p patient) Read(b []byte) (int, error) {
	if err := p.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}

func (d *database) dialReplica(ctx context.Context) (*link, error) {
	network, address := d.server.address()
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, d.explain(err)
	}
	return &link{conn: conn, in: bufio.NewReaderSize(patient{conn}, 64<<10)}, nil
}

func (d *database) synchronise(l *link) error {
	if d.secret != "" {
		args := []string{"AUTH", d.user(), d.secret}
		if d.server.User == "" {
			args = []string{"AUTH", d.secret}
		}
		if reply, err := l.ask(args...); err != nil || reply != "+OK" {
			return refused("AUTH", reply, err)
		}
	}
	// The changes after the copy are of no use here; an older server does not know that and sends them.
	if reply, err := l.ask("REPLCONF", "rdb-only", "1"); err != nil || strings.HasPrefix(reply, "-NOPERM") {
		return refused("REPLCONF", reply, err)
	}
	if d.diskless() {
		if reply, err := l.ask("REPLCONF", "capa", "eof"); err != nil || reply != "+OK" {
			return refused("REPLCONF", reply, err)
		}
	}
	reply, err := l.ask("PSYNC", "?", "-1")
	if err != nil || !strings.HasPrefix(reply, "+FULLRESYNC ") {
		return refused("PSYNC", reply, err)
	}
	return d.checkOffset(strings.Fields(reply))
}

// diskless says whether the server is asked not to write its copy to a file first. It writes none either when
// the last one failed: a second failure could make it refuse writes.
func (d *database) diskless() bool {
	return d.server.Diskless || d.info["rdb_last_bgsave_status"] == "err"
}

// checkOffset finds that the server attached this replica to a copy that it is making for another one, which
// lacks what was written between its begin and this operation's.
func (d *database) checkOffset(reply []string) error {
	if len(reply) != 3 {
		return fmt.Errorf("the server answers PSYNC by %q", reply)
	}
	begun, err := strconv.ParseInt(reply[2], 10, 64)
	before, err2 := strconv.ParseInt(d.info["master_repl_offset"], 10, 64)
	if err != nil || err2 != nil {
		return errors.Join(err, err2)
	}
	if reply[1] == d.info["master_replid"] && begun < before {
		return errStale
	}
	return nil
}

func refused(command, reply string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: the server broke off after %s (see its log): %w", state.ErrUnreachable, command, err)
	}
	reply = strings.TrimPrefix(reply, "-")
	if strings.HasPrefix(reply, "NOPERM") {
		return fmt.Errorf("replication is not permitted, and a snapshot is read over it: the server answers %s: %s (the user needs +psync and +replconf)", command, reply)
	}
	return fmt.Errorf("cannot replicate, which is how a snapshot is read: the server answers %s: %s", command, reply)
}

// ask sends a command and reads the line of its reply.
func (l *link) ask(args ...string) (string, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(idleTimeout)); err != nil {
		return "", err
	}
	if _, err := l.conn.Write(b.Bytes()); err != nil {
		return "", err
	}
	return l.line()
}

// line reads the next line that is not empty: empty ones say that the server is busy with it.
func (l *link) line() (string, error) {
	for {
		line, err := l.in.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			return text, nil
		}
	}
}

// receive reads the copy: of a length that is said before, or up to a mark that is said before.
func (l *link) receive(sink rdb.Sink) error {
	head, err := l.line()
	if err != nil {
		return refused("PSYNC", "", err)
	}
	if mark, ok := strings.CutPrefix(head, "$EOF:"); ok && len(mark) == markLength {
		if err := rdb.Read(l.in, sink); err != nil {
			return err
		}
		end := make([]byte, markLength)
		if _, err := io.ReadFull(l.in, end); err != nil || string(end) != mark {
			return errors.Join(fmt.Errorf("%w: the mark of its end is not there", rdb.ErrFormat), err)
		}
		return nil
	}
	length, err := strconv.ParseInt(strings.TrimPrefix(head, "$"), 10, 64)
	if err != nil || head[0] != '$' {
		return refused("PSYNC", head, nil)
	}
	limited := &io.LimitedReader{R: l.in, N: length}
	in := bufio.NewReaderSize(limited, 64<<10)
	if err := rdb.Read(in, sink); err != nil {
		return err
	}
	if left := limited.N + int64(in.Buffered()); left != 0 {
		return fmt.Errorf("%w: %d bytes are left after its end", rdb.ErrFormat, left)
	}
	return nil
}

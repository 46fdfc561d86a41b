package influxdb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"orrery/state"
)

// The portable form is what influx -import reads: a snapshot, whose lines about itself are comments there, with statements
// before it and lines that say which retention policy points belong to. A snapshot does not know
// its database's name, so the statements create one of this name.
const (
	portableName = "orrery"
	statementsOn = "# DDL\n"
	pointsOn     = "# DML\n# CONTEXT-DATABASE: " + portableName + "\n"
	policyOn     = "# CONTEXT-RETENTION-POLICY: "
)

// Extension implements state.Portable.
func (*Module) Extension() string { return ".influx" }

// Export implements state.Portable.
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	out := bufio.NewWriterSize(w, 256<<10)
	last := ""
	err := read(snapshot, visitor{
		header: func(h header) error {
			b, err := h.appendTo([]byte(statementsOn + strings.Join(h.statements(), "\n") + "\n" + pointsOn))
			if err == nil {
				_, err = out.Write(b)
			}
			return err
		},
		section: func(at place) error {
			if at.Policy == last {
				return ctx.Err()
			}
			last = at.Policy
			if strings.ContainsAny(at.Policy, ":\n") || strings.TrimSpace(at.Policy) != at.Policy {
				return fmt.Errorf("influx -import has no way to name retention policy %q: %w export it", at.Policy, state.ErrNotAble)
			}
			_, err := fmt.Fprintf(out, "%s%s\n", policyOn, at.Policy)
			return err
		},
		raw: func(at place, line []byte) error {
			if bytes.IndexByte(line, '\n') < len(line)-1 {
				return fmt.Errorf("measurement %q has a name or a text of several lines, which influx -import tears apart: %w export it", at.Name, state.ErrNotAble)
			}
			_, err := out.Write(line)
			return err
		},
		end: func(all totals) error {
			line, err := appendMarked(nil, endMark, all)
			if err == nil {
				_, err = out.Write(line)
			}
			return err
		},
	})
	if err != nil {
		return err
	}
	return out.Flush()
}

// statements create the database. The first policy is made with it, or else there would be one of the server's.
func (h header) statements() []string {
	var all []string
	for i, p := range h.Policies {
		if i == 0 {
			all = append(all, "CREATE DATABASE "+quote(portableName)+" WITH"+p.options()+" NAME "+quote(p.Name))
		} else {
			all = append(all, p.create(portableName), p.alter(portableName))
		}
	}
	if len(all) == 0 {
		all = append(all, "CREATE DATABASE "+quote(portableName))
	}
	for _, q := range h.Queries {
		all = append(all, rename(q.Text, placeholder, portableName))
	}
	return all
}

// Import implements state.Portable. It takes what Export wrote: another export would have to be sorted first.
func (*Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	f := &filter{ctx: ctx, in: reader{in: bufio.NewReaderSize(plain, 256<<10)}}
	return read(io.TeeReader(f, w), visitor{})
}

// filter reads the snapshot in a portable file.
type filter struct {
	ctx   context.Context //nolint:containedctx // for one call of Import
	in    reader
	begun bool
	left  []byte
}

func (f *filter) Read(b []byte) (int, error) {
	for len(f.left) == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.left)
	f.left = f.left[n:]
	return n, nil
}

func (f *filter) next() error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	f.in.plain = !f.begun
	switch err := f.in.next(); {
	case err == nil:
	case errors.Is(err, state.ErrCorrupt) && len(f.in.line) == 0 && f.begun:
		return io.EOF
	case errors.Is(err, state.ErrCorrupt) && !f.begun:
		return fmt.Errorf("%w: it has no line %q, so it is not what a snapshot was exported to (load it with influx -import instead)", state.ErrCorrupt, strings.TrimSpace(magic))
	default:
		return err
	}
	f.begun = f.begun || string(f.in.line) == magic
	if f.begun && !bytes.HasPrefix(f.in.line, []byte(policyOn)) {
		f.left = f.in.line
	}
	return nil
}

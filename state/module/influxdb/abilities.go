package influxdb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"

	"orrery/state"
)

// Health implements state.Doctor: the server answers and has the database.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(d *database) error { return d.mustExist(ctx) })
}

// Size implements state.Sizer: what the shards take on the server's disk. Points that are in its memory do not count yet.
func (m *Module) Size(ctx context.Context, t state.Target) (int64, error) {
	var size int64
	err := m.with(ctx, t, "measure", func(d *database) error {
		if err := d.mustExist(ctx); err != nil {
			return err
		}
		return d.client.query(ctx, "", "SHOW STATS FOR 'shard'", func(s *series) error {
			if s.Tags["database"] != d.name {
				return nil
			}
			for _, row := range s.Values {
				n, err := strconv.ParseInt(s.cell(row, "diskBytes"), 10, 64)
				if err != nil {
					return fmt.Errorf("cannot read the size of a shard: %w", err)
				}
				size += n
			}
			return nil
		})
	})
	return size, err
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(d *database) error {
		version, err = d.client.version(ctx)
		return err
	})
	return "InfluxDB " + version, err
}

// Shell implements state.Sheller: the client influx.
func (m *Module) Shell(ctx context.Context, t state.Target, script string) (state.Command, error) {
	var c state.Command
	err := m.with(ctx, t, "open a shell on", func(d *database) error {
		if err := d.mustExist(ctx); err != nil {
			return err
		}
		path, err := exec.LookPath("influx")
		if err != nil {
			return fmt.Errorf("the client influx is not installed: %w", err)
		}
		u, err := url.Parse(d.client.server.Endpoint)
		if err != nil {
			return err
		}
		c = state.Command{Path: path, Args: []string{"-host", u.Hostname(), "-port", u.Port(), "-database", d.name, "-precision", "ns"}}
		if u.Scheme == "https" {
			c.Args = append(c.Args, "-ssl")
		}
		if script != "" {
			c.Args = append(c.Args, "-execute", script)
		}
		if d.client.server.User != "" {
			c.Env = append(c.Env, "INFLUX_USERNAME="+d.client.server.User, "INFLUX_PASSWORD="+d.client.password)
		}
		if d.client.server.CA != "" {
			c.Env = append(c.Env, "SSL_CERT_FILE="+d.client.server.CA)
		}
		return nil
	})
	return c, err
}

// Items implements state.Itemizer: a part is a measurement, and an item is a point as a line.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	seen := map[string]bool{} // a measurement may be in several retention policies
	return read(snapshot, visitor{
		section: func(at place) error {
			if seen[at.Name] {
				return ctx.Err()
			}
			seen[at.Name] = true
			return errors.Join(ctx.Err(), visit(state.Item{Part: at.Name}))
		},
		point: func(at place, line []byte) error {
			return visit(state.Item{Part: at.Name, Content: bytes.TrimSuffix(line, []byte{'\n'})})
		},
	})
}

// loadInitial fills the side database from the component's file of line protocol.
func (d *database) loadInitial(ctx context.Context) (j job, err error) {
	if err := d.statements(ctx, "", "CREATE DATABASE "+quote(d.next())); err != nil {
		return j, err
	}
	if j.Header, err = d.header(ctx, d.next()); err != nil {
		return j, err
	}
	f, err := os.Open(d.initial)
	if err != nil {
		return j, fmt.Errorf("cannot read the initial points: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	l := loader{ctx: ctx, d: d}
	in := &reader{in: bufio.NewReaderSize(io.MultiReader(f, bytes.NewReader([]byte{'\n'})), 256<<10)}
	for {
		if err := in.next(); err != nil {
			if errors.Is(err, state.ErrCorrupt) && len(in.line) == 0 {
				break // its end
			}
			return j, fmt.Errorf("the initial points, at %.80q: %w", in.line, err)
		}
		if err := l.add(in.line); err != nil {
			return j, err
		}
	}
	if err := l.flush(); err != nil {
		return j, err
	}
	return j, d.measure(ctx, &j)
}

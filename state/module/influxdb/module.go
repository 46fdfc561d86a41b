// Package influxdb is the module influxdb-database: a component is a database of an InfluxDB 1.x server.
//
// A snapshot is text: retention policies, continuous queries, and the points of each measurement in line protocol, by
// series and time (see snapshot.go). InfluxDB has no snapshots of its own. The module takes the newest timestamp that
// there is, reads the points up to it twice, and has a snapshot if both readings are the same: between them the database had
// just these points up to that time. The server's JSON has neither integers nor bytes that are not
// UTF-8; the former are told by the types of the fields, the latter are refused.
//
// A restore is complete and compared in a side database before anything of the old state is touched, and is carried on by
// the next operation if it is interrupted after that (see swap.go). The side databases' names begin with "orrery-side-".
package influxdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"orrery/internal/spool"
	"orrery/state"
)

// Name is the module's name.
const Name = "influxdb-database"

// Module drives databases of InfluxDB servers. It is safe for concurrent use and keeps no connections.
type Module struct{}

var (
	_ state.Stateful     = (*Module)(nil)
	_ state.Exporter     = (*Module)(nil)
	_ state.Forker       = (*Module)(nil)
	_ state.Neighbor     = (*Module)(nil)
	_ state.Doctor       = (*Module)(nil)
	_ state.Sizer        = (*Module)(nil)
	_ state.Sheller      = (*Module)(nil)
	_ state.Versioner    = (*Module)(nil)
	_ state.Itemizer     = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
	_ state.Portable     = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{} }

// Describe implements state.Module.
func (*Module) Describe() state.Description { return describe() }

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decodeComponent(c)
	return err
}

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decodeComponent(t.Component)
	return map[string]string{"endpoint": s.Endpoint, "database": p.Database}, err
}

// Beside implements state.Neighbor.
func (*Module) Beside(c state.Component, name string) state.Component {
	c.Name = name
	c.Properties = maps.Clone(c.Properties)
	delete(c.Properties, "database")
	return c
}

// Activate implements state.Module. A database of that name that exists is taken over as it is.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(d *database) error {
		there, err := d.exists(ctx, d.name)
		if err != nil || there {
			return err
		}
		if d.initial == "" {
			return d.statements(ctx, "", "CREATE DATABASE "+quote(d.name))
		}
		return d.replace(ctx, func() (job, error) { return d.loadInitial(ctx) })
	})
}

// Deactivate implements state.Module. It keeps the database as it is; InfluxDB cannot close one for its clients.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "deactivate", func(*database) error { return nil })
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(d *database) error {
		if err := d.mustExist(ctx); err != nil {
			return err
		}
		return spool.With(d.folder, func(f *os.File) error {
			if err := d.dumpAgain(ctx, f); err != nil {
				return err
			}
			_, err := io.Copy(w, f)
			return err
		})
	})
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	return m.with(ctx, t, "restore", func(d *database) error {
		return d.replace(ctx, func() (job, error) { return d.load(ctx, r, "") })
	})
}

// RestorePart implements state.PartRestorer: the part is a measurement, in all retention policies.
func (m *Module) RestorePart(ctx context.Context, t state.Target, r io.Reader, part string) error {
	return m.with(ctx, t, fmt.Sprintf("restore measurement %q of", part), func(d *database) error {
		if err := d.mustExist(ctx); err != nil {
			return err
		}
		if part == "" {
			return fmt.Errorf("a measurement without a name: %w", state.ErrNotFound)
		}
		return d.replace(ctx, func() (job, error) { return d.load(ctx, r, part) })
	})
}

// CollectGarbage implements state.Stateful.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.reach(ctx, t, "drop", func(d *database) error {
		if err := d.dropSides(ctx); err != nil {
			return err
		}
		return d.statements(ctx, "", "DROP DATABASE "+quote(d.name))
	})
}

// Fork implements state.Forker: it restores a snapshot of the source.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	err := m.with(ctx, from, "fork", func(source *database) error {
		if err := source.mustExist(ctx); err != nil {
			return err
		}
		return m.with(ctx, into, "fork into", func(d *database) error {
			if there, err := d.exists(ctx, d.name); err != nil || there {
				return errors.Join(err, fmt.Errorf("database %q exists: %w", d.name, state.ErrInUse))
			}
			return spool.With(source.folder, func(f *os.File) error {
				if err := source.dumpAgain(ctx, f); err != nil {
					return err
				}
				return d.replace(ctx, func() (job, error) { return d.load(ctx, f, "") })
			})
		})
	})
	return state.ForkCopy, err
}

// with carries out do on the target's database after going on with what was interrupted.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*database) error) error {
	return m.reach(ctx, t, what, func(d *database) error {
		if err := d.settle(ctx); err != nil {
			return err
		}
		return do(d)
	})
}

// reach carries out do on the target's database and says in an error what could not be done to it.
func (*Module) reach(ctx context.Context, t state.Target, what string, do func(*database) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := open(t)
	if err == nil {
		defer d.client.close()
		err = do(d)
	}
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	if d != nil && d.client.password != "" && strings.Contains(err.Error(), d.client.password) {
		err = errors.New(strings.ReplaceAll(err.Error(), d.client.password, "[secret]"))
	}
	return fmt.Errorf("cannot %s database %s: %w", what, t.Component.Ref(), err)
}

func open(t state.Target) (*database, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decodeComponent(t.Component)
	if err != nil {
		return nil, err
	}
	c, err := s.open()
	if err != nil {
		return nil, err
	}
	return &database{client: c, name: p.Database, folder: t.Directory, initial: p.Initial}, nil
}

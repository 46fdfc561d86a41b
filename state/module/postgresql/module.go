// Package postgresql is the module of components that are a database of a
// PostgreSQL server.
//
// A container is a server that exists; its user must be allowed to create databases. A
// component is one database. Everything that makes or replaces a database does so in a side database
// beside it, which takes the name in one transaction once it is complete, so that a crash leaves the state
// before and a side database that the next operation drops. An inactive component's database is read-only for
// its clients.
//
// A snapshot is a canonical plain dump (see dump.go), with the rows of each table in the order of its key. It holds the grants inside the
// database, by name of role, but neither roles nor owners: everything in it belongs to the component's owner.
// Settings and grants of the database itself belong to the place, not the snapshot, and survive a restore.
package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

// Config configures a Module.
type Config struct {
	// Logger gets what a person may want to know although nothing failed; nil discards.
	Logger *slog.Logger
}

// Module drives databases of PostgreSQL servers. It is safe for concurrent use and keeps no connections.
type Module struct {
	log *slog.Logger
}

var (
	_ state.Stateful = (*Module)(nil)
	_ state.Exporter = (*Module)(nil)
	_ state.Doctor   = (*Module)(nil)
	_ state.Sizer    = (*Module)(nil)

	_ state.Sheller      = (*Module)(nil)
	_ state.Versioner    = (*Module)(nil)
	_ state.Neighbor     = (*Module)(nil)
	_ state.Portable     = (*Module)(nil)
	_ state.Integrity    = (*Module)(nil)
	_ state.KeyFinder    = (*Module)(nil)
	_ state.Presenter    = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
	_ state.Migrator     = (*Module)(nil)
	_ state.Quiescer     = (*Module)(nil)
)

// New makes a module.
func New(c Config) *Module {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Module{log: c.Logger}
}

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name:     "postgresql-database",
		Doc:      "A database of a PostgreSQL server (13 or newer). Snapshots are plain dumps by the server's own pg_dump, with the rows of each table in the order of its key; a restore goes into a side database that takes the name when it is complete.",
		Stateful: true,
		Properties: []state.Property{
			{Name: "schema", Type: "string", Doc: "Path of an SQL file, usually ${file.NAME}, that is loaded in one transaction when the database is created."},
			{Name: "database", Type: "string", Doc: "Name of the database; by default the component's."},
			{Name: "owner", Type: "string", Doc: "An existing role that owns the database and all in it; by default the container's user."},
			{Name: "privileges", Type: "bool", Default: "true", Doc: "Whether snapshots hold the grants on what is in the database."},
			{Name: "rowOrder", Type: "string", Default: "key", Doc: "key: snapshots have the rows of a table in the order of its primary key or a unique key, else of all columns, so that the same rows are the same snapshot wherever they lie; the server sorts where no index helps. physical: as they lie on the server's disk, which costs no sorting, but the same rows may be another snapshot after an update, VACUUM FULL or restore."},
		},
		Container: []state.Property{
			{Name: "host", Type: "string", Default: "127.0.0.1", Doc: "Host name or address of the server, or the absolute path of its socket's folder."},
			{Name: "port", Type: "int", Default: "5432", Doc: "Port of the server."},
			{Name: "user", Type: "string", Default: "postgres", Doc: "A role that may create databases."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "database", Type: "string", Default: "postgres", Doc: "The database to connect to for maintenance."},
			{Name: "sslmode", Type: "string", Default: "prefer", Doc: "disable, allow, prefer, require, verify-ca or verify-full."},
			{Name: "tools", Type: "string", Doc: "Folder of pg_dump and psql; by default found by the server's version."},
			{Name: "forks", Type: "string", Doc: "Folder in which thin forks and replicas keep their files, best on XFS or btrfs; the server's user must reach it. By default forks in the container's folder."},
		},
		Exports: []state.Property{
			{Name: "host", Type: "string", Doc: "Host of the server, or its socket's folder."},
			{Name: "port", Type: "int", Doc: "Port of the server."},
			{Name: "database", Type: "string", Doc: "Name of the database."},
			{Name: "user", Type: "string", Doc: "The container's user."},
			{Name: "url", Type: "string", Doc: "Connection URL without a password."},
		},
	}
}

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decodeComponent(c)
	return err
}

// Activate implements state.Module. A database of that name that exists is taken over as it is.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	if replica, err := m.startServed(ctx, t); err != nil || replica {
		return err
	}
	return m.with(ctx, t, "activate", func(d *database) error {
		if _, err := d.tools(ctx); err != nil { // said now, not when a snapshot is needed
			return err
		}
		if err := d.dropSides(ctx); err != nil {
			return err
		}
		exists, err := d.exists(ctx, d.name)
		if err != nil {
			return err
		}
		if exists {
			return d.openForClients(ctx)
		}
		return d.replace(ctx, func() error { return d.loadSchema(ctx) })
	})
}

// Deactivate implements state.Module: it ends the clients' sessions and makes the database read-only for new ones.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	if c, ok, err := thinOf(t); err != nil || ok {
		return errors.Join(err, c.Stop(ctx))
	}
	return m.with(ctx, t, "deactivate", func(d *database) error {
		exists, err := d.exists(ctx, d.name)
		if err != nil || !exists {
			return err
		}
		return d.closeForClients(ctx)
	})
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	if err := refuse(t, "snapshot"); err != nil && !errors.Is(err, state.ErrReplica) {
		return err
	}
	return m.with(ctx, t, "snapshot", func(d *database) error { return d.dump(ctx, w) })
}

// Restore implements state.Stateful. It ends the sessions of connected clients when the new database is complete.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	if err := refuse(t, "restore"); err != nil {
		return err
	}
	return m.with(ctx, t, "restore", func(d *database) error {
		if err := d.dropSides(ctx); err != nil {
			return err
		}
		return d.replace(ctx, func() error { return d.load(ctx, r) })
	})
}

// CollectGarbage implements state.Stateful.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	if was, err := removeThin(ctx, t); err != nil || was {
		if err != nil {
			return fmt.Errorf("cannot remove the server of %s: %w", t.Component.Ref(), err)
		}
		return mark.Remove(t)
	}
	return m.with(ctx, t, "drop", func(d *database) error {
		if err := d.dropSides(ctx); err != nil {
			return err
		}
		if err := d.drop(ctx, d.name); err != nil {
			return err
		}
		if err := d.dropRoles(ctx); err != nil {
			return err
		}
		return mark.Remove(t)
	})
}

// Health implements state.Doctor: the database accepts connections and is not closed for clients.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	c, ok, err := thinOf(t)
	if err != nil || ok && !c.Running() {
		return errors.Join(err, fmt.Errorf("the server of %s does not run: %w", t.Component.Ref(), state.ErrInactive))
	}
	return m.with(ctx, t, "reach", func(d *database) error {
		if d.replica() {
			return d.serves(ctx, c)
		}
		return d.ping(ctx)
	})
}

// Size implements state.Sizer.
func (m *Module) Size(ctx context.Context, t state.Target) (int64, error) {
	var size int64
	err := m.with(ctx, t, "measure", func(d *database) error {
		return d.admin.QueryRow(ctx, "select pg_database_size($1::name)", d.name).Scan(&size)
	})
	return size, err
}

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decodeComponent(t.Component)
	if err != nil {
		return nil, err
	}
	k, err := mark.Read[forkMark](t)
	if err != nil {
		return nil, err
	}
	s = k.at(s)
	port, name := strconv.Itoa(s.Port), k.named(p)
	u := url.URL{Scheme: "postgres", User: url.User(s.User), Host: net.JoinHostPort(s.Host, port), Path: "/" + name}
	if strings.HasPrefix(s.Host, "/") {
		u.Host, u.RawQuery = "", url.Values{"host": {s.Host}, "port": {port}}.Encode()
	}
	return map[string]string{"host": s.Host, "port": port, "database": name, "user": s.User, "url": u.String()}, nil
}

// with carries out do on the target's database and says in an error what could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*database) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	end, err := serve(ctx, t)
	if err == nil {
		err = errors.Join(m.do(ctx, t, do), end())
	}
	if err != nil {
		return fmt.Errorf("cannot %s database %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}

func (m *Module) do(ctx context.Context, t state.Target, do func(*database) error) error {
	d, err := m.open(ctx, t)
	if err != nil {
		return err
	}
	defer d.close(ctx)
	return do(d)
}

// password finds the container's password; empty if it has none.
func (s server) password() (string, error) {
	switch {
	case s.PasswordFile != "":
		content, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	case s.PasswordEnv != "":
		value, ok := os.LookupEnv(s.PasswordEnv)
		if !ok {
			return "", fmt.Errorf("%w: environment variable %s, which should hold the password, is not set for the node", state.ErrBadProperty, s.PasswordEnv)
		}
		return value, nil
	}
	return "", nil
}

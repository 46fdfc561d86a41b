// Package mysql is the module of components that are a database of a MariaDB or
// MySQL server.
//
// A container is a server that exists; its user must be allowed to do everything in
// the component's database and in databases whose names begin with "orrery-side-", and to
// set the definers of what is restored. Everything that makes or replaces a database is
// prepared in a side database and takes its place by one RENAME TABLE (see swap.go); what is not in a
// snapshot is gone after its restore. A crash leaves what the next operation undoes. An inactive component's database is
// out of its clients' reach (see park.go).
//
// A snapshot is a canonical dump (see dump.go): tables, rows, AUTO_INCREMENT counters, triggers, views, routines and events
// with their definers, but neither accounts nor grants, which belong to the place. The rows of a table that has no
// key are in the order in which the server keeps them.
//
// What lies in side databases is found by the name of the component's own, so do not change that of an inactive component.
package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
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

// Module drives databases of MariaDB and MySQL servers. It is safe for concurrent use and keeps no connections.
type Module struct{ log *slog.Logger }

var (
	_ state.Stateful     = (*Module)(nil)
	_ state.Exporter     = (*Module)(nil)
	_ state.Neighbor     = (*Module)(nil)
	_ state.Doctor       = (*Module)(nil)
	_ state.Sizer        = (*Module)(nil)
	_ state.Integrity    = (*Module)(nil)
	_ state.Clients      = (*Module)(nil)
	_ state.Sheller      = (*Module)(nil)
	_ state.Versioner    = (*Module)(nil)
	_ state.Migrator     = (*Module)(nil)
	_ state.Itemizer     = (*Module)(nil)
	_ state.Presenter    = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
	_ state.Portable     = (*Module)(nil)
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
		Name: "mysql-database",
		Doc: "A database of a MariaDB (10.6 or newer) or MySQL server. Snapshots are dumps by the server's own mariadb-dump or mysqldump, consistent while clients write; " +
			"tables that are not of InnoDB are refused. A restore goes into a side database, and its tables take the place of the old ones in one statement; " +
			"views, routines and events are missing for the milliseconds around it, and of a database with triggers the tables too, so that nothing is written without them. " +
			"Clients stay connected, but for those that hold tables in a transaction for longer than two seconds. " +
			"Deactivation ends the clients' sessions and moves the tables into a database orrery-side-..., so that the component's own is gone, also for clients that may do everything; " +
			"activation brings it back with all that was in it, and is refused where somebody made a database of that name meanwhile and put something into it. " +
			"Rights on databases, tables and columns stay; those on routines are given again, as far as the container's user may. " +
			"Triggers, views, routines and events keep their definers, so the container's user must be allowed to set them, and their accounts must exist where a snapshot is restored, or what is defined by them fails when it is used. " +
			"Forks are thin (MariaDB only, see the page on forks) or copies; replicas are made of MariaDB only. " +
			"Tested on MariaDB 10.11 and MySQL 5.7.29. On a MySQL server, MySQL's mysqldump is used where it is installed, else MariaDB's, whose values of generated columns are left out; on MariaDB only MariaDB's own, because MySQL's leaves out sequences. " +
			"A dump with collations that the server lacks (those of MySQL 8 on MariaDB) is refused, and the state stays. " +
			"MySQL before 8.0 does not rename several tables in one step if it crashes itself in the middle of that. Not tested for want of a server: MySQL 8, its plugin caching_sha2_password included.",
		Stateful: true,
		Properties: []state.Property{
			{Name: "schema", Type: "string", Doc: "Path of an SQL file, usually ${file.NAME}, that is loaded when the database is created."},
			{Name: "database", Type: "string", Doc: "Name of the database; by default the component's."},
		},
		Container: []state.Property{
			{Name: "host", Type: "string", Default: "127.0.0.1", Doc: "Host name or address of the server."},
			{Name: "port", Type: "int", Default: "3306", Doc: "Port of the server."},
			{Name: "socket", Type: "string", Doc: "Absolute path of the server's socket; used instead of host and port."},
			{Name: "user", Type: "string", Default: "root", Doc: "An account that may create databases and set definers."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "tools", Type: "string", Doc: "Folder of mariadb-dump and mariadb, or mysqldump and mysql; by default found in PATH."},
			{Name: "forks", Type: "string", Doc: "Folder in which thin forks and replicas keep their files, best on XFS or btrfs; the user mysql must reach it. By default forks in the container's folder."},
		},
		Exports: []state.Property{
			{Name: "host", Type: "string", Doc: "Host of the server."},
			{Name: "port", Type: "int", Doc: "Port of the server."},
			{Name: "database", Type: "string", Doc: "Name of the database."},
			{Name: "user", Type: "string", Doc: "The container's user, or the account of a replica's clients."},
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
		if _, _, err := d.dumpTool(ctx); err != nil { // said now, not when a snapshot is needed
			return err
		}
		if err := d.recover(ctx); err != nil {
			return err
		}
		if d.parked != "" {
			return d.unpark(ctx)
		}
		if exists, err := d.exists(ctx, d.name); err != nil || exists {
			return err
		}
		return d.replace(ctx, func() error { return d.loadSchema(ctx) })
	})
}

// Deactivate implements state.Module: it takes the database away and ends the clients' sessions.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	if c, ok, err := thinOf(t); err != nil || ok {
		return errors.Join(err, c.Stop(ctx))
	}
	return m.with(ctx, t, "deactivate", func(d *database) error {
		if err := d.recover(ctx); err != nil {
			return err
		}
		return d.park(ctx)
	})
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(d *database) error {
		if err := d.ready(ctx); err != nil {
			return err
		}
		return d.dump(ctx, w)
	})
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	if err := refuseReplica(t, "restore"); err != nil {
		return err
	}
	return m.with(ctx, t, "restore", func(d *database) error {
		from, err := openSnapshot(r)
		if err != nil {
			return err
		}
		if err := d.recover(ctx); err != nil {
			return err
		}
		return d.replace(ctx, func() error { return d.load(ctx, from, "") })
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
		if err := d.recover(ctx); err != nil {
			return err
		}
		if d.parked != "" {
			return inOrder(func() error { return d.drop(ctx, d.parked) }, func() error { return d.drop(ctx, d.journal) })
		}
		return inOrder(func() error { return d.terminate(ctx) }, func() error { return d.drop(ctx, d.name) })
	})
}

// Beside implements state.Neighbor.
func (*Module) Beside(c state.Component, name string) state.Component {
	c.Name = name
	properties := state.Properties{}
	for key, value := range c.Properties {
		if key != "database" {
			properties[key] = value
		}
	}
	c.Properties = properties
	return c
}

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	s, p, err := resolve(t)
	if err != nil {
		return nil, err
	}
	k, err := mark.Read[forkMark](t)
	if err != nil {
		return nil, err
	}
	if k.User != "" {
		s.User = k.User
	}
	port := strconv.Itoa(s.Port)
	u := url.URL{Scheme: "mysql", User: url.User(s.User), Host: net.JoinHostPort(s.Host, port), Path: "/" + p.Database}
	if s.Socket != "" {
		u.RawQuery = url.Values{"socket": {s.Socket}}.Encode()
	}
	return map[string]string{"host": s.Host, "port": port, "database": p.Database, "user": s.User, "url": u.String()}, nil
}

// with carries out do on the target's database and says in an error what could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*database) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	end, err := serve(ctx, t)
	var d *database
	if err == nil {
		if d, err = open(ctx, t); err == nil {
			err = do(d)
			d.close()
		}
		err = errors.Join(err, end())
	}
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	return fmt.Errorf("cannot %s database %s: %w", what, t.Component.Ref(), d.withoutSecret(err))
}

// withoutSecret is an error that does not repeat the password, as a server does that quotes a statement.
func (d *database) withoutSecret(err error) error {
	if d == nil || d.secret == "" || err == nil || !strings.Contains(err.Error(), d.secret) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), d.secret, "[secret]"))
}

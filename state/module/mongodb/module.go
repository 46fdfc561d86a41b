// Package mongodb is the module mongodb-database: a component is a database of a server that speaks MongoDB's protocol.
//
// A snapshot is canonical (see snapshot.go): collections by name with their options and indexes, documents by _id as the
// bytes of their BSON, and the definitions of views. What belongs to the server stays there: users, roles and profiles.
// Where the server can, a snapshot is read as of one point in time. Where it cannot, all is read twice: what differs
// is an error, what is the same was so between the two.
//
// A restore loads everything into collections beside, whose names begin with "orrery-side-", reads it back, and
// then renames: the old ones aside, the new ones in. A document in a journal says what is being moved, so that the next
// operation undoes what a crash left (see swap.go). What is not in a snapshot is gone after its restore.
//
// MongoDB cannot close one database for its clients: who writes must be stopped before a component is deactivated. A
// database without collections does not exist for the server either, so that two files in the component's folder say
// that it was made, and that it is active.
package mongodb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"orrery/state"
)

// Name is the module's name.
const Name = "mongodb-database"

// Module drives databases of MongoDB servers. It is safe for concurrent use and keeps no connections.
type Module struct{}

var (
	_ state.Stateful     = (*Module)(nil)
	_ state.Exporter     = (*Module)(nil)
	_ state.Forker       = (*Module)(nil)
	_ state.Neighbor     = (*Module)(nil)
	_ state.Doctor       = (*Module)(nil)
	_ state.Sizer        = (*Module)(nil)
	_ state.Integrity    = (*Module)(nil)
	_ state.Sheller      = (*Module)(nil)
	_ state.Versioner    = (*Module)(nil)
	_ state.Itemizer     = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{} }

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A database of a server that speaks MongoDB's protocol. It is tested on FerretDB 1.24 (with SQLite) and has not been tried on MongoDB itself. What FerretDB lacks was " +
			"therefore tried on no server: replica sets and clusters, reads as of one point in time, views, collations, validators and the refusal of time series. " +
			"On a replica set or cluster of version 5 or newer a snapshot is of one point in time. Other servers cannot read so: all is read twice, and the snapshot fails if " +
			"anything differs (\"it changed while it was read\"), which a database that is written to all the time always does; a change that is taken back between the two is not seen. " +
			"Capped collections are read twice everywhere. A restore is loaded beside, read back and moved in by renaming, so that the database needs room for both; clients stay connected, " +
			"and what they write meanwhile is lost. One that is cut off is undone by the next operation. Time series are refused. Users, roles and what is called system.* are the server's and in no snapshot. " +
			"MongoDB cannot close one database for its clients: stop who writes before deactivating. " +
			"Exported, a snapshot is a tar file of a folder as mongodump writes it; unpacked into DIR, mongorestore --nsFrom 'database.*' --nsTo 'NAME.*' DIR loads it. " +
			"A tar file of a folder that mongodump wrote of one database is imported. The shell is mongosh.",
		Properties: []state.Property{
			{Name: "database", Type: "string", Doc: "Name of the database; by default the component's, with what MongoDB refuses replaced."},
			{Name: "documents", Type: "string", Doc: "Path of a file, usually ${file.NAME}, that is loaded when the database is new and empty: lines of extended JSON, " +
				`{"collection": "users", "document": {...}}; with "options" or "index" in place of "document" a line makes the collection or an index of it.`},
		},
		Container: []state.Property{
			{Name: "host", Type: "string", Default: "127.0.0.1", Doc: "Host name or address of the server; of a replica set, of any of its members."},
			{Name: "port", Type: "int", Default: "27017", Doc: "Port of the server."},
			{Name: "replicaSet", Type: "string", Doc: "Name of the replica set, whose primary is then found; by default the server itself is used."},
			{Name: "user", Type: "string", Doc: "User that may read and write the database, rename collections and list them, where the server asks for one (SCRAM)."},
			{Name: "authSource", Type: "string", Default: "admin", Doc: "Database in which the user was made."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "tls", Type: "bool", Default: "false", Doc: "Whether to speak TLS."},
			{Name: "ca", Type: "string", Doc: "Path of the certificates that the server's is checked with; default: the system's."},
		},
		Exports: []state.Property{
			{Name: "host", Type: "string", Doc: "Host of the server."},
			{Name: "port", Type: "int", Doc: "Port of the server."},
			{Name: "database", Type: "string", Doc: "Name of the database."},
			{Name: "url", Type: "string", Doc: "Connection URL without a password."},
		},
		Stateful: true,
	}
}

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
	if err != nil {
		return nil, err
	}
	return map[string]string{"host": s.Host, "port": fmt.Sprint(s.Port), "database": p.Database, "url": s.url(p.Database, "")}, nil
}

// Beside implements state.Neighbor: the neighbour's database is called as it is.
func (*Module) Beside(c state.Component, name string) state.Component {
	c.Name = name
	c.Properties = maps.Clone(c.Properties)
	delete(c.Properties, "database")
	return c
}

// The files that say what the server cannot.
func (d *database) made() string   { return filepath.Join(d.folder, "made") }   // its state is in the server
func (d *database) active() string { return filepath.Join(d.folder, "active") } // it is in service

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func there(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// Activate implements state.Module. A database of that name that has collections is taken over as it is.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(d *database) error {
		if err := d.recover(ctx); err != nil {
			return err
		}
		exists, err := d.exists(ctx)
		if err != nil {
			return err
		}
		if !exists && !there(d.made()) && d.documents != "" {
			if err := d.replace(ctx, "", func(l *loader) error { return l.loadFile(d.documents) }); err != nil {
				return err
			}
		}
		return errors.Join(os.WriteFile(d.made(), nil, 0o600), os.WriteFile(d.active(), nil, 0o600))
	})
}

// Deactivate implements state.Module. It keeps the database as it is; MongoDB cannot close it for clients.
func (*Module) Deactivate(ctx context.Context, t state.Target) error {
	return errors.Join(ctx.Err(), remove((&database{folder: t.Directory}).active())) // also without a server
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(d *database) error {
		if err := d.recoverToRead(ctx); err != nil {
			return err
		}
		return d.dump(ctx, w)
	})
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	return m.with(ctx, t, "restore", func(d *database) error { return d.restore(ctx, r) })
}

func (d *database) restore(ctx context.Context, r io.Reader) error {
	if err := d.replace(ctx, "", func(l *loader) error { return read(r, l) }); err != nil {
		return err
	}
	return os.WriteFile(d.made(), nil, 0o600)
}

// RestorePart implements state.PartRestorer: the part is a collection or a view.
func (m *Module) RestorePart(ctx context.Context, t state.Target, r io.Reader, name string) error {
	return m.with(ctx, t, "restore a collection of", func(d *database) error {
		if !validCollection(name) {
			return fmt.Errorf("collection %q: %w in the snapshot", name, state.ErrNotFound)
		}
		return d.replace(ctx, name, func(l *loader) error {
			if err := read(r, l); err != nil {
				return err
			}
			if len(l.move.Steps)+len(l.move.Views) == 0 {
				return fmt.Errorf("collection %q: %w in the snapshot", name, state.ErrNotFound)
			}
			return nil
		})
	})
}

// CollectGarbage implements state.Stateful: it drops the database.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "drop", func(d *database) error {
		if err := d.db.Drop(ctx); err != nil {
			return err
		}
		return errors.Join(remove(d.made()), remove(d.active()))
	})
}

// Fork implements state.Forker: it loads a snapshot of the source, which is in use.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	err := m.with(ctx, from, "fork", func(source *database) error {
		if err := source.recoverToRead(ctx); err != nil {
			return err
		}
		return m.with(ctx, into, "fork into", func(d *database) error {
			if err := d.recover(ctx); err != nil {
				return err
			}
			if exists, err := d.exists(ctx); err != nil || exists {
				return errors.Join(err, fmt.Errorf("database %q exists: %w", d.name, state.ErrInUse))
			}
			return pass(func(w io.Writer) error { return source.dump(ctx, w) }, func(r io.Reader) error { return d.restore(ctx, r) })
		})
	})
	return state.ForkCopy, err
}

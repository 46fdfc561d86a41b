// Package redis is the module redis-database: a component is a logical database of a Redis (7.0 or newer) or Valkey
// server, or the keys of one that begin with a prefix.
//
// A snapshot is read over the replication protocol (replica.go): the server forks, so that the copy is of one point in
// time whatever clients write. It comes in the server's order and encodings; package rdb decodes it, a sorter
// brings it into order in temporary files, and what is written is text that depends on nothing but the keys, their values
// and when they expire (snapshot.go). The server sends all its databases: a snapshot costs what the whole server holds.
//
// A restore is loaded into a database that is kept for that, the container's scratch, and takes its place in one
// script, which is atomic: SWAPDB for a whole database, MOVE of each key for a prefix (load.go). A crash
// before it leaves keys in the scratch database, which the next operation that needs it deletes.
//
// A server cannot close one database for its clients: who writes must be stopped before a component is deactivated.
// Functions, scripts and users belong to the server and are in no snapshot.
package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"strconv"
	"strings"

	"orrery/internal/spool"
	"orrery/state"
)

// Name is the module's name.
const Name = "redis-database"

// Module drives databases of Redis servers. It is safe for concurrent use and keeps no connections.
type Module struct {
	locks  locks
	pauses pauses
}

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
	_ state.Presenter    = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
	_ state.Portable     = (*Module)(nil)
	_ state.Quiescer     = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{} }

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A logical database of a Redis server (7.0 or newer, not in cluster mode), or the keys of one that begin with a prefix. " +
			"Snapshots are of one point in time while clients write, and are read over the replication protocol, for which the server sends all its databases. " +
			"Streams with consumer groups, hashes with fields that expire, and types of the server's modules are refused by name. " +
			"A restore is prepared in a database of its own (`scratch`) and takes its place in one step; clients stay connected. With a prefix that step takes about a second for a million keys. " +
			"A server cannot close one database for its clients: stop who writes before deactivating. " +
			"An ACL user needs all keys, and `+@all`, or at least `+@read +@write +@connection +@transaction +@scripting +info +time +psync +replconf +client +memory +swapdb +flushdb`.",
		Stateful: true,
		Properties: []state.Property{
			{Name: "db", Type: "int", Required: true, Doc: "Number of the database. Two components can only share one if both have a prefix."},
			{Name: "prefix", Type: "string", Doc: "What the keys begin with; without it the component is the whole database."},
			{Name: "commands", Type: "string", Doc: "Path of a file, usually ${file.NAME}, of commands that make the initial keys, as `redis-cli --pipe` reads them: " +
				"SET, MSET, RPUSH, SADD, HSET, ZADD, XADD, XSETID, EXPIREAT and PEXPIREAT. The prefix is put before its keys. It is loaded when the component is new and has no keys."},
			{Name: "neighbors", Type: "int", Default: strconv.Itoa(defaultNeighbors), Doc: "Number of the database in which forks and scratch copies live, each under a prefix: its name and a colon."},
		},
		Container: []state.Property{
			{Name: "host", Type: "string", Default: "127.0.0.1", Doc: "Host name or address of the server."},
			{Name: "port", Type: "int", Default: "6379", Doc: "Port of the server."},
			{Name: "socket", Type: "string", Doc: "Absolute path of the server's socket; used instead of host and port."},
			{Name: "user", Type: "string", Doc: "ACL user; default: the server's default user."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "scratch", Type: "int", Default: strconv.Itoa(defaultScratch), Doc: "Number of a database that nobody else uses, in which restores are prepared. The same for all containers of a server."},
			{Name: "diskless", Type: "bool", Default: "false", Doc: "Whether the server should send its data without writing a file first. It then waits for its `repl-diskless-sync-delay` (5 seconds by default). " +
				"Where it cannot write the file, as on a full disk, it is asked for this too; but it refuses writes then, if it has save points, as when it cannot save by itself."},
		},
		Exports: []state.Property{
			{Name: "host", Type: "string", Doc: "Host of the server."},
			{Name: "port", Type: "int", Doc: "Port of the server."},
			{Name: "db", Type: "int", Doc: "Number of the database."},
			{Name: "prefix", Type: "string", Doc: "What the keys begin with; empty for a whole database."},
			{Name: "url", Type: "string", Doc: "Connection URL without a password."},
		},
	}
}

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decode(t.Component)
	if err != nil {
		return nil, err
	}
	db := strconv.Itoa(*p.DB)
	_, address := s.address()
	u := url.URL{Scheme: "redis", Host: address, Path: "/" + db}
	if s.Socket != "" {
		u = url.URL{Scheme: "unix", Path: address, RawQuery: "db=" + db}
	}
	if s.User != "" {
		u.User = url.User(s.User)
	}
	return map[string]string{"host": s.Host, "port": strconv.Itoa(s.Port), "db": db, "prefix": p.Prefix, "url": u.String()}, nil
}

// Beside implements state.Neighbor: the neighbour's keys begin with its name, in the database for that.
func (*Module) Beside(c state.Component, name string) state.Component {
	p, err := decode(c)
	if err != nil {
		p.Neighbors = defaultNeighbors
	}
	c.Name = name
	c.Properties = maps.Clone(c.Properties)
	if c.Properties == nil {
		c.Properties = state.Properties{}
	}
	c.Properties["db"], c.Properties["prefix"] = p.Neighbors, name+":"
	return c
}

// Activate implements state.Module. Keys that are there are taken over.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(d *database) error {
		if err := d.settle(ctx); err != nil {
			return err
		}
		if err := d.initialise(ctx, t); err != nil {
			return err
		}
		return errors.Join(touch(d.knownFile()), touch(d.activeFile()))
	})
}

// initialise loads the initial commands of a component that is new and has no keys.
func (d *database) initialise(ctx context.Context, t state.Target) error {
	p, err := decode(t.Component)
	if err != nil || p.Commands == "" {
		return err
	}
	if _, err := os.Lstat(d.knownFile()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if empty, err := d.empty(ctx); err != nil || !empty {
		return err
	}
	in, err := os.Open(p.Commands)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	return spool.With(d.folder, func(f *os.File) error {
		if err := importCommands(ctx, in, f, d.folder); err != nil {
			return fmt.Errorf("initial commands %s: %w", p.Commands, err)
		}
		return d.replace(ctx, f)
	})
}

// Deactivate implements state.Module. It keeps the keys; a server cannot close them for clients.
func (*Module) Deactivate(ctx context.Context, t state.Target) error {
	return errors.Join(ctx.Err(), remove((&database{folder: t.Directory}).activeFile())) // also without a server
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(d *database) error { return d.dump(ctx, w) })
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	return m.with(ctx, t, "restore", func(d *database) error {
		return spool.With(d.folder, func(f *os.File) error {
			if err := read(io.TeeReader(r, f), visitor{}); err != nil {
				return err
			}
			if err := d.replace(ctx, f); err != nil {
				return err
			}
			return touch(d.knownFile())
		})
	})
}

// CollectGarbage implements state.Stateful: it deletes the component's keys and no others.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "delete", func(d *database) error {
		if err := errors.Join(d.settle(ctx), d.clear(ctx)); err != nil {
			return err
		}
		return errors.Join(remove(d.knownFile()), remove(d.activeFile()))
	})
}

func (d *database) clear(ctx context.Context) error {
	if d.prefix == "" {
		return d.explain(d.session.do(ctx, "FLUSHDB", "ASYNC").Err())
	}
	return d.scan(ctx, func(keys []string) error {
		args := []any{"UNLINK"}
		for _, key := range keys {
			args = append(args, key)
		}
		return d.explain(d.session.do(ctx, args...).Err())
	})
}

// Fork implements state.Forker.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	err := m.with(ctx, from, "fork", func(source *database) error {
		return m.with(ctx, into, "fork into", func(d *database) error {
			if err := apart(source, d); err != nil {
				return err
			}
			if empty, err := d.empty(ctx); err != nil || !empty {
				return errors.Join(err, fmt.Errorf("database %d has keys %q: %w", d.number, pattern(d.prefix), state.ErrInUse))
			}
			return spool.With(d.folder, func(f *os.File) error {
				if err := source.dump(ctx, f); err != nil {
					return err
				}
				if err := d.replace(ctx, f); err != nil {
					return err
				}
				return touch(d.knownFile())
			})
		})
	})
	return state.ForkCopy, err
}

// apart refuses a copy of keys that would be among them.
func apart(a, b *database) error {
	_, one := a.server.address()
	_, other := b.server.address()
	if one == other && a.number == b.number && (strings.HasPrefix(a.prefix, b.prefix) || strings.HasPrefix(b.prefix, a.prefix)) {
		return fmt.Errorf("keys %q and %q are in the same database %d: %w keep them apart (give the components different databases or prefixes)",
			pattern(a.prefix), pattern(b.prefix), a.number, state.ErrNotAble)
	}
	return nil
}

// with carries out do on the target's keys and says in an error what could not be done to them.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*database) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := m.open(ctx, t)
	if err == nil {
		defer d.close()
		err = do(d)
	}
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = errors.Join(ended, err)
	}
	if d != nil && d.secret != "" && strings.Contains(err.Error(), d.secret) {
		err = errors.New(strings.ReplaceAll(err.Error(), d.secret, "[secret]"))
	}
	return fmt.Errorf("cannot %s %s: %w", what, t.Component.Ref(), err)
}

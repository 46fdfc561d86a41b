// Package ejabberd is the module ejabberd-dump: a component is a virtual host of an ejabberd server that keeps its state in
// Mnesia, with its services (rooms, pubsub, channels).
//
// It talks to ejabberd's node as a node of Erlang itself, by the erl program, with a process on the server's node that is
// interpreted and leaves no code behind. A snapshot reads all tables in one transaction: records as canonical text, in
// order, only those of the host and of its services. Numbers that the server gives to the nodes of pubsub are not
// in it, nor when a room was put to sleep.
//
// A restore takes the host out of service (its clients are disconnected, its rooms stored), changes the records that differ in
// one transaction, which happens wholly or not at all, and takes it into service again. Records of other hosts are
// never read out of the server nor written. A host may be restored under another name: it stands for the former one where
// it is part of an address.
//
// What ejabberd writes without transactions (MAM's archive, for one) is read record by record. Files that modules keep
// outside of Mnesia (uploads, logs of rooms, certificates) and what belongs to the whole server (OAuth clients) are not
// part of a component.
package ejabberd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"orrery/internal/extsort"
	"orrery/state"
)

// Name is the module's name.
const Name = "ejabberd-dump"

// Module drives virtual hosts of ejabberd. It is safe for concurrent use and keeps no connections.
type Module struct {
	memory int // bytes that are sorted at once
}

var (
	_ state.Stateful     = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{memory: extsort.Memory} }

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A virtual host of an ejabberd server, with its accounts, rosters, vCards, private data, offline messages, privacy lists, archive, rooms, channels and pubsub nodes, as Mnesia holds them; " +
			"nothing of other virtual hosts. A restore takes the host out of service for its time, and happens in one transaction. A host that is named in ejabberd.yml itself is taken out of service until " +
			"the server starts anew or reloads its configuration; with hostsFile it stays so. Its databases are not SQL.",
		Properties: []state.Property{
			{Name: "host", Type: "string", Doc: "Name of the virtual host, such as chat.example.org. Default: the component's name, with - for @ and _."},
		},
		Container: []state.Property{
			{Name: "node", Type: "string", Default: "ejabberd@localhost", Doc: "Name of the server's Erlang node (ERLANG_NODE in ejabberdctl.cfg)."},
			{Name: "port", Type: "int", Doc: "Port on which the node listens for other nodes (ERL_DIST_PORT); default: what Erlang's port mapper says."},
			{Name: "epmdPort", Type: "int", Default: "4369", Doc: "Port of Erlang's port mapper."},
			{Name: "cookieFile", Type: "string", Default: "/var/lib/ejabberd/.erlang.cookie", Doc: "Path of the file with the node's cookie, which only root and ejabberd's account can read."},
			{Name: "erl", Type: "string", Default: "erl", Doc: "Path of the erl program, best that of the server."},
			{Name: "hostsFile", Type: "string", Doc: "Path of a file that ejabberd.yml takes in with include_config_file, in which virtual hosts are created and removed as components are activated and deactivated. " +
				"Without it, hosts have to be named in ejabberd.yml."},
			{Name: "ignoreTables", Type: "[]string", Doc: "Mnesia tables of modules that are not ejabberd's own and whose records are not part of a component."},
		},
		Exports: []state.Property{
			{Name: "host", Type: "string", Doc: "Name of the virtual host."},
		},
		Stateful: true,
	}
}

// Activate implements state.Module. A host that is there is taken over.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(h *host) error {
		if h.server.HostsFile != "" && (!h.configured || h.server.listed(h.name)) {
			if err := h.appoint(ctx, true); err != nil {
				return err
			}
		}
		if err := h.raise(); err != nil {
			return err
		}
		return os.WriteFile(h.marker(), nil, 0o600)
	})
}

// Deactivate implements state.Module: clients are disconnected, and none is let in. Without a server there are none.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	err := m.with(ctx, t, "deactivate", func(h *host) error {
		if err := h.lower(); err != nil {
			return err
		}
		if h.server.HostsFile != "" && h.server.listed(h.name) {
			if err := h.appoint(ctx, false); err != nil {
				return err
			}
		}
		return remove(h.marker())
	})
	if errors.Is(err, state.ErrUnreachable) {
		return m.deactivateAlone(t)
	}
	return err
}

// deactivateAlone sees to it that a server that is not there does not begin with the host, where it can.
func (m *Module) deactivateAlone(t state.Target) error {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return err
	}
	name, err := decode(t.Component)
	if err != nil {
		return err
	}
	if s.HostsFile != "" && s.listed(name) {
		if _, err := s.enlist(name, false); err != nil {
			return fmt.Errorf("cannot deactivate virtual host %s of %s: %w", name, t.Component.Ref(), err)
		}
	}
	return remove((&host{folder: t.Directory}).marker())
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(h *host) error {
		if err := h.x.begin("read", h.locked()); err != nil {
			return err
		}
		return h.sorting(ctx, func(s *extsort.Sorter) error {
			if _, err := h.collect(ctx, func(line []byte) error { return s.Add(line) }); err != nil {
				return err
			}
			return h.x.commit()
		}, func(s *extsort.Sorter) error {
			return writeSnapshot(ctx, w, h.name, s, func(name string) ([]byte, error) { return h.all[name].heading(), nil })
		})
	})
}

// Restore implements state.Stateful. The snapshot is read whole before anything is touched.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	return m.exchanging(ctx, t, "restore", func(h *host, settle func() error) error {
		return h.sorting(ctx, func(s *extsort.Sorter) error { return h.admit(ctx, r, s) }, func(want *extsort.Sorter) error {
			if err := settle(); err != nil {
				return err
			}
			return h.replace(ctx, want, "")
		})
	})
}

// RestorePart implements state.PartRestorer: a part is a table. Those of pubsub hang together and come back together only.
func (m *Module) RestorePart(ctx context.Context, t state.Target, snapshot io.Reader, part string) error {
	return m.exchanging(ctx, t, "restore table "+strconv.Quote(part)+" of", func(h *host, settle func() error) error {
		if at, _ := hung(part); at > 0 {
			return fmt.Errorf("it is %w restore one table of pubsub without the others (restore the component)", state.ErrNotAble)
		}
		return h.sorting(ctx, func(s *extsort.Sorter) error { return h.admit(ctx, snapshot, s) }, func(want *extsort.Sorter) error {
			if there, err := has(ctx, want, part); err != nil || !there {
				return errors.Join(err, fmt.Errorf("table %q in the snapshot: %w", part, state.ErrNotFound))
			}
			if err := settle(); err != nil {
				return err
			}
			return h.replace(ctx, want, part)
		})
	})
}

// has says whether there are records of a table.
func has(ctx context.Context, s *extsort.Sorter, table string) (found bool, err error) {
	err = s.Each(ctx, func(line []byte) error {
		if tableOf(line) != table {
			return nil
		}
		found = true
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

// CollectGarbage implements state.Stateful: it deletes the host's records, and nothing of other hosts.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.exchanging(ctx, t, "delete", func(h *host, settle func() error) error {
		if err := settle(); err != nil {
			return err
		}
		nothing := func(*extsort.Sorter) error { return nil }
		return h.sorting(ctx, nothing, func(none *extsort.Sorter) error { return h.replace(ctx, none, "") })
	})
}

package ejabberd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

var (
	_ state.Exporter  = (*Module)(nil)
	_ state.Doctor    = (*Module)(nil)
	_ state.Sizer     = (*Module)(nil)
	_ state.Versioner = (*Module)(nil)
	_ state.Clients   = (*Module)(nil)
	_ state.Finder    = (*Module)(nil)
	_ state.Itemizer  = (*Module)(nil)
	_ state.Neighbor  = (*Module)(nil)
)

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	name, err := decode(t.Component)
	return map[string]string{"host": name}, err
}

// Health implements state.Doctor: the server serves the virtual host.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(h *host) error {
		up, err := h.up()
		switch {
		case err != nil:
			return err
		case !h.active():
			return state.ErrInactive
		case !h.configured:
			return fmt.Errorf("it is %w among the server's hosts", state.ErrNotFound)
		case !up:
			return errors.New("the server does not serve it (activate it again)")
		}
		return nil
	})
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(h *host) error {
		v, err := h.x.call("ejabberd_config", "version")
		text, _ := v.(term.Binary)
		version = "ejabberd " + string(text)
		return err
	})
	return version, err
}

// Clients implements state.Clients: the sessions of the host's users.
func (m *Module) Clients(ctx context.Context, t state.Target) (n int, err error) {
	err = m.with(ctx, t, "count the clients of", func(h *host) error {
		v, err := h.x.call("ejabberd_sm", "get_vh_session_number", term.Binary(h.name))
		count, _ := v.(int64)
		n = int(count)
		return err
	})
	return n, err
}

// Size implements state.Sizer: the share in the tables that the host's accounts have among all.
func (m *Module) Size(ctx context.Context, t state.Target) (size int64, err error) {
	err = m.with(ctx, t, "measure", func(h *host) error {
		v, err := h.x.call("ejabberd_auth", "count_users", term.Binary(h.name))
		if err != nil {
			return err
		}
		own, _ := v.(int64)
		for _, name := range h.own() {
			if t := h.all[name]; t.size > 0 {
				size += t.bytes
			}
		}
		if all := h.all["passwd"].size; all > own {
			size = size / all * own
		}
		return nil
	})
	return size, err
}

// Exists implements state.Finder: there are records of the host.
func (m *Module) Exists(ctx context.Context, t state.Target) (found bool, err error) {
	err = m.with(ctx, t, "look for", func(h *host) error {
		if err := h.x.begin("read", h.locked()); err != nil {
			return err
		}
		_, err := h.collect(ctx, func([]byte) error {
			found = true
			return errEnough
		})
		if found && errors.Is(err, errEnough) {
			err = nil
		}
		if err != nil {
			return err
		}
		return h.x.commit()
	})
	return found, err
}

// Items implements state.Itemizer: the items are records, of tables. Records of tables that may hold several of a key are
// without a key.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	return readSnapshot(ctx, snapshot, visitor{
		host:  func(string) error { return nil },
		table: func(table) error { return nil },
		record: func(t table, record term.Tuple, line []byte) error {
			item := state.Item{Part: t.name, Content: line}
			if !t.bag() {
				item.Key = term.Append(nil, record[1])
			}
			return visit(item)
		},
	})
}

// Beside implements state.Neighbor: a virtual host below the component's own.
func (*Module) Beside(c state.Component, name string) state.Component {
	own, err := decode(c)
	c.Name = name
	properties := state.Properties{}
	maps.Copy(properties, c.Properties)
	if _, named := properties["host"]; named && err == nil {
		properties["host"] = strings.NewReplacer("@", "-", "_", "-", ".", "-").Replace(name) + "." + own
	}
	c.Properties = properties
	return c
}

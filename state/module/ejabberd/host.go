package ejabberd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
	"orrery/state/module/ejabberd/term"
)

// host is the component's virtual host, during one operation.
type host struct {
	name       string
	folder     string
	memory     int // bytes that are sorted at once
	server     server
	x          *session
	configured bool
	hosts      []string // its own name and those of its services, sorted
	all        map[string]table
}

// with carries out do on the target's virtual host, and says in an error what could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*host) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	name, err := decode(t.Component)
	if err == nil {
		var s server
		if s, err = decodeContainer(t.Container); err == nil {
			err = s.with(ctx, func(x *session) error {
				h := &host{name: name, folder: t.Directory, memory: m.memory, server: s, x: x}
				if err := h.look(); err != nil {
					return err
				}
				return do(h)
			})
		}
	}
	if err != nil {
		return fmt.Errorf("cannot %s virtual host %s of %s: %w", what, name, t.Component.Ref(), err)
	}
	return nil
}

// look finds out what the server has.
func (h *host) look() error {
	t, err := h.x.call("ejabberd_option", "hosts")
	if err != nil {
		return fmt.Errorf("ejabberd does not run in node %s: %w: %w", h.server.Node, state.ErrUnreachable, err)
	}
	names, err := binaries(t)
	if err != nil {
		return err
	}
	h.configured = slices.Contains(names, h.name)
	if h.all, err = h.x.tables(); err != nil {
		return err
	}
	like := h.name
	if !h.configured && len(names) > 0 {
		like = names[0] // its services have names like those of another
	}
	return h.services(like)
}

// services finds the names of what the modules of a virtual host serve besides it. They are taken from the configuration, so
// that they are known while the host is out of service.
func (h *host) services(like string) error {
	t, err := h.x.ask(term.Tuple{term.Atom("modules"), term.Binary(like)})
	if err != nil {
		return err
	}
	h.hosts = []string{h.name}
	modules, _ := t.(term.List)
	for _, m := range modules {
		pair, ok := m.(term.Tuple)
		if !ok || len(pair) != 2 {
			return errors.New("an answer is of an unknown kind")
		}
		options, _ := pair[1].(term.Map)
		var one, many term.Term = nil, term.List{}
		for _, o := range options {
			switch o.Key {
			case term.Atom("host"):
				one = o.Value
			case term.Atom("hosts"):
				many = o.Value
			case term.Atom("db_type"):
				if o.Value != term.Atom("mnesia") && o.Value != term.Atom("ram") {
					return fmt.Errorf("its %s keeps its state in %s, not in Mnesia: %w keep that (make a component of the database)", term.Text(pair[0]), term.Text(o.Value), state.ErrNotAble)
				}
			}
		}
		names, err := binaries(many)
		if err != nil {
			return err
		}
		if name, ok := one.(term.Binary); ok && len(names) == 0 {
			names = []string{string(name)}
		}
		for _, n := range names {
			if !strings.Contains(n, "@") { // the whole host has it, by its own name
				h.hosts = append(h.hosts, strings.TrimSuffix(n, like)+map[bool]string{true: h.name}[belongs(n, like)])
			}
		}
	}
	slices.Sort(h.hosts)
	h.hosts = slices.Compact(h.hosts)
	return nil
}

func binaries(t term.Term) ([]string, error) {
	l, ok := t.(term.List)
	if !ok {
		return nil, errors.New("an answer is not a list of names")
	}
	names := make([]string, 0, len(l))
	for _, e := range l {
		b, ok := e.(term.Binary)
		if !ok {
			return nil, errors.New("an answer is not a list of names")
		}
		names = append(names, string(b))
	}
	return names, nil
}

// up says whether the server serves the host.
func (h *host) up() (bool, error) {
	t, err := h.x.call("ejabberd_router", "is_my_host", term.Binary(h.name))
	return t == term.Atom("true"), err
}

// steps takes the host out of service or into it, in ejabberd's own order. Its pools of connections to SQL databases are left
// alone: this module has no such hosts.
func (h *host) steps(directions ...string) error {
	var calls []term.Term
	for _, d := range directions {
		modules, start := []string{"ejabberd_local", "ejabberd_auth", "gen_mod", "ejabberd_s2s", "ejabberd_sm"}, "start_modules"
		if d == "host_down" {
			modules, start = []string{"ejabberd_s2s", "ejabberd_sm", "gen_mod", "ejabberd_auth", "ejabberd_local"}, "stop_modules"
		}
		for _, m := range modules {
			function := d
			if m == "gen_mod" {
				function = start
			}
			calls = append(calls, term.Tuple{term.Atom(m), term.Atom(function), term.List{term.Binary(h.name)}})
		}
	}
	if err := h.x.each(calls...); err != nil {
		return fmt.Errorf("%v: %w", directions, err)
	}
	return nil
}

// raise takes the host into service, if it is not.
func (h *host) raise() error {
	if up, err := h.up(); up || err != nil {
		return err
	}
	if !h.configured {
		return fmt.Errorf("the server has no such virtual host: add %q to hosts in ejabberd.yml and run ejabberdctl reload_config (or give the container a hostsFile)", h.name)
	}
	return h.steps("host_down", "host_up") // of one that was interrupted, some is there
}

// lower takes it out of service, which ends its clients' connections. What its services have in memory is written.
func (h *host) lower() error {
	if up, err := h.up(); !up || err != nil {
		return err
	}
	return h.steps("host_down")
}

// marker is a file that is there while the component is active.
func (h *host) marker() string { return filepath.Join(h.folder, "active") }

func (h *host) active() bool {
	_, err := os.Lstat(h.marker())
	return err == nil
}

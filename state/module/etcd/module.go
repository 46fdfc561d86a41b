// Package etcd is the module etcd-keyspace: a component is the keys of an etcd server (3.4 or newer) that begin with a
// prefix, or all of them.
//
// A snapshot is the keys, without the prefix and in order, with their values, as of one revision. Keys that have a lease
// belong to a client that is alive (a lock, a registration): they are in no snapshot, and a restore leaves those alone
// that the snapshot does not have. Revisions and versions of keys are etcd's own and begin anew.
//
// etcd changes at most 128 keys in one transaction and cannot rename. A restore that needs no more than one transaction
// is atomic. A larger one writes first what is new and then deletes what should not be there, in several
// transactions: readers and watchers may see a mixture meanwhile. The state before it is in a file
// (undo) before it begins; what fails is undone from there, at the latest by the next operation on the component.
//
// etcd cannot close a prefix for its clients either: who writes must be stopped before a component is deactivated.
//
// The module speaks etcd's JSON over HTTP, which the server has on its client port: the Go client would bring gRPC and
// twenty modules more for four calls.
package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"orrery/internal/spool"
	"orrery/state"
)

// Name is the module's name.
const Name = "etcd-keyspace"

// Module drives keys of etcd servers. It is safe for concurrent use and keeps no connections.
type Module struct{}

var (
	_ state.Stateful     = (*Module)(nil)
	_ state.Exporter     = (*Module)(nil)
	_ state.Forker       = (*Module)(nil)
	_ state.Neighbor     = (*Module)(nil)
	_ state.Doctor       = (*Module)(nil)
	_ state.Sheller      = (*Module)(nil)
	_ state.Versioner    = (*Module)(nil)
	_ state.Itemizer     = (*Module)(nil)
	_ state.Presenter    = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{} }

// properties configure a component.
type properties struct {
	Prefix string `json:"prefix"`
	All    bool   `json:"all"`
}

// server configures a container.
type server struct {
	Endpoint     string `json:"endpoint"`
	User         string `json:"user"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	CA           string `json:"ca"`
	Certificate  string `json:"certificate"`
	Key          string `json:"key"`
}

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "The keys of an etcd server (3.4 or newer) that begin with a prefix. Snapshots are of one revision and leave out keys with a lease. " +
			"A restore that changes up to 128 keys is one transaction; a larger one is several, of which readers may see a part, and is undone if it fails. " +
			"etcd cannot keep clients out of a prefix: stop who writes before deactivating.",
		Properties: []state.Property{
			{Name: "prefix", Type: "string", Doc: "What the keys begin with; default: the component's name and a slash."},
			{Name: "all", Type: "bool", Default: "false", Doc: "Whether the component is all keys of the server."},
		},
		Container: []state.Property{
			{Name: "endpoint", Type: "string", Default: "http://127.0.0.1:2379", Doc: "URL of the server's client port, http or https."},
			{Name: "user", Type: "string", Doc: "User with the right to read and write the keys, where the server asks for one."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "ca", Type: "string", Doc: "Path of the certificates that the server's is checked with; default: the system's."},
			{Name: "certificate", Type: "string", Doc: "Path of the client's certificate."},
			{Name: "key", Type: "string", Doc: "Path of its key."},
		},
		Exports: []state.Property{
			{Name: "endpoint", Type: "string", Doc: "URL of the server."},
			{Name: "prefix", Type: "string", Doc: "What the keys begin with; a zero byte (NUL) stands for all keys."},
		},
		Stateful: true,
	}
}

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

func decode(c state.Component) (properties, error) {
	var p properties
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	if p.All && p.Prefix != "" {
		return p, fmt.Errorf("%s: %w: all and prefix exclude each other", c.Ref(), state.ErrBadProperty)
	}
	// JSON has no other bytes than those of UTF-8, and what was none became U+FFFD.
	if strings.ContainsRune(p.Prefix, '\uFFFD') || strings.HasPrefix(p.Prefix, "\x00") {
		return p, fmt.Errorf("%s: %w: prefix %q is not UTF-8, or begins with a zero byte", c.Ref(), state.ErrBadProperty, p.Prefix)
	}
	if p.Prefix == "" && !p.All {
		p.Prefix = c.Name + "/"
	}
	return p, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{Endpoint: "http://127.0.0.1:2379"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	bad := func(what string) error { return fmt.Errorf("container %s: %w: %s", c.Name, state.ErrBadProperty, what) }
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "":
		return s, bad("endpoint is not http://HOST:PORT or https://HOST:PORT")
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return s, bad("passwordFile and passwordEnv exclude each other")
	case (s.Certificate == "") != (s.Key == ""):
		return s, bad("certificate and key need each other")
	}
	if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" {
		return s, bad("endpoint has no port")
	}
	s.Endpoint = strings.TrimSuffix(s.Endpoint, "/")
	return s, nil
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

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decode(t.Component)
	if p.All {
		p.Prefix = "\x00"
	}
	return map[string]string{"endpoint": s.Endpoint, "prefix": p.Prefix}, err
}

// Beside implements state.Neighbor: the neighbour's keys begin with its name.
func (*Module) Beside(c state.Component, name string) state.Component {
	c.Name = name
	c.Properties = maps.Clone(c.Properties)
	delete(c.Properties, "prefix")
	delete(c.Properties, "all")
	return c
}

// Activate implements state.Module. Keys that are there are taken over.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(k *keyspace) error {
		if _, _, err := k.page(ctx, nil, 0, 1); err != nil {
			return err
		}
		return os.WriteFile(k.marker(), nil, 0o600)
	})
}

// Deactivate implements state.Module. It keeps the keys as they are; etcd cannot close them for clients.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	k := &keyspace{folder: t.Directory}
	if _, err := os.Lstat(k.undoFile()); err == nil {
		return m.with(ctx, t, "deactivate", func(k *keyspace) error { return remove(k.marker()) })
	}
	return errors.Join(ctx.Err(), remove(k.marker())) // also without a server
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(k *keyspace) error {
		return spool.With(k.folder, func(f *os.File) error {
			if err := k.dumpAgain(ctx, f); err != nil {
				return err
			}
			_, err := io.Copy(w, f)
			return err
		})
	})
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	return m.with(ctx, t, "restore", func(k *keyspace) error {
		return spool.With(k.folder, func(f *os.File) error {
			if err := receive(f, r); err != nil {
				return err
			}
			return k.replace(ctx, f)
		})
	})
}

// RestorePart implements state.PartRestorer: the part is a key, without the prefix.
func (m *Module) RestorePart(ctx context.Context, t state.Target, r io.Reader, part string) error {
	return m.with(ctx, t, "restore a key of", func(k *keyspace) error {
		var value []byte
		found := false
		err := read(r, func(key, v []byte) error {
			if string(key) == part {
				value, found = append([]byte(nil), v...), true
			}
			return nil
		})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("key %q: %w in the snapshot", part, state.ErrNotFound)
		}
		return k.commit(ctx, []operation{{key: []byte(k.prefix + part), value: value}})
	})
}

// CollectGarbage implements state.Stateful: it deletes the keys, those with a lease too.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	if err := remove((&keyspace{folder: t.Directory}).undoFile()); err != nil {
		return err
	}
	return m.with(ctx, t, "delete", func(k *keyspace) error {
		first, end := k.bounds()
		return errors.Join(k.call(ctx, "/v3/kv/deleterange", rangeRequest{Key: first, RangeEnd: end}, nil), remove(k.marker()))
	})
}

// Fork implements state.Forker.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	err := m.with(ctx, from, "fork", func(source *keyspace) error {
		return m.with(ctx, into, "fork into", func(k *keyspace) error {
			if source.server.Endpoint == k.server.Endpoint && (strings.HasPrefix(k.prefix, source.prefix) || strings.HasPrefix(source.prefix, k.prefix)) {
				return fmt.Errorf("keys %q are among keys %q: %w keep them apart (give the component a prefix)", k.prefix, source.prefix, state.ErrNotAble)
			}
			if there, _, err := k.page(ctx, nil, 0, 1); err != nil || len(there) > 0 {
				return errors.Join(err, fmt.Errorf("there are keys %q: %w", k.prefix, state.ErrInUse))
			}
			return spool.With(source.folder, func(f *os.File) error {
				if err := source.dumpAgain(ctx, f); err != nil {
					return err
				}
				return k.replace(ctx, f)
			})
		})
	})
	return state.ForkCopy, err
}

// Health implements state.Doctor: the keys can be read.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(k *keyspace) error {
		if _, _, err := k.page(ctx, nil, 0, 1); err != nil {
			return err
		}
		if _, err := os.Lstat(k.marker()); err != nil {
			return state.ErrInactive
		}
		return nil
	})
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(k *keyspace) error {
		version, err = k.version(ctx)
		return err
	})
	return "etcd " + version, err
}

// Items implements state.Itemizer: the items are keys, without the prefix.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	return read(snapshot, func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return visit(state.Item{Key: key, Content: append([]byte{}, value...)})
	})
}

// Group implements state.Presenter: a key is counted with its folder, what is before its last slash.
func (*Module) Group(i state.Item) string {
	return string(i.Key[:bytes.LastIndexByte(i.Key, '/')+1])
}

// Name implements state.Presenter.
func (*Module) Name(i state.Item) string { return string(i.Key) }

// Shell implements state.Sheller: a shell in which etcdctl talks to the server, and PREFIX is what the keys begin with.
func (*Module) Shell(_ context.Context, t state.Target, script string) (state.Command, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return state.Command{}, err
	}
	p, err := decode(t.Component)
	if err != nil {
		return state.Command{}, err
	}
	password, err := s.password()
	if err != nil {
		return state.Command{}, err
	}
	c := state.Command{Path: "/bin/sh", Env: []string{"ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=" + s.Endpoint, "PREFIX=" + p.Prefix}}
	if script != "" {
		c.Args = []string{"-c", script}
	}
	if s.User != "" {
		c.Env = append(c.Env, "ETCDCTL_USER="+s.User+":"+password)
	}
	for name, value := range map[string]string{"ETCDCTL_CACERT": s.CA, "ETCDCTL_CERT": s.Certificate, "ETCDCTL_KEY": s.Key} {
		if value != "" {
			c.Env = append(c.Env, name+"="+value)
		}
	}
	return c, nil
}

// with carries out do on the target's keys, after undoing what an operation left behind, and says in an error what could
// not be done to them.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*keyspace) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k, err := open(ctx, t)
	if err == nil {
		defer k.close()
		if err = k.settle(ctx); err == nil {
			err = do(k)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot %s keys of %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}

// marker is a file that is there while the component is active: etcd has no place for that beside the keys.
func (k *keyspace) marker() string { return filepath.Join(k.folder, "active") }

// undoFile is the state before a restore that is under way.
func (k *keyspace) undoFile() string { return filepath.Join(k.folder, "undo") }

// Package ldap is the module ldap-database: a component is a subtree of an LDAP directory, with the entry at its top.
//
// A snapshot is canonical LDIF, which ldapadd reads: entries with parents first, attributes and values in order,
// passwords as the server keeps them. Attributes that the server maintains by itself (entryUUID, entryCSN, times, who
// wrote) are not in it: a client cannot set them, and they would make the same content another state. LDAP has no
// transactions over many entries for reading: the entries' change numbers are compared before and after, and a snapshot
// that was overtaken is taken again.
//
// A restore changes only entries that differ, so that all others keep what the server maintains. Entries are added
// with parents first, modified, then deleted with children first. LDAP cannot do that at once: clients may see a
// mixture meanwhile. The state before is in a file (undo) before it begins; what fails is undone from there, at the
// latest by the next operation on the component.
//
// LDAP cannot close a subtree for clients; who writes must be stopped before a component is deactivated. A snapshot
// holds full names and can be restored into the subtree of the same name only, of any server.
package ldap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"orrery/internal/spool"
	"orrery/state"
)

// Name is the module's name.
const Name = "ldap-database"

// Module drives subtrees of LDAP directories. It is safe for concurrent use and keeps no connections.
type Module struct{}

var (
	_ state.Stateful  = (*Module)(nil)
	_ state.Exporter  = (*Module)(nil)
	_ state.Doctor    = (*Module)(nil)
	_ state.Versioner = (*Module)(nil)
	_ state.Itemizer  = (*Module)(nil)
	_ state.Presenter = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{} }

// properties configure a component.
type properties struct {
	Base string `json:"base"`
	LDIF string `json:"ldif"`
}

// server configures a container.
type server struct {
	URL          string `json:"url"`
	User         string `json:"user"`
	PasswordFile string `json:"passwordFile"`
	PasswordEnv  string `json:"passwordEnv"`
	CA           string `json:"ca"`
	StartTLS     bool   `json:"startTLS"`
}

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A subtree of an LDAP directory (tested with OpenLDAP). Snapshots are LDIF without what the server maintains by itself. A restore changes the entries that differ, " +
			"one after the other: clients may see a part, and it is undone if it fails. LDAP cannot keep clients out: stop who writes before deactivating.",
		Properties: []state.Property{
			{Name: "base", Type: "string", Required: true, Doc: "Name (DN) of the entry at the top of the subtree, such as ou=people,dc=example,dc=org."},
			{Name: "ldif", Type: "string", Doc: "LDIF file with the entries that a new subtree begins with, its top first: an absolute path or ${file.NAME}. Without it, a top that is an ou, o or dc is made."},
		},
		Container: []state.Property{
			{Name: "url", Type: "string", Default: "ldap://127.0.0.1:389", Doc: "URL of the server: ldap, ldaps or ldapi."},
			{Name: "user", Type: "string", Required: true, Doc: "Name (DN) of an entry that may read and write all of the components."},
			{Name: "passwordFile", Type: "string", Doc: "Path of a file that holds the password."},
			{Name: "passwordEnv", Type: "string", Doc: "Name of the node's environment variable that holds the password."},
			{Name: "ca", Type: "string", Doc: "Path of the certificates that the server's is checked with; default: the system's."},
			{Name: "startTLS", Type: "bool", Default: "false", Doc: "Whether to encrypt a connection to ldap:// before anything else."},
		},
		Exports: []state.Property{
			{Name: "url", Type: "string", Doc: "URL of the server."},
			{Name: "base", Type: "string", Doc: "Name of the entry at the top of the subtree."},
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
	if dn, err := ldap.ParseDN(p.Base); err != nil || len(dn.RDNs) == 0 {
		return p, fmt.Errorf("%s: %w: base %q is no name of an entry", c.Ref(), state.ErrBadProperty, p.Base)
	}
	if p.LDIF != "" && !filepath.IsAbs(p.LDIF) && !strings.HasPrefix(p.LDIF, "${") {
		return p, fmt.Errorf("%s: %w: ldif %q is not an absolute path", c.Ref(), state.ErrBadProperty, p.LDIF)
	}
	return p, nil
}

func decodeContainer(c state.Container) (server, error) {
	s := server{URL: "ldap://127.0.0.1:389"}
	if err := c.Properties.Decode(&s); err != nil {
		return s, fmt.Errorf("container %s: %w", c.Name, err)
	}
	bad := func(what string) error { return fmt.Errorf("container %s: %w: %s", c.Name, state.ErrBadProperty, what) }
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" && u.Scheme != "ldapi" || u.User != nil:
		return s, bad("url is not ldap://HOST:PORT, ldaps://HOST:PORT or ldapi://PATH")
	case s.StartTLS && u.Scheme != "ldap":
		return s, bad("startTLS is for ldap:// alone")
	case s.User == "":
		return s, bad("user is required")
	case (s.PasswordFile == "") == (s.PasswordEnv == ""):
		return s, bad("one of passwordFile and passwordEnv is required")
	}
	return s, nil
}

// password finds the container's password. An empty one would let the server take everybody for anybody.
func (s server) password() (string, error) {
	secret, ok := os.LookupEnv(s.PasswordEnv)
	if s.PasswordFile != "" {
		content, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("cannot read the password: %w", err)
		}
		secret, ok = strings.TrimRight(string(content), "\r\n"), true
	}
	if !ok || secret == "" {
		return "", fmt.Errorf("%w: the password in %s%s is empty or not set for the node", state.ErrBadProperty, s.PasswordFile, s.PasswordEnv)
	}
	return secret, nil
}

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decode(t.Component)
	return map[string]string{"url": s.URL, "base": p.Base}, err
}

// Activate implements state.Module. A subtree that is there is taken over.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(d *directory) error {
		there, err := d.exists(d.base)
		if err == nil && !there {
			err = d.change(ctx, func() error { return d.create(ctx) })
		}
		if err != nil {
			return err
		}
		return os.WriteFile(d.marker(), nil, 0o600)
	})
}

// Deactivate implements state.Module. It keeps the entries as they are; LDAP cannot close them for clients.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	d := &directory{folder: t.Directory}
	if _, err := os.Lstat(d.undoFile()); err == nil {
		return m.with(ctx, t, "deactivate", func(d *directory) error { return remove(d.marker()) })
	}
	return errors.Join(ctx.Err(), remove(d.marker())) // also without a server
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(d *directory) error {
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
	return m.with(ctx, t, "restore", func(d *directory) error {
		return spool.With(d.folder, func(f *os.File) error {
			if err := d.receive(f, r); err != nil {
				return err
			}
			return d.replace(ctx, f)
		})
	})
}

// CollectGarbage implements state.Stateful: it deletes the subtree and its top.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	if err := remove((&directory{folder: t.Directory}).undoFile()); err != nil {
		return err
	}
	return m.with(ctx, t, "delete", func(d *directory) error {
		all, err := d.list(ctx)
		if err == nil {
			err = d.deleteAll(ctx, all)
		}
		return errors.Join(err, remove(d.marker()))
	})
}

// Health implements state.Doctor: the top of the subtree can be read.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(d *directory) error {
		there, err := d.exists(d.base)
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("entry %q: %w", d.base, state.ErrNotFound)
		}
		if _, err := os.Lstat(d.marker()); err != nil {
			return state.ErrInactive
		}
		return nil
	})
}

// Version implements state.Versioner: what the server says of itself, which for OpenLDAP is its name alone.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.with(ctx, t, "ask the version of", func(d *directory) error {
		version, err = d.vendor()
		return err
	})
	return version, err
}

// Items implements state.Itemizer: the items are entries.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	return read(snapshot, func(e entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return visit(state.Item{Key: []byte(e.dn), Content: e.text()})
	})
}

// Group implements state.Presenter: an entry is counted with its parent.
func (*Module) Group(i state.Item) string {
	for at := 0; at < len(i.Key); at++ {
		switch i.Key[at] {
		case '\\':
			at++
		case ',':
			return string(i.Key[at+1:])
		}
	}
	return ""
}

// Name implements state.Presenter.
func (*Module) Name(i state.Item) string { return string(i.Key) }

// with carries out do on the target's subtree, after undoing what an operation left behind, and says in an error what
// could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*directory) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := open(ctx, t)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { _ = d.conn.Close() })
		if err = d.settle(ctx); err == nil {
			err = do(d)
		}
		stop()
		_ = d.conn.Close() // says goodbye; nothing is lost
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err) // why the connection was closed
	}
	if err != nil && d != nil {
		err = d.explain(err)
	}
	if err != nil {
		return fmt.Errorf("cannot %s directory %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}

// marker is a file that is there while the component is active: LDAP has no place for that beside the entries.
func (d *directory) marker() string { return filepath.Join(d.folder, "active") }

// undoFile is the state before a restore that is under way.
func (d *directory) undoFile() string { return filepath.Join(d.folder, "undo") }

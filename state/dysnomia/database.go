package dysnomia

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"orrery/state"
)

// Database makes a module for Dysnomia of one of Orrery's that drives databases.
type Database struct {
	Module state.Stateful
	Kind   string // the type, in Dysnomia's words
	Schema string // the folder of a component's files that a new database begins with
	Files  string // the pattern of their names; default: *.sql
	Dump   string // the name of a snapshot's file
	// Own is how the module's own snapshots begin; another dump is read as that of the server's tools.
	Own string
	// Plain writes dumps as the server's tools do (see state.Portable), where the module's own snapshots are something else.
	Plain bool
	// Adapt changes a dump of Dysnomia's module into one that the module's Import reads. The call is that of a restore,
	// which it may refuse; nil if the dump is only read.
	Adapt func(c *Call, dump *bufio.Reader) (io.Reader, error)
	// Base is a folder that activation makes; nil: none.
	Base func(c Call) string
	// Stays says that deactivation only marks the component.
	Stays bool
	// Closing are the last words of a whole dump by Dysnomia's module where that cuts off the tool's end marker; End
	// is the marker, which is put back.
	Closing, End string
	// Container maps the container's properties. A secret is given to the module as the file secret.
	Container func(c Call) (properties state.Properties, secret string)
	// Component are the properties of a database with a schema, which may be empty.
	Component func(c Call, schema string) state.Properties
	// Account is whom the module has to be, where the server looks at that; empty: the caller.
	Account func(c Call) string
	// As carries out one operation of the module as an account of this machine.
	As func(ctx context.Context, account string, d Drive, in io.Reader, out io.Writer) error
}

// Drive is one operation of one of Orrery's modules.
type Drive struct {
	Module    string       `json:"module"`
	Operation string       `json:"operation"`
	Target    state.Target `json:"target"`
	Secret    string       `json:"secret"`
}

// Operate is an Operator.
func (d Database) Operate(ctx context.Context, c Call) error {
	drive := func(operation string, in io.Reader, out io.Writer) error { return d.drive(ctx, c, operation, in, out) }
	switch c.Operation {
	case "activate":
		if d.Base != nil {
			if err := mkdirAll(d.Base(c)); err != nil {
				return err
			}
		}
		if err := drive("activate", nil, nil); err != nil {
			return err
		}
		return c.Directory.MarkActive(c.Ref)
	case "deactivate":
		if !d.Stays {
			if err := drive("deactivate", nil, nil); err != nil {
				return err
			}
		}
		return c.Directory.MarkGarbage(c.Ref)
	case "snapshot":
		return d.snapshot(ctx, c, drive)
	case "restore":
		return d.restore(ctx, c, drive)
	case "collect-garbage":
		if !c.Directory.IsGarbage(c.Ref) {
			return nil
		}
		if err := d.snapshot(ctx, c, drive); err != nil {
			return fmt.Errorf("no last snapshot of %s could be taken, so nothing is removed: %w", c.Ref, err)
		}
		if err := drive("collect-garbage", nil, nil); err != nil {
			return err
		}
		return c.Directory.Unmark(c.Ref)
	}
	return nil
}

func (d Database) snapshot(ctx context.Context, c Call, drive func(string, io.Reader, io.Writer) error) error {
	return c.saveDump(ctx, d.Dump, func(w io.Writer) error {
		foreign, ok := d.Module.(state.Portable)
		if !d.Plain || !ok {
			return drive("snapshot", nil, w)
		}
		return through(ctx, func(w io.Writer) error { return drive("snapshot", nil, w) },
			func(ctx context.Context, r io.Reader) error { return foreign.Export(ctx, r, w) })
	})
}

func (d Database) restore(ctx context.Context, c Call, drive func(string, io.Reader, io.Writer) error) error {
	latest, err := c.Directory.Latest(c.Ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	dump := filepath.Join(c.Directory.SnapshotPath(c.Ref, latest.Snapshot), d.Dump)
	err = expand(ctx, dump, func(r io.Reader) error {
		return d.read(ctx, &c, r, func(r io.Reader) error { return drive("restore", r, nil) })
	})
	if err != nil {
		return fmt.Errorf("cannot restore %s from %s: %w", c.Ref, latest.Snapshot, err)
	}
	return nil
}

// read gives load a snapshot of the module from a dump, which may be the server's tools'.
func (d Database) read(ctx context.Context, c *Call, r io.Reader, load func(io.Reader) error) error {
	head := bufio.NewReaderSize(r, 4096)
	begin, err := head.Peek(len(d.Own))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	foreign, ok := d.Module.(state.Portable)
	if !ok || bytes.Equal(begin, []byte(d.Own)) {
		return load(head)
	}
	var dump io.Reader = head
	if d.Adapt != nil {
		if dump, err = d.Adapt(c, head); err != nil {
			return err
		}
	}
	whole := &completing{r: dump, closing: d.Closing, end: d.End}
	return through(ctx, func(w io.Writer) error { return foreign.Import(ctx, whole, w) }, func(_ context.Context, r io.Reader) error { return load(r) })
}

// Convert writes the module's snapshot of a dump, which may be the server's tools'.
func (d Database) Convert(ctx context.Context, dump io.Reader, w io.Writer) error {
	return d.read(ctx, nil, dump, func(r io.Reader) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// drive carries out one operation of the module with folders of its own.
func (d Database) drive(ctx context.Context, c Call, operation string, in io.Reader, out io.Writer) error {
	folder, err := os.MkdirTemp("", "orrery-compat-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	schema, err := d.joinSchema(c.Path, folder)
	if err != nil {
		return err
	}
	properties, secret := d.Container(c)
	one := Drive{Module: d.Kind, Operation: operation, Secret: secret, Target: state.Target{
		Component: state.Component{Name: "database", Module: d.Kind, Container: "container", Properties: d.Component(c, schema)},
		Container: state.Container{Name: "container", Module: d.Kind, Properties: properties, Directory: folder},
		Directory: folder,
	}}
	if err := d.Module.Check(one.Target.Component); err != nil {
		return err
	}
	account := ""
	if d.Account != nil {
		account = d.Account(c)
	}
	return d.As(ctx, account, one, in, out)
}

// joinSchema joins a component's files in the order of their names; empty if there are none.
func (d Database) joinSchema(component, folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(component), d.Schema, cmp.Or(d.Files, "*.sql")))
	if err != nil || len(files) == 0 {
		return "", err
	}
	slices.Sort(files)
	path := filepath.Join(folder, "schema.sql")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	for _, file := range files {
		in, err := os.Open(file)
		if err != nil {
			return "", errors.Join(err, out.Close())
		}
		_, err = io.Copy(out, in)
		if err == nil {
			_, err = out.WriteString("\n")
		}
		if err := errors.Join(err, in.Close()); err != nil {
			return "", errors.Join(err, out.Close())
		}
	}
	return path, out.Close()
}

// Carry carries out an operation of a module in this process.
func (d Drive) Carry(ctx context.Context, m state.Stateful, in io.Reader, out io.Writer) error {
	if d.Secret != "" {
		path := filepath.Join(d.Target.Directory, "secret")
		if err := os.WriteFile(path, []byte(d.Secret), 0o600); err != nil {
			return err
		}
		defer func() { _ = os.Remove(path) }()
		d.Target.Container.Properties["passwordFile"] = path
	}
	switch d.Operation {
	case "activate":
		return m.Activate(ctx, d.Target)
	case "deactivate":
		return m.Deactivate(ctx, d.Target)
	case "snapshot":
		return m.Snapshot(ctx, d.Target, out)
	case "restore":
		return m.Restore(ctx, d.Target, in)
	case "collect-garbage":
		return m.CollectGarbage(ctx, d.Target)
	}
	return fmt.Errorf("%w: %s", state.ErrNotAble, d.Operation)
}

package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"orrery/state"
)

var _ state.MethodForker = (*Module)(nil)

// Methods implements state.MethodForker.
func (*Module) Methods() []string {
	return []string{state.ForkTemplate, state.ForkThin, state.ForkLayered, state.ForkCopy}
}

// Fork implements state.Forker. The server copies the files of a database that nobody is connected to; of one in
// use it loads a dump, because copying files would keep new clients of the source waiting. The other methods make
// something else than a database beside the source, so that they are taken only where somebody asks for them.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	method := state.ForkCopy
	err := m.forkInto(ctx, from, into, func(source, d *database) error {
		err := d.template(ctx, source)
		if err == nil {
			method = state.ForkTemplate
			return nil
		}
		if !errors.Is(err, errNoTemplate) {
			return err
		}
		m.log.InfoContext(ctx, "fork by a dump", "component", into.Component.Ref().String(), "because", err.Error())
		return d.copyOf(ctx, source)
	})
	return method, err
}

// ForkBy implements state.MethodForker.
func (m *Module) ForkBy(ctx context.Context, from, into state.Target, method string) error {
	if method == state.ForkThin {
		return m.thin(ctx, from, into)
	}
	return m.forkInto(ctx, from, into, func(source, d *database) error {
		switch method {
		case state.ForkTemplate:
			return d.template(ctx, source)
		case state.ForkLayered:
			return d.layer(ctx, source, into)
		case state.ForkCopy:
			return d.copyOf(ctx, source)
		}
		return fmt.Errorf("%w fork by method %q (it knows %s)", state.ErrNotAble, method, strings.Join(m.Methods(), ", "))
	})
}

// forkInto carries out do on the source and on what is to become its fork, which does not exist.
func (m *Module) forkInto(ctx context.Context, from, into state.Target, do func(source, d *database) error) error {
	return m.with(ctx, from, "fork", func(source *database) error {
		return m.with(ctx, into, "fork into", func(d *database) error {
			if err := d.dropSides(ctx); err != nil {
				return err
			}
			if exists, err := d.exists(ctx, d.name); err != nil || exists {
				return errors.Join(err, fmt.Errorf("database %q exists: %w", d.name, state.ErrInUse))
			}
			return do(source, d)
		})
	})
}

// errNoTemplate says why the server cannot copy the files of a database.
var errNoTemplate = errors.New("the server cannot copy the database's files")

// template has the server copy the source's files, which it does only while nobody is connected to them.
func (d *database) template(ctx context.Context, source *database) error {
	if !d.sameServer(source) {
		return fmt.Errorf("%w: the fork is on another server", errNoTemplate)
	}
	like, err := source.traits(ctx, source.name)
	if err != nil {
		return err
	}
	if like == nil {
		return fmt.Errorf("database %q %w", source.name, state.ErrNotFound)
	}
	like.dropFence()
	if d.props.Owner != "" && d.props.Owner != like.owner { // copied files keep their owner
		return fmt.Errorf("%w: what is in it would still belong to %q, not to %q", errNoTemplate, like.owner, d.props.Owner)
	}
	idle, err := source.idle(ctx)
	if err != nil {
		return err
	}
	if !idle {
		return fmt.Errorf("%w: clients are connected to it (disconnect them, or choose another method): %w", errNoTemplate, state.ErrInUse)
	}
	err = d.copyFiles(ctx, source, like)
	if hasCode(err, objectInUse) {
		return fmt.Errorf("%w: %w: %w", errNoTemplate, state.ErrInUse, err)
	}
	return err
}

func (d *database) sameServer(other *database) bool {
	return d.server.Host == other.server.Host && d.server.Port == other.server.Port
}

// copyFiles has the server copy the source's files, by a clone of the file system where server and file system can.
func (d *database) copyFiles(ctx context.Context, source *database, like *traits) error {
	statement := "create database " + quote(d.next) + " owner " + quote(like.owner) + " template " + quote(source.name)
	if d.major >= 15 {
		statement += " strategy file_copy" // writes less than the log of all pages, and is quicker
	}
	err := d.createClone(ctx, statement)
	if err == nil {
		err = like.apply(ctx, d.admin, d.next)
	}
	if err == nil {
		err = d.swap(ctx)
	}
	if err != nil {
		return errors.Join(err, d.cleanUp(ctx))
	}
	return nil
}

func (d *database) createClone(ctx context.Context, statement string) error {
	if d.major >= 18 {
		_, err := d.admin.Exec(ctx, "set file_copy_method = clone")
		if err == nil {
			if _, err = d.admin.Exec(ctx, statement); err == nil || hasCode(err, objectInUse) {
				return err
			}
			if _, err := d.admin.Exec(ctx, "reset file_copy_method"); err != nil {
				return err
			}
		}
	}
	_, err := d.admin.Exec(ctx, statement)
	return err
}

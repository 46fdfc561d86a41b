package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"orrery/state"
)

var _ state.MethodForker = (*Module)(nil)

// Methods implements state.MethodForker.
func (*Module) Methods() []string { return []string{state.ForkThin, state.ForkCopy} }

// Fork implements state.Forker. A thin fork is another server, so that it is made only where somebody asks for it.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (string, error) {
	return state.ForkCopy, m.copy(ctx, from, into)
}

// ForkBy implements state.MethodForker.
func (m *Module) ForkBy(ctx context.Context, from, into state.Target, method string) error {
	switch method {
	case state.ForkThin:
		return m.thin(ctx, from, into)
	case state.ForkCopy:
		return m.copy(ctx, from, into)
	}
	return fmt.Errorf("%w fork by method %q (it knows %s)", state.ErrNotAble, method, strings.Join(m.Methods(), ", "))
}

// copy loads a dump of the source, as of one point in time, while that is in use.
func (m *Module) copy(ctx context.Context, from, into state.Target) error {
	return m.with(ctx, from, "fork", func(source *database) error {
		if err := source.ready(ctx); err != nil {
			return err
		}
		return m.with(ctx, into, "fork into", func(d *database) error {
			if err := d.recover(ctx); err != nil {
				return err
			}
			if exists, err := d.exists(ctx, d.place()); err != nil || exists {
				return errors.Join(err, fmt.Errorf("database %q exists: %w", d.name, state.ErrInUse))
			}
			return d.replace(ctx, func() error {
				return source.read(ctx, func(r *reader) error { return d.load(ctx, r, "") })
			})
		})
	})
}

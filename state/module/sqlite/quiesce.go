package sqlite

import (
	"context"
	"errors"
	"fmt"

	"orrery/state"
)

// Quiesce holds the write lock (https://www.sqlite.org/lang_transaction.html): others wait for it as long as their
// busy timeout says.
func (m *Module) Quiesce(ctx context.Context, t state.Target) (resume func(context.Context) error, err error) {
	c, err := m.connect(ctx, path(t))
	if err != nil {
		return nil, fmt.Errorf("cannot keep %s still: %w", t.Component.Ref(), err)
	}
	if err := c.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", state.ErrVeto, err)
		}
		return nil, errors.Join(fmt.Errorf("cannot keep %s still: %w", t.Component.Ref(), err), c.Close())
	}
	return func(context.Context) error { return c.Close() }, nil
}

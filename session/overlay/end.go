package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

// begin notes that this node is making parts of a session.
func (o *Overlay) begin(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.making[name]++
}

func (o *Overlay) finished(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.making[name]--; o.making[name] <= 0 {
		delete(o.making, name)
	}
}

// end ends a session: first nothing is routed to it, then what it consists of is removed, then the record. It
// is safe to repeat and to do on several nodes at once. While a node with a part of it is out of
// reach the record stays, so that the name is not used again with old state under it.
func (o *Overlay) end(ctx context.Context, name string) error {
	o.mu.Lock()
	if running := o.ending[name]; running != nil {
		o.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, _, err := o.read(ctx, name)
		if errors.Is(err, session.ErrNotFound) {
			return nil
		}
		return errors.Join(ErrEnding, err)
	}
	done := make(chan struct{})
	o.ending[name] = done
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		delete(o.ending, name)
		o.mu.Unlock()
		close(done)
	}()
	return o.endNow(ctx, name)
}

func (o *Overlay) endNow(ctx context.Context, name string) error {
	s, revision, err := o.announceEnd(ctx, name)
	if errors.Is(err, session.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, override := range s.Overrides {
		if override.Instance.Tunnel != "" {
			o.config.Tunnels.Drop(override.Instance.Tunnel)
		}
	}
	ours := func() error { return o.unchanged(ctx, name, revision) }
	if err := o.remove(ctx, s.Overrides, ours); err != nil {
		if errors.Is(ours(), errOver) {
			return nil
		}
		return err
	}
	// Nobody changes the record of a session that ends. A conflict says that another node was faster, and that the
	// name may be another session's by now.
	err = o.config.Table.Delete(ctx, session.SessionPrefix+name, revision)
	if err != nil && !errors.Is(err, fabric.ErrConflict) {
		return fmt.Errorf("cannot remove the record: %w", err)
	}
	o.logger.InfoContext(ctx, "session ended", "session", name, "owner", s.Owner)
	return nil
}

// announceEnd makes routers refuse the session's requests, and returns its record as it stays from then on.
func (o *Overlay) announceEnd(ctx context.Context, name string) (session.Session, uint64, error) {
	for {
		s, revision, err := o.read(ctx, name)
		if err != nil || s.Ending {
			return s, revision, err
		}
		s.Ending = true
		if err := o.write(ctx, s, revision); err != nil && !errors.Is(err, fabric.ErrConflict) {
			return s, 0, err
		}
	}
}

// errOver says that another node brought an ending to its end.
var errOver = errors.New("session is over")

// unchanged is errOver once the record of a session that ends is gone or another's: components of the same names
// may then be those of a new session.
func (o *Overlay) unchanged(ctx context.Context, name string, revision uint64) error {
	_, now, err := o.read(ctx, name)
	if errors.Is(err, session.ErrNotFound) || err == nil && now != revision {
		return errOver
	}
	return err
}

// withdraw removes overrides that could not be made from a session that goes on.
func (o *Overlay) withdraw(ctx context.Context, of session.Session, parts []part) error {
	ours := func() error {
		s, _, err := o.read(ctx, of.Name)
		if err == nil && !s.Created.Equal(of.Created) {
			err = errOver
		}
		return err
	}
	if err := o.remove(ctx, overrides(parts), ours); err != nil {
		return err
	}
	_, err := o.update(ctx, of.Name, func(s *session.Session) error {
		if !s.Created.Equal(of.Created) {
			return errOver
		}
		s.Overrides = slices.DeleteFunc(s.Overrides, func(x session.Override) bool {
			return slices.ContainsFunc(parts, func(p part) bool { return p.override.Service == x.Service })
		})
		return nil
	})
	return err
}

// remove deactivates and collects the components of overrides, last ones first, as long as ours has no error. It goes on
// after an error of its own.
func (o *Overlay) remove(ctx context.Context, all []session.Override, ours func() error) error {
	var problems []error
	for _, override := range slices.Backward(all) {
		if len(override.Components) == 0 {
			continue
		}
		keeper, err := o.config.Keepers.Keeper(override.Instance.Node)
		if errors.Is(err, fabric.ErrNotFound) || errors.Is(err, state.ErrNotFound) {
			continue // no member any more: its machine took the components along
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("node %s: %w", override.Instance.Node, err))
			continue
		}
		for _, ref := range slices.Backward(override.Components) {
			if err := ours(); err != nil {
				return errors.Join(append(problems, err)...)
			}
			problems = append(problems, discard(ctx, keeper, ref))
		}
	}
	return errors.Join(problems...)
}

// discard deactivates and collects one component; one that is not there is fine.
func discard(ctx context.Context, keeper state.Keeper, ref state.Ref) error {
	err := keeper.Deactivate(ctx, ref)
	if err == nil {
		err = keeper.CollectGarbage(ctx, ref)
	}
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return fmt.Errorf("cannot remove %s: %w", ref, err)
	}
	return nil
}

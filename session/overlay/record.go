package overlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"orrery/fabric"
	"orrery/session"
)

// List returns all sessions, sorted by name.
func (o *Overlay) List(ctx context.Context) ([]session.Session, error) {
	entries, err := o.config.Table.List(ctx, session.SessionPrefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list the sessions: %w", err)
	}
	all := make([]session.Session, 0, len(entries))
	for _, e := range entries {
		s, err := parse(e)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// parse reads a record. Its name is that of its key.
func parse(e fabric.Entry) (session.Session, error) {
	var s session.Session
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return session.Session{}, fmt.Errorf("cannot read record %s: %w", e.Key, err)
	}
	s.Name = e.Key[len(session.SessionPrefix):]
	return s, nil
}

// read returns a session and the revision of its record. ErrNotFound.
func (o *Overlay) read(ctx context.Context, name string) (session.Session, uint64, error) {
	e, err := o.config.Table.Get(ctx, session.SessionPrefix+name)
	if errors.Is(err, fabric.ErrNotFound) {
		return session.Session{}, 0, fmt.Errorf("session %s: %w", name, session.ErrNotFound)
	}
	if err != nil {
		return session.Session{}, 0, err
	}
	s, err := parse(e)
	return s, e.Revision, err
}

// write puts a record in the place of the one with that revision.
func (o *Overlay) write(ctx context.Context, s session.Session, revision uint64) error {
	encoded, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = o.config.Table.CompareAndSwap(ctx, session.SessionPrefix+s.Name, revision, encoded)
	return err
}

// update changes a session that is not ending; edit may run several times. ErrNotFound, ErrEnding.
func (o *Overlay) update(ctx context.Context, name string, edit func(*session.Session) error) (session.Session, error) {
	return o.swap(ctx, name, func(s *session.Session) error {
		if s.Ending {
			return ErrEnding
		}
		return edit(s)
	})
}

func (o *Overlay) swap(ctx context.Context, name string, edit func(*session.Session) error) (session.Session, error) {
	for {
		s, revision, err := o.read(ctx, name)
		if err != nil {
			return session.Session{}, err
		}
		if err := edit(&s); err != nil {
			return session.Session{}, err
		}
		err = o.write(ctx, s, revision)
		if !errors.Is(err, fabric.ErrConflict) {
			return s, err
		}
	}
}

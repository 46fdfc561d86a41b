package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"orrery/clip"
	"orrery/clip/paste"
)

// pickTime is how long a picker may take to end after it has asked for pasting.
const pickTime = time.Minute

// paste notes who has the focus, and pastes once the picker has ended. A picker in a terminal is gone then, so that its window can go, too; the second answer is for others.
func (s *Server) paste(ctx context.Context, c *conn, leave bool) (err error) {
	if s.Keyboard == nil {
		return c.answer(failure(fmt.Errorf("pasting is %w", clip.ErrUnsupported)))
	}
	k, err := s.Keyboard()
	if err != nil {
		return c.answer(failure(err))
	}
	defer func() { err = errors.Join(err, k.Close()) }()
	pasting, err := paste.Begin(k)
	if err != nil {
		return c.answer(failure(err))
	}
	if err := c.answer(&Response{}); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(pickTime)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, c.r); err != nil {
		return err
	}
	app, err := pasting.Into(ctx, leave, func(app string) (clip.Chord, error) {
		keys := paste.For(app, s.Paste)
		if keys.Primary {
			return keys.Chord, s.Recorder.Mirror()
		}
		return keys.Chord, nil
	})
	s.Logger.DebugContext(ctx, "pasted", "application", app, "before", pasting.Before.App, "error", err)
	r := &Response{}
	if err != nil {
		s.Logger.WarnContext(ctx, "cannot paste", "application", app, "error", err)
		r = failure(err)
	}
	r.App = app
	_ = c.answer(r) // whoever asked may have ended
	return nil
}

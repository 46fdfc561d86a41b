package reconnect_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orrery/clip"
	"orrery/clip/cliptest"
	"orrery/clip/reconnect"
)

var errNobody = errors.New("nobody is there")

// TestReconnect: what comes after the connection's end comes from the next one.
func TestReconnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var current *cliptest.Display
		failures := 0
		d, err := reconnect.Open(reconnect.Config{Selections: []clip.Selection{clip.Clipboard}, Open: func() (clip.Display, error) {
			if failures > 0 {
				failures--
				return nil, errNobody
			}
			current = cliptest.New()
			current.Copy(clip.Clipboard, cliptest.App{}, clip.Content{Type: "text/plain"})
			return current, nil
		}})
		if err != nil || d.Name() != "memory" {
			t.Fatal(err)
		}
		next := func(types int) {
			t.Helper()
			if o, err := d.Next(t.Context()); err != nil || len(o.Types()) != types {
				t.Fatal(o, err)
			}
		}
		next(1)
		for failures = range 5 {
			current.End()
			next(0) // nobody owns it, unless the next says so
			next(1)
			if err := d.Offer(clip.Clipboard, nil); err != nil {
				t.Error(err)
			}
			if _, own := current.Has(clip.Clipboard); !own {
				t.Error("offered elsewhere")
			}
			if o, err := d.Next(t.Context()); err != nil || !o.Own() {
				t.Error(o, err)
			}
		}
		failures = 1 << 30
		current.End()
		began := time.Now()
		if _, err := d.Next(t.Context()); !errors.Is(err, errNobody) || !errors.Is(err, clip.ErrGone) || !strings.Contains(err.Error(), "come back for 1m0s") {
			t.Error(err)
		}
		if waited := time.Since(began); waited < time.Minute {
			t.Errorf("waited for %s only", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFirst(t *testing.T) {
	t.Parallel()
	if _, err := reconnect.Open(reconnect.Config{Open: func() (clip.Display, error) { return nil, errNobody }}); !errors.Is(err, errNobody) {
		t.Error(err)
	}
}

package paste_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"orrery/clip"
	"orrery/clip/paste"
)

// keyboard is one whose focus moves at times.
type keyboard struct {
	begun   time.Time
	focus   map[time.Duration]clip.Window // from then on
	pressed []clip.Chord
	at      time.Duration // when it was pressed
}

var _ clip.Keyboard = (*keyboard)(nil)

// Focus is clip.Keyboard's.
func (k *keyboard) Focus() (clip.Window, error) {
	var w clip.Window
	latest := time.Duration(-1)
	for from, is := range k.focus {
		if from <= time.Since(k.begun) && from > latest {
			w, latest = is, from
		}
	}
	return w, nil
}

// Press is clip.Keyboard's.
func (k *keyboard) Press(_ context.Context, c clip.Chord) error {
	k.pressed, k.at = append(k.pressed, c), time.Since(k.begun)
	return nil
}

// Close is clip.Keyboard's.
func (k *keyboard) Close() error { return nil }

func TestInto(t *testing.T) {
	t.Parallel()
	picker, editor := clip.Window{ID: 1, App: "foot"}, clip.Window{ID: 2, App: "editor"}
	for name, c := range map[string]struct {
		leave  bool
		focus  map[time.Duration]clip.Window
		app    string
		err    error
		before time.Duration // it is pressed
		after  time.Duration
	}{
		"at once":   {false, map[time.Duration]clip.Window{0: editor}, "editor", nil, time.Second, 0},
		"leaves":    {true, map[time.Duration]clip.Window{0: picker, 2 * time.Second: {}, 3 * time.Second: editor}, "editor", nil, 4 * time.Second, 3 * time.Second},
		"stays":     {true, map[time.Duration]clip.Window{0: picker}, "", paste.ErrStays, 0, 0},
		"nobody":    {true, map[time.Duration]clip.Window{0: picker, time.Second: {}}, "", paste.ErrStays, 0, 0},
		"unknown":   {true, map[time.Duration]clip.Window{0: {}}, "", nil, time.Second, 0},
		"handed on": {true, map[time.Duration]clip.Window{0: picker, time.Second: {ID: 3}, time.Second + 20*time.Millisecond: editor}, "editor", nil, 2 * time.Second, time.Second},
		"kept":      {true, map[time.Duration]clip.Window{0: picker, time.Second: {ID: 3}, 2 * time.Second: editor}, "editor", nil, 3 * time.Second, 2 * time.Second},
		"nameless":  {true, map[time.Duration]clip.Window{0: picker, time.Second: {ID: 3}}, "", nil, 4 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &keyboard{begun: time.Now(), focus: c.focus}
				p, err := paste.Begin(k)
				if err != nil {
					t.Fatal(err)
				}
				app, err := p.Into(t.Context(), c.leave, func(app string) (clip.Chord, error) { return paste.For(app, nil).Chord, nil })
				if app != c.app || !errors.Is(err, c.err) {
					t.Errorf("%q, %v", app, err)
				}
				if (len(k.pressed) == 1) != (c.err == nil) || c.err == nil && (k.at >= c.before || k.at < c.after) {
					t.Errorf("%v after %s", k.pressed, k.at)
				}
			})
		})
	}
}

// TestCalledOff: nothing is pressed once nobody waits, or the clipboard does not have what is to be pasted.
func TestCalledOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := &keyboard{begun: time.Now(), focus: map[time.Duration]clip.Window{0: {ID: 1}}}
		p, err := paste.Begin(k)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Into(ctx, true, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := p.Into(t.Context(), false, func(string) (clip.Chord, error) { return clip.Chord{}, clip.ErrNotFound }); !errors.Is(err, clip.ErrNotFound) || k.pressed != nil {
			t.Error(err)
		}
	})
}

func TestFor(t *testing.T) {
	t.Parallel()
	own, err := paste.ParseRule("my*", "shift+insert primary")
	if err != nil {
		t.Fatal(err)
	}
	for app, want := range map[string]string{
		"Firefox": "ctrl+v", "": "ctrl+v", "XTerm": "shift+insert primary", "URxvt": "shift+insert primary", "Emacs": "shift+insert", "Gnome-terminal": "ctrl+shift+v",
		"org.kde.konsole": "ctrl+shift+v", "footclient": "ctrl+shift+v", "Alacritty": "ctrl+shift+v", "st-256color": "ctrl+shift+v", "MyEditor": "shift+insert primary", "gedit": "ctrl+v", "steam": "ctrl+v",
	} {
		if got := paste.For(app, []paste.Rule{own}).String(); got != want {
			t.Errorf("%s: %s, not %s", app, got, want)
		}
	}
	if _, err := paste.ParseRule("[", "ctrl+v"); err == nil {
		t.Error("a pattern that is none")
	}
	if _, err := paste.ParseRule("x", "alt+f4"); err == nil {
		t.Error("keys that are none")
	}
}

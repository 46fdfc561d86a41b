// Package paste presses the keys by which the program that has the focus pastes.
//
// The focus is on the picker while somebody picks. Before keys are pressed it has to be on the window that it was on before: Into waits for that.
package paste

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"orrery/clip"
)

// Keys are how a program pastes. Primary says that those keys take the primary selection, so that what is pasted has to be there.
type Keys struct {
	clip.Chord
	Primary bool
}

// Rule says how programs paste whose names match a pattern of path.Match, in upper or lower case.
type Rule struct {
	Application string
	Keys        Keys
}

var (
	control      = Keys{Chord: clip.Chord{Control: true}}
	controlShift = Keys{Chord: clip.Chord{Control: true, Shift: true}}
	shiftInsert  = Keys{Chord: clip.Chord{Shift: true, Insert: true}}
	shiftPrimary = Keys{Chord: clip.Chord{Shift: true, Insert: true}, Primary: true}
)

// known are programs that do not paste by ctrl+v: terminals, where that is a letter for what runs in them, and Emacs, where it turns the page.
var known = []Rule{ //nolint:gochecknoglobals // a table
	{"xterm", shiftPrimary},
	{"uxterm", shiftPrimary},
	{"*rxvt*", shiftPrimary},
	{"mlterm", shiftPrimary},
	{"*emacs*", shiftInsert},
	{"gvim", shiftInsert},
	{"*terminal*", controlShift},
	{"*term", controlShift},
	{"*foot*", controlShift},
	{"*alacritty*", controlShift},
	{"*kitty*", controlShift},
	{"*konsole*", controlShift},
	{"*yakuake*", controlShift},
	{"*wezterm*", controlShift},
	{"*ghostty*", controlShift},
	{"*tilix*", controlShift},
	{"*terminator*", controlShift},
	{"*guake*", controlShift},
	{"*tilda*", controlShift},
	{"*kgx*", controlShift},
	{"*console*", controlShift},
	{"*ptyxis*", controlShift},
	{"*blackbox*", controlShift},
	{"*sakura*", controlShift},
	{"*rio*", controlShift},
	{"*contour*", controlShift},
	{"st-256color", controlShift},
	{"st", controlShift},
}

// For are the keys by which a program pastes: what the rules say, or else what is known, or else ctrl+v.
func For(app string, rules []Rule) Keys {
	for _, list := range [][]Rule{rules, known} {
		for _, r := range list {
			if ok, err := path.Match(strings.ToLower(r.Application), strings.ToLower(app)); err == nil && ok {
				return r.Keys
			}
		}
	}
	return control
}

// ParseRule reads a rule as settings have it: keys are ctrl+v, ctrl+shift+v, shift+insert or "shift+insert primary".
func ParseRule(application, keys string) (Rule, error) {
	if _, err := path.Match(application, ""); err != nil {
		return Rule{}, fmt.Errorf("pattern %q: %w", application, err)
	}
	for _, k := range []Keys{control, controlShift, shiftInsert, shiftPrimary} {
		if keys == k.String() {
			return Rule{application, k}, nil
		}
	}
	return Rule{}, fmt.Errorf("keys %q are unknown (use ctrl+v, ctrl+shift+v, shift+insert or %q)", keys, shiftPrimary)
}

// String is them as settings have them.
func (k Keys) String() string {
	if k.Primary {
		return k.Chord.String() + " primary"
	}
	return k.Chord.String()
}

const (
	// leaves is how long the focus may take to leave the window of a picker that has ended.
	leaves = 10 * time.Second
	// unknown is how long to wait for it where the display does not tell who has it.
	unknown = 500 * time.Millisecond
	// looks is the time between looks.
	looks = 10 * time.Millisecond
	// settles is how long a window has to have the focus before keys are pressed: some window managers hand it on.
	settles = 50 * time.Millisecond
	// nameless is how long a window has to that does not say of which program it is: such as those in which window managers keep the focus meanwhile.
	nameless = 2 * time.Second
)

// Pasting is a keyboard, and who had the focus when it was opened.
type Pasting struct {
	Keyboard clip.Keyboard
	Before   clip.Window
}

// Begin notes who has the focus now.
func Begin(k clip.Keyboard) (*Pasting, error) {
	w, err := k.Focus()
	return &Pasting{k, w}, err
}

// ErrStays says that the focus stays where it was, or that nothing has it.
var ErrStays = errors.New("no other window has got the focus")

// Into pastes into the window that has the focus. With leave it first waits until that is another one than at Begin, and pastes nothing if that does not happen. choose says
// how a program pastes, after it did what that needs.
func (p *Pasting) Into(ctx context.Context, leave bool, choose func(app string) (clip.Chord, error)) (app string, err error) {
	w, err := p.settled(ctx, leave)
	if err != nil {
		return "", err
	}
	chord, err := choose(w.App)
	if err != nil {
		return w.App, err
	}
	return w.App, p.Keyboard.Press(ctx, chord)
}

// settled is the window that has the focus, and keeps it for a moment.
func (p *Pasting) settled(ctx context.Context, leave bool) (clip.Window, error) {
	tick := time.NewTicker(looks)
	defer tick.Stop()
	begun := time.Now()
	last, since := clip.Window{}, begun
	for {
		w, err := p.Keyboard.Focus()
		if err != nil {
			return w, err
		}
		now := time.Now()
		if w.ID != last.ID {
			last, since = w, now
		}
		switch {
		case w.ID != 0 && (!leave || w.ID != p.Before.ID):
			if kept := now.Sub(since); kept >= nameless || kept >= settles && w.App != "" {
				return w, nil
			}
		case p.Before.ID == 0 && now.Sub(begun) >= unknown:
			return w, nil
		case now.Sub(begun) >= leaves:
			return w, fmt.Errorf("nothing was pasted: %w", ErrStays)
		}
		select {
		case <-ctx.Done():
			return w, errors.Join(errors.New("nothing was pasted"), ctx.Err())
		case <-tick.C:
		}
	}
}

// Package action says what can be done with an item besides copying it: commands that are offered for what its text or its types look like. It is pure; package
// launch runs programs.
//
// An Action fits an item or does not. What it does is one of Builtins, a program, or a line of a shell.
package action

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"orrery/clip"
	"orrery/clip/markup"
)

// Output is what becomes of what an action prints.
type Output string

// The outputs.
const (
	None Output = ""     // nothing
	Show Output = "show" // it is shown
	Add  Output = "add"  // it is a new item
	Copy Output = "copy" // it is a new item, and in the clipboard
)

// Placeholder is replaced by the item's text in arguments of a program. Without it, the program reads the item from its standard input.
const Placeholder = "{}"

// Limits.
const (
	DefaultTimeout = 10 * time.Second
	maxText        = 1 << 20 // bytes of a text that expressions look at
	maxArgument    = 64 << 10
)

// Action is something that can be done with items.
type Action struct {
	Name    string
	Text    *regexp.Regexp // what an item's text, without blanks around it, matches; nil: any item fits
	Types   []string       // patterns of path.Match, one of which one of an item's types matches; none: any
	Builtin Builtin        // or else
	Run     []string       // a program and its arguments, or else
	Shell   string         // a line for sh -c, which reads the item from its standard input
	Output  Output
	Timeout time.Duration // of programs
}

// Check says what is wrong with an action.
func (a *Action) Check() error {
	ways := 0
	for _, set := range []bool{a.Builtin != "", len(a.Run) > 0, a.Shell != ""} {
		if set {
			ways++
		}
	}
	_, known := builtins[a.Builtin]
	switch {
	case a.Name == "":
		return errors.New("an action has a name")
	case ways != 1:
		return fmt.Errorf("action %q: it has one of builtin, run and shell", a.Name)
	case a.Builtin != "" && !known:
		return fmt.Errorf("action %q: builtin %q is unknown", a.Name, a.Builtin)
	case len(a.Run) > 0 && (a.Run[0] == "" || strings.Contains(a.Run[0], Placeholder)):
		return fmt.Errorf("action %q: the program is named, and not taken from the item", a.Name)
	case strings.Contains(a.Shell, Placeholder):
		return fmt.Errorf("action %q: a shell's line has no %s, because a shell would run what the item says; it reads the item from its standard input", a.Name, Placeholder)
	case !slices.Contains([]Output{None, Show, Add, Copy}, a.Output):
		return fmt.Errorf("action %q: output %q is unknown (use show, add or copy)", a.Name, a.Output)
	case a.Timeout < 0:
		return fmt.Errorf("action %q: a timeout is not negative", a.Name)
	}
	for _, p := range a.Types {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("action %q: type %q: %w", a.Name, p, err)
		}
	}
	return nil
}

// fits says whether it is offered for an item with this text.
func (a *Action) fits(item *clip.Item, text string) bool {
	if b, ok := builtins[a.Builtin]; ok && !b.fits(text) {
		return false
	}
	if a.Text != nil && (text == "" || !a.Text.MatchString(text)) {
		return false
	}
	return len(a.Types) == 0 || slices.ContainsFunc(item.Contents, func(c clip.Content) bool { return matches(a.Types, c.Type) })
}

func matches(patterns []string, kind string) bool {
	kind, _, _ = strings.Cut(kind, ";")
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, kind)
		return err == nil && ok
	})
}

// Text is what actions see of an item: its plain text, or else that of its markup, or its list of files; without blanks around it.
func Text(item *clip.Item) string {
	text, ok := clip.PlainText(item.Contents)
	for i := 0; !ok && i < len(item.Contents); i++ {
		switch c := item.Contents[i]; {
		case c.Type == "text/html":
			text, ok = markup.Text(c.Data), true
		case strings.HasPrefix(c.Type, "text/"):
			text, ok = string(c.Data), true
		}
	}
	if len(text) > maxText {
		return ""
	}
	return strings.TrimSpace(text)
}

// Set are the actions that there are, in the order in which they are offered.
type Set []Action

// Defaults are the actions unless the settings say otherwise.
func Defaults() Set {
	return Set{
		{Name: "open", Builtin: Open},
		{Name: "swatch", Builtin: Swatch},
		{Name: "pretty", Builtin: Pretty, Output: Copy},
		{Name: "short", Builtin: Short, Output: Copy},
		{Name: "QR code", Builtin: QR},
		{Name: "edit", Builtin: Edit},
	}
}

// With is a set in which these come first; one with a name that there is already replaces that.
func (s Set) With(others ...Action) Set {
	kept := slices.DeleteFunc(slices.Clone(s), func(a Action) bool {
		return slices.ContainsFunc(others, func(b Action) bool { return b.Name == a.Name })
	})
	return append(slices.Clone(others), kept...)
}

// Without is a set without those that have these names.
func (s Set) Without(names ...string) Set {
	return slices.DeleteFunc(slices.Clone(s), func(a Action) bool { return slices.Contains(names, a.Name) })
}

// For are the actions that fit an item.
func (s Set) For(item *clip.Item) Set {
	text := Text(item)
	var fit Set
	for _, a := range s {
		if a.fits(item, text) {
			fit = append(fit, a)
		}
	}
	return fit
}

// Find is the action with a name; false if there is none.
func (s Set) Find(name string) (Action, bool) {
	if i := slices.IndexFunc(s, func(a Action) bool { return a.Name == name }); i >= 0 {
		return s[i], true
	}
	return Action{}, false
}

// Command is what an action that is no builtin runs for an item, and what that reads from its standard input; nil: nothing.
func (a *Action) Command(item *clip.Item) (program []string, stdin []byte, err error) {
	if a.Shell != "" {
		return []string{"/bin/sh", "-c", a.Shell}, a.input(item), nil
	}
	placed := false
	for _, arg := range a.Run {
		if strings.Contains(arg, Placeholder) {
			placed = true
			text := Text(item)
			if len(text) > maxArgument || strings.ContainsRune(text, 0) {
				return nil, nil, fmt.Errorf("action %q: text of %d bytes is no argument (leave out %s, so that it is read from the standard input)", a.Name, len(text), Placeholder)
			}
			arg = strings.ReplaceAll(arg, Placeholder, text)
		}
		program = append(program, arg)
	}
	if placed {
		return program, nil, nil
	}
	return program, a.input(item), nil
}

// input is the content that a program reads: the first of a type that the action names, or else the text, or else the first.
func (a *Action) input(item *clip.Item) []byte {
	for _, c := range item.Contents {
		if len(a.Types) > 0 && matches(a.Types, c.Type) {
			return c.Data
		}
	}
	if text, ok := clip.PlainText(item.Contents); ok {
		return []byte(text)
	}
	if len(item.Contents) == 0 {
		return nil
	}
	return item.Contents[0].Data
}

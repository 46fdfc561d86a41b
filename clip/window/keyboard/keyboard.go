// Package keyboard turns what a keyboard's keys are on into the words and the text that a picker takes: keymaps of any layout as XKB has them, the
// text in which Wayland's compositors send them, and sequences of dead keys and Compose. It is pure.
//
// A Keymap says for each code which groups (layouts) it has, of which Type each is, and which symbol stands on each level; the Type says which level the
// modifiers that are down mean (The X Keyboard Extension: Protocol Specification, section 7). A State follows one keyboard.
package keyboard

import (
	"slices"
	"strings"
	"unicode"
)

// Mods are modifiers, a bit each: the eight that X and XKB know.
type Mods uint8

// The modifiers that have the same meaning everywhere.
const (
	Shift Mods = 1 << iota
	Lock
	Control
	Mod1
	Mod2
	Mod3
	Mod4
	Mod5
)

// Type says which level modifiers mean.
type Type struct {
	Mods   Mods // that matter
	Levels []Entry
}

// Entry is that these modifiers, of those that matter, mean a level.
type Entry struct {
	Mods  Mods
	Level int  // from 0
	Keep  Mods // of them, those that mean what they mean anyway, too
}

// Group is a key in one layout.
type Group struct {
	Type *Type
	Syms []Sym // by level
}

// Key is a key.
type Key struct {
	Groups []Group
	Once   bool // it does not repeat while it is held
}

// Keymap is what the keys of a keyboard mean, by their codes.
type Keymap struct {
	Keys map[uint32]Key
	Alt  Mods // 0: Mod1
	Logo Mods // the key with a logo; 0: Mod4
}

// look is the symbol of a key, and the modifiers that chose it.
func (k *Keymap) look(code uint32, mods Mods, group int) (s Sym, used Mods) {
	key, ok := k.Keys[code]
	if !ok || len(key.Groups) == 0 {
		return 0, 0
	}
	g := key.Groups[((group%len(key.Groups))+len(key.Groups))%len(key.Groups)] // beyond the last it begins anew
	level := 0
	if g.Type != nil {
		used = g.Type.Mods
		at := slices.IndexFunc(g.Type.Levels, func(e Entry) bool { return e.Mods == mods&g.Type.Mods })
		if at >= 0 {
			level, used = g.Type.Levels[at].Level, used&^g.Type.Levels[at].Keep
		}
	}
	if level < 0 || level >= len(g.Syms) {
		return 0, used
	}
	s = g.Syms[level]
	if mods&Lock != 0 && used&Lock == 0 {
		s = s.upper()
	}
	return s, used
}

// latin is the symbol that a key has in the first layout where it is ASCII, so that ctrl+p is the same key whatever the layout.
func (k *Keymap) latin(code uint32, mods Mods, group int) Sym {
	s, _ := k.look(code, mods, group)
	if r := s.Rune(); r == 0 || r < unicode.MaxASCII {
		return s
	}
	for other := range k.Keys[code].Groups {
		if o, _ := k.look(code, mods, other); o.Rune() != 0 && o.Rune() < unicode.MaxASCII {
			return o
		}
	}
	if int(code) < len(qwerty) && qwerty[code] > ' ' {
		return Sym(qwerty[code])
	}
	return s
}

// qwerty is what keys are by their place, for layouts without Latin letters; by code, which is that of Linux and 8.
const qwerty = "          1234567890-=  qwertyuiop[]  asdfghjkl;'` \\zxcvbnm,./"

// State is a keyboard's.
type State struct {
	Keymap  *Keymap
	Compose func() *Compose // what sequences there are; asked when the first begins; nil: none

	mods  Mods
	group int
	table *Compose
	at    *step // in a sequence; nil: in none
}

// Set says which modifiers are down and which layout is on.
func (s *State) Set(mods Mods, group int) { s.mods, s.group = mods, group }

// Press takes a key in. word is what a picker's Key takes, text what its Type does; both are empty for a key that means nothing by itself.
func (s *State) Press(code uint32) (word, text string) {
	if s.Keymap == nil {
		return "", ""
	}
	sym, used := s.Keymap.look(code, s.mods, s.group)
	if sym == 0 || sym.modifier() {
		return "", ""
	}
	down := s.mods &^ used
	prefix := ""
	if s.mods&Control != 0 {
		prefix = "ctrl+"
	}
	if down&orElse(s.Keymap.Alt, Mod1) != 0 {
		prefix += "alt+"
	}
	if down&orElse(s.Keymap.Logo, Mod4) != 0 {
		prefix += "super+"
	}
	if name, ok := words[sym]; ok {
		if s.mods&Shift != 0 {
			prefix += "shift+"
		}
		s.at = nil
		return prefix + name, ""
	}
	if prefix != "" {
		s.at = nil
		r := s.Keymap.latin(code, s.mods&^Lock, s.group).Rune()
		if r == 0 {
			return "", ""
		}
		if s.mods&Shift != 0 && unicode.IsUpper(r) {
			prefix, r = prefix+"shift+", unicode.ToLower(r)
		}
		if r == ' ' {
			return prefix + "space", ""
		}
		return prefix + string(r), ""
	}
	return "", s.compose(sym)
}

// Repeats says whether a key repeats while it is held.
func (s *State) Repeats(code uint32) bool {
	key, ok := s.Keymap.Keys[code]
	return ok && !key.Once
}

func orElse(m, other Mods) Mods {
	if m != 0 {
		return m
	}
	return other
}

// words are the keys that have a name.
var words = map[Sym]string{ //nolint:gochecknoglobals // a table
	0xff0d: "enter", 0xff8d: "enter", 0xfe34: "enter", 0xff1b: "esc", 0xff08: "backspace", 0xff09: "tab", 0xfe20: "tab", 0xff89: "tab", 0xffff: "delete", 0xff9f: "delete",
	0xff63: "insert", 0xff9e: "insert", 0xff50: "home", 0xff95: "home", 0xff57: "end", 0xff9c: "end", 0xff55: "pgup", 0xff9a: "pgup", 0xff56: "pgdown", 0xff9b: "pgdown",
	0xff51: "left", 0xff96: "left", 0xff52: "up", 0xff97: "up", 0xff53: "right", 0xff98: "right", 0xff54: "down", 0xff99: "down",
	0xffbe: "f1", 0xffbf: "f2", 0xffc0: "f3", 0xffc1: "f4", 0xffc2: "f5", 0xffc3: "f6", 0xffc4: "f7", 0xffc5: "f8", 0xffc6: "f9", 0xffc7: "f10", 0xffc8: "f11", 0xffc9: "f12",
}

// printable is a symbol's text; "" for one that has none.
func printable(s Sym) string {
	if r := s.Rune(); r > 0 && unicode.IsPrint(r) {
		return string(r)
	}
	return ""
}

// compose takes a symbol into the sequence that has begun, or may begin.
func (s *State) compose(sym Sym) string {
	if s.at == nil {
		if !sym.begins() || s.Compose == nil {
			return printable(sym)
		}
		if s.table == nil {
			if s.table = s.Compose(); s.table == nil {
				s.Compose = nil
				return printable(sym)
			}
		}
		s.at = &s.table.root
	}
	next := s.at.next[sym]
	if next == nil { // no such sequence: nothing of it counts, as elsewhere
		begun := s.at != &s.table.root
		s.at = nil
		if begun {
			return ""
		}
		return printable(sym)
	}
	if s.at = next; len(next.next) == 0 {
		s.at = nil
		return next.text
	}
	return ""
}

// Composing is the text to show for a sequence that has begun.
func (s *State) Composing() string {
	if s.at == nil {
		return ""
	}
	return strings.Repeat("·", max(1, s.at.depth))
}

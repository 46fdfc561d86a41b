package keyboard_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/clip/window/keyboard"
	"orrery/clip/window/windowtest"
	"orrery/internal/testenv"
)

// The codes of keys by their place on a keyboard of 105 keys.
const (
	keyEsc, key1, key2, keyBackspace, keyTab, keyQ, keyE, keyP           = 9, 10, 11, 22, 23, 24, 26, 33
	keyReturn, keyCtrl, keyA, keySemicolon, keyShift, keyX, keyC, keyKP1 = 36, 37, 38, 47, 50, 53, 54, 87
	keyUp, keyF1, keyDown, keySpace, keyAcute, keyDelete                 = 111, 67, 116, 65, 21, 119
)

func parse(t *testing.T, text string) *keyboard.Keymap {
	t.Helper()
	k, err := keyboard.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

const altgr = keyboard.Mod5

// TestLayouts: what keys mean in layouts of several kinds.
func TestLayouts(t *testing.T) {
	t.Parallel()
	k := parse(t, windowtest.Keymap(t, "pc+de+ru:2+inet(evdev)"))
	for _, c := range []struct {
		code       uint32
		mods       keyboard.Mods
		group      int
		word, text string
	}{
		{keyA, 0, 0, "", "a"},
		{keyA, keyboard.Shift, 0, "", "A"},
		{keyA, keyboard.Lock, 0, "", "A"},
		{keyA, keyboard.Lock | keyboard.Shift, 0, "", "a"},
		{key2, keyboard.Shift, 0, "", `"`},
		{key1, keyboard.Lock, 0, "", "1"},
		{keySemicolon, 0, 0, "", "ö"},
		{keySemicolon, keyboard.Lock, 0, "", "Ö"},
		{keyE, altgr, 0, "", "€"},
		{keyQ, altgr, 0, "", "@"},
		{keyA, 0, 1, "", "ф"},
		{keyA, keyboard.Shift, 1, "", "Ф"},
		{keyA, 0, 5, "", "ф"}, // beyond the last layout it begins anew
		{keyA, keyboard.Mod2, 0, "", "a"},
		{keyKP1, keyboard.Mod2, 0, "", "1"},
		{keyKP1, 0, 0, "end", ""},
		{keySpace, 0, 0, "", " "},
		{keyP, keyboard.Control, 0, "ctrl+p", ""},
		{keyP, keyboard.Control, 1, "ctrl+p", ""},
		{keyP, keyboard.Control | keyboard.Lock, 0, "ctrl+p", ""},
		{keyP, keyboard.Control | keyboard.Shift, 0, "ctrl+shift+p", ""},
		{keyP, keyboard.Mod1, 0, "alt+p", ""},
		{keyP, keyboard.Control | keyboard.Mod1, 0, "ctrl+alt+p", ""},
		{keyP, keyboard.Mod4, 0, "super+p", ""},
		{key1, keyboard.Mod1, 1, "alt+1", ""},
		{keyReturn, 0, 0, "enter", ""},
		{keyReturn, keyboard.Mod1, 0, "alt+enter", ""},
		{keyTab, 0, 0, "tab", ""},
		{keyTab, keyboard.Shift, 0, "shift+tab", ""},
		{keyEsc, 0, 1, "esc", ""},
		{keyUp, 0, 0, "up", ""},
		{keyDown, keyboard.Mod2, 0, "down", ""},
		{keyF1, 0, 0, "f1", ""},
		{keyBackspace, 0, 0, "backspace", ""},
		{keyDelete, 0, 0, "delete", ""},
		{keyShift, 0, 0, "", ""},
		{keyCtrl, 0, 0, "", ""},
		{700, 0, 0, "", ""},
	} {
		s := keyboard.State{Keymap: k}
		s.Set(c.mods, c.group)
		if word, text := s.Press(c.code); word != c.word || text != c.text {
			t.Errorf("key %d with %x in layout %d: %q, %q, not %q, %q", c.code, c.mods, c.group, word, text, c.word, c.text)
		}
	}
	s := keyboard.State{Keymap: k}
	if s.Repeats(keyShift) || !s.Repeats(keyA) || !s.Repeats(keyUp) || s.Repeats(700) {
		t.Error("the wrong keys repeat")
	}
}

// TestCompose: dead keys and Compose, with the tables of X.
func TestCompose(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(keyboard.LocaleFolder); err != nil {
		testenv.Missing(t, "libX11's tables", "apt-get install libx11-data")
	}
	home := t.TempDir()
	k := parse(t, windowtest.Keymap(t, "pc+de+inet(evdev)+compose(caps)"))
	const capsLock = 66
	env := map[string]string{"LANG": "de_DE.UTF-8", "HOME": home}
	read := func() *keyboard.Compose {
		return keyboard.ReadCompose(func(name string) string { return env[name] }, os.ReadFile)
	}
	type press struct {
		code uint32
		mods keyboard.Mods
	}
	type trial struct {
		keys []press
		want string
	}
	try := func(trials ...trial) {
		t.Helper()
		s := keyboard.State{Keymap: k, Compose: read}
		for _, c := range trials {
			got := ""
			for _, p := range c.keys {
				s.Set(p.mods, 0)
				_, text := s.Press(p.code)
				got += text
			}
			if got != c.want || s.Composing() != "" {
				t.Errorf("%v: %q, not %q", c.keys, got, c.want)
			}
		}
	}
	try(
		trial{[]press{{keyAcute, 0}, {keyE, 0}}, "é"},
		trial{[]press{{keyAcute, 0}, {keyE, keyboard.Shift}}, "É"},
		trial{[]press{{keyAcute, 0}, {keyShift, 0}, {keyE, keyboard.Shift}}, "É"},
		trial{[]press{{keyAcute, 0}, {keySpace, 0}}, "'"},
		trial{[]press{{keyAcute, 0}, {keyQ, 0}, {keyE, 0}}, "e"},
		trial{[]press{{keyAcute, 0}, {keyBackspace, 0}, {keyE, 0}}, "e"},
		trial{[]press{{capsLock, 0}, {keyA, 0}, {keyE, 0}}, "æ"},
		trial{[]press{{capsLock, 0}, {capsLock, 0}, {keyX, 0}, {keyE, 0}}, "xe"},
	)
	if err := os.WriteFile(filepath.Join(home, ".XCompose"), []byte("include \"%L\"\n# mine\n<Multi_key> <x> <c> : \"\\x41\\102\\\"c\" # text\n<Multi_key> <x> <x> : U20AC\ninclude \"%H/.XCompose\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	try(
		trial{[]press{{capsLock, 0}, {keyX, 0}, {keyC, 0}}, `AB"c`},
		trial{[]press{{capsLock, 0}, {keyX, 0}, {keyX, 0}}, "€"},
		trial{[]press{{keyAcute, 0}, {keyE, 0}}, "é"},
	)
	// Without tables a dead key does nothing.
	read = func() *keyboard.Compose { return nil }
	try(trial{[]press{{keyAcute, 0}, {keyE, 0}}, "e"})
}

// TestRefused: what is no keymap.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "xkb_keymap {", "xkb_keymap { };", "hello", "xkb_keymap { xkb_keycodes { <A> = b; }; };", strings.Repeat("xkb_keymap {", 1000),
		"xkb_symbols { key <A> { [ a " + strings.Repeat(", a", 1000) + " ] }; };", strings.Repeat(" ", keyboard.MaxKeymap+1),
	} {
		if _, err := keyboard.Parse(text); err == nil {
			t.Errorf("%.40q is taken for a keymap", text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`xkb_keymap { xkb_keycodes "x" { minimum = 8; <A> = 38; alias <B> = <A>; }; xkb_types "t" { virtual_modifiers L3=Mod5; type "TWO_LEVEL" { modifiers= Shift+L3; map[Shift]= Level2; preserve[Shift]= Shift; level_name[1]= "x"; }; };
xkb_compatibility "c" { interpret ISO_Level3_Shift+AnyOf(all) { virtualModifier= L3; useModMapMods=level1; repeat= True; action= SetMods(modifiers=L3); }; };
xkb_symbols "s" { name[group1]="x"; key <A> { type= "TWO_LEVEL", repeat= No, symbols[Group1]= [ a, { b, c } ], actions[Group1]= [ NoAction(), SetMods(modifiers=Shift) ] }; modifier_map Mod5 { <A>, ISO_Level3_Shift }; }; };`)
	f.Add(`xkb_symbols { key <A> { [ 0x61, U20AC ] };`)
	f.Fuzz(func(_ *testing.T, text string) {
		k, err := keyboard.Parse(text)
		if err != nil {
			return
		}
		s := keyboard.State{Keymap: k}
		for code := range k.Keys {
			for mods := range 256 {
				s.Set(keyboard.Mods(mods), mods-1)
				s.Press(code)
			}
		}
	})
}

func FuzzCompose(f *testing.F) {
	f.Add("include \"%L\"\n<dead_acute> <e> : \"\\303\\251\" eacute\n<Multi_key> <a> : adiaeresis")
	f.Fuzz(func(_ *testing.T, text string) {
		keyboard.ReadCompose(func(string) string { return "/x" }, func(string) ([]byte, error) { return []byte(text), nil })
	})
}

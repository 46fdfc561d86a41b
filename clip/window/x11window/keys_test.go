package x11window

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jezek/xgb"

	"orrery/clip/window/keyboard"
	"orrery/internal/testenv"
)

// TestKeymaps: what the server says of its keys by XKB's requests is what its text says, of many layouts: two ways to the same keymap.
func TestKeymaps(t *testing.T) {
	t.Parallel()
	setxkbmap := testenv.Need(t, "setxkbmap", "apt-get install x11-xkb-utils")
	xkbcomp := testenv.Need(t, "xkbcomp", "apt-get install x11-xkb-utils")
	display, _ := testenv.XServer(t)
	x, err := xgb.NewConnDisplay(display)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	major, err := useXKB(x)
	if err != nil {
		t.Fatal(err)
	}
	for _, layout := range [][]string{
		{"us"},
		{"de"},
		{"fr"},
		{"us,ru,gr"},
		{"jp"},
		{"il"},
		{"ara"},
		{"ch", "-variant", "fr"},
		{"us", "-variant", "intl"},
		{"us", "-variant", "dvorak"},
		{"ca", "-variant", "multix"},
		{"us", "-option", "ctrl:nocaps"},
		{"latam"},
		{"in"},
		{"th"},
		{"br"},
		{"us,de", "-option", "lv3:caps_switch"},
	} {
		if out, err := exec.CommandContext(t.Context(), setxkbmap, append([]string{"-display", display, "-option", "", "-layout"}, layout...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", layout, err, out)
		}
		path := filepath.Join(t.TempDir(), "keymap")
		if out, err := exec.CommandContext(t.Context(), xkbcomp, "-w", "0", "-xkb", display, path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", layout, err, out)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := keyboard.Parse(string(text))
		if err != nil {
			t.Fatalf("%v: %v", layout, err)
		}
		told, err := readKeymap(x, major)
		if err != nil {
			t.Fatalf("%v: %v", layout, err)
		}
		same(t, layout[0], parsed, told)
	}
}

// same compares what all keys mean with all modifiers in all layouts.
func same(t *testing.T, name string, a, b *keyboard.Keymap) {
	t.Helper()
	differ, pressed := 0, 0
	for code := uint32(8); code < 256; code++ {
		for mods := range 256 {
			if mods&0x0c == 0x0c || mods&0x40 != 0 && mods != 0x40 { // control and alt together, and the logo: they choose no level in these
				continue
			}
			for group := range max(len(a.Keys[code].Groups), len(b.Keys[code].Groups)) {
				one, two := keyboard.State{Keymap: a}, keyboard.State{Keymap: b}
				one.Set(keyboard.Mods(mods), group)
				two.Set(keyboard.Mods(mods), group)
				word, text := one.Press(code)
				otherWord, otherText := two.Press(code)
				if word+text != "" {
					pressed++
				}
				if word == otherWord && text == otherText {
					continue
				}
				if differ++; differ <= 5 {
					t.Errorf("%s: key %d with %#x in layout %d is %q %q by its text, %q %q by the server", name, code, mods, group, word, text, otherWord, otherText)
				}
			}
		}
	}
	if differ > 5 {
		t.Errorf("%s: %d differ", name, differ)
	}
	if pressed < 5_000 {
		t.Errorf("%s: only %d mean anything", name, pressed)
	}
}

func FuzzReplies(f *testing.F) {
	f.Add(make([]byte, 40))
	reply := make([]byte, 40+8+8+8+4)
	reply[15], reply[17], reply[20] = 1, 8, 1 // a type with an entry, a key
	reply[45] = 1
	reply[40+16+4], reply[40+16+5], reply[40+16+6] = 1, 1, 1
	f.Add(reply)
	f.Fuzz(func(_ *testing.T, reply []byte) {
		if k, err := parseMap(reply); err == nil {
			s := keyboard.State{Keymap: k}
			for code := range k.Keys {
				s.Press(code)
			}
		}
		monitors(reply)
	})
}

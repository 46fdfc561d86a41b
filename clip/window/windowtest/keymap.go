package windowtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"orrery/internal/testenv"
)

// Keymap is the keymap that X's own compiler makes of layouts, such as "pc+de+ru:2+inet(evdev)".
func Keymap(tb testing.TB, symbols string) string {
	tb.Helper()
	path := testenv.Need(tb, "xkbcomp", "apt-get install x11-xkb-utils")
	in, out := filepath.Join(tb.TempDir(), "in"), filepath.Join(tb.TempDir(), "out")
	text := `xkb_keymap { xkb_keycodes { include "evdev+aliases(qwerty)" }; xkb_types { include "complete" }; xkb_compat { include "complete" }; xkb_symbols { include "` + symbols + `" }; };`
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	if told, err := exec.CommandContext(tb.Context(), path, "-w", "0", "-xkb", "-I/usr/share/X11/xkb", in, out).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, told)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

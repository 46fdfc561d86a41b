package fonts_test

import (
	"os"
	"sync/atomic"
	"testing"

	"orrery/clip/window/fonts"
	"orrery/internal/testenv"
)

var looked atomic.Bool

// TestFind: fonts of the system have what the built-in ones lack, and a file keeps which there are.
func TestFind(t *testing.T) {
	const path = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
	if _, err := os.Stat(path); err != nil {
		testenv.Missing(t, path, "apt-get install fonts-noto-color-emoji")
	}
	folder := t.TempDir()
	s := &fonts.System{Cache: folder}
	faces := s.Find(t.Context(), []rune{'👋', '😀', '\U000effff'})
	if faces['👋'] == nil || faces['👋'] != faces['😀'] {
		t.Error("no font for 👋 and 😀")
	}
	if faces['\U000effff'] != nil {
		t.Error("a font for what is no character")
	}
	if _, ok := faces['👋'].NominalGlyph('👋'); !ok {
		t.Error("the font has it not")
	}
	kept, err := os.ReadDir(folder)
	if first := !looked.Swap(true); err != nil || first && len(kept) != 1 { // the library looks once in a process
		t.Errorf("%v, %v", kept, err)
	}
}

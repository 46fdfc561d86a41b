package keyboard

import (
	"strconv"
	"strings"
	"testing"
)

// TestNames: every name of the table is found, and no other.
func TestNames(t *testing.T) {
	n := 0
	for line := range strings.Lines(keysyms) {
		fields := strings.Fields(line)
		number, err := strconv.ParseUint(fields[1], 16, 32)
		if err != nil || named(fields[0]) != Sym(number) {
			t.Errorf("%q: %#x", line, named(fields[0]))
		}
		n++
	}
	if n < 2000 {
		t.Error(n)
	}
	for name, want := range map[string]Sym{"": 0, "nosuch": 0, "zzzz": 0, "U20AC": 0x10020ac, "U0041": 'A', "0xfe03": 0xfe03, "U110000": 0, "EuroSign": 0x20ac} {
		if got := named(name); got != want {
			t.Errorf("%s: %#x", name, got)
		}
	}
	for s, want := range map[Sym]rune{0x20ac: '€', 0x6c1: 'а', 'a': 'a', 0x1000041: 'A', 0xff0d: 0, 0xffb1: '1', 0: 0, 0xffffffff: 0, 0x10: 0} {
		if got := s.Rune(); got != want {
			t.Errorf("%#x: %q", uint32(s), got)
		}
	}
}

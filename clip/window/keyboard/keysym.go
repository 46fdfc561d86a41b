package keyboard

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Sym is a symbol on a key, by its number in the X protocol (appendix A); 0: none.
type Sym uint32

// unicodeSyms is what is added to a character's number where the symbol has none of its own.
const unicodeSyms = 0x01000000

// keysyms are the symbols that have names, sorted by them: a line each with name, number and character (0: none) in hexadecimal digits, as X.Org's keysymdef.h has them.
//
//go:embed keysyms.txt
var keysyms string

// named is the symbol of a name; 0 if there is none.
func named(name string) Sym {
	low, high := 0, len(keysyms) // of beginnings of lines
	for low < high {
		middle := max(low, strings.LastIndexByte(keysyms[:(low+high)/2], '\n')+1)
		line, _, _ := strings.Cut(keysyms[middle:], "\n")
		found, rest, _ := strings.Cut(line, " ")
		switch strings.Compare(name, found) {
		case 0:
			number, _, _ := strings.Cut(rest, " ")
			n, _ := strconv.ParseUint(number, 16, 32) // the table's are numbers
			return Sym(n)
		case -1:
			high = middle
		default:
			low = middle + len(line) + 1
		}
	}
	return numbered(name)
}

// numbered reads names such as U20AC and 0xfe03.
func numbered(name string) Sym {
	if digits, ok := strings.CutPrefix(name, "U"); ok && len(digits) >= 3 {
		if n, err := strconv.ParseUint(digits, 16, 32); err == nil && n <= unicode.MaxRune {
			return symOf(rune(n))
		}
	}
	if digits, ok := strings.CutPrefix(strings.ToLower(name), "0x"); ok {
		if n, err := strconv.ParseUint(digits, 16, 32); err == nil {
			return Sym(n)
		}
	}
	return 0
}

// symOf is a character's symbol.
func symOf(r rune) Sym {
	if r >= 0x20 && r <= 0x7e || r >= 0xa0 && r <= 0xff {
		return Sym(r) //nolint:gosec // not negative
	}
	return unicodeSyms + Sym(r) //nolint:gosec // not negative
}

// Rune is the character that a symbol stands for; 0: none.
func (s Sym) Rune() rune {
	switch {
	case s >= 0x20 && s <= 0x7e, s >= 0xa0 && s <= 0xff:
		return rune(s) //nolint:gosec // small
	case s >= unicodeSyms && s <= unicodeSyms+unicode.MaxRune:
		return rune(s - unicodeSyms) //nolint:gosec // bounded
	case s < 0x100 || s >= unicodeSyms:
		return 0
	}
	_, after, ok := strings.Cut(keysyms, " "+strconv.FormatUint(uint64(s), 16)+" ")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(after, "\n")
	n, _ := strconv.ParseUint(digits, 16, 32)
	return rune(n) //nolint:gosec // the table's are characters
}

// upper is the symbol of the capital letter.
func (s Sym) upper() Sym {
	r := s.Rune()
	if u := unicode.ToUpper(r); r != 0 && u != r {
		return symOf(u)
	}
	return s
}

func (s Sym) isLower() bool { return unicode.IsLower(s.Rune()) }
func (s Sym) isUpper() bool { return unicode.IsUpper(s.Rune()) }

// keypad says whether it is a key of the number pad.
func (s Sym) keypad() bool { return s >= 0xff80 && s <= 0xffbd }

// modifier says whether a key does nothing by itself but change others.
func (s Sym) modifier() bool {
	return s >= 0xffe1 && s <= 0xffee || s >= 0xfe01 && s <= 0xfe1f || slices.Contains([]Sym{0xff7e, 0xff7f, 0xff14, 0xff13, 0xff61}, s)
}

// begins says whether a sequence can begin with it: Compose and dead keys.
func (s Sym) begins() bool { return s == 0xff20 || s >= 0xfe50 && s <= 0xfe93 }

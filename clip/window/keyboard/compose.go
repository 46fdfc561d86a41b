package keyboard

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"strings"
)

// Compose are the sequences of keys that make a text.
type Compose struct {
	root  step
	count int
}

// step is a beginning of sequences.
type step struct {
	next  map[Sym]*step
	text  string
	depth int
}

// Bounds of what is read: files of users may be anything.
const (
	maxSequences = 1 << 17
	maxSequence  = 32
	maxIncludes  = 16
	maxText      = 64 // bytes
)

// LocaleFolder is where the sequences of each language are.
const LocaleFolder = "/usr/share/X11/locale"

// ReadCompose reads the sequences of a user, as libX11 does (Compose(5)): of $XCOMPOSEFILE, of ~/.XCompose, or those of the locale. It is nil if there are none.
func ReadCompose(env func(name string) string, read func(path string) ([]byte, error)) *Compose {
	locale := env("LC_ALL")
	for _, name := range []string{"LC_CTYPE", "LANG"} {
		if locale == "" {
			locale = env(name)
		}
	}
	r := reader{read: read, home: env("HOME"), locale: localeFile(locale, read)}
	for _, file := range []string{env("XCOMPOSEFILE"), path.Join(env("HOME"), ".XCompose"), r.locale} {
		if c := (&Compose{}); file != "" && r.file(c, file, 0) == nil && c.count > 0 {
			return c
		}
	}
	return nil
}

// localeFile is the file of a locale's sequences: compose.dir names it. That of English, which has most languages', is for those that are not named.
func localeFile(locale string, read func(path string) ([]byte, error)) string {
	list, _ := read(path.Join(LocaleFolder, "compose.dir"))
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[1] == locale && locale != "C" && locale != "POSIX" {
			return path.Join(LocaleFolder, strings.TrimSuffix(fields[0], ":"))
		}
	}
	return path.Join(LocaleFolder, "en_US.UTF-8", "Compose")
}

type reader struct {
	read         func(path string) ([]byte, error)
	home, locale string
	files        int
}

func (r *reader) file(c *Compose, name string, depth int) error {
	if r.files++; r.files > maxIncludes || depth > maxIncludes {
		return fs.ErrInvalid
	}
	text, err := r.read(name)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if included, ok := strings.CutPrefix(line, "include"); ok {
			included = strings.NewReplacer("%L", r.locale, "%H", r.home, "%S", LocaleFolder).Replace(strings.Trim(strings.TrimSpace(included), `"`))
			_ = r.file(c, included, depth+1) // what is not there has no sequences
			continue
		}
		c.line(line)
	}
	return nil
}

// line reads <key> <key> : "text" name. What it cannot read, such as modifiers, is left out.
func (c *Compose) line(line string) {
	left, right, ok := strings.Cut(line, ":")
	right = strings.TrimSpace(right)
	if !ok || !strings.HasPrefix(left, "<") || c.count >= maxSequences {
		return
	}
	var keys []Sym
	for word := range strings.FieldsSeq(left) {
		name, ok := strings.CutPrefix(word, "<")
		name, closed := strings.CutSuffix(name, ">")
		sym := named(name)
		if !ok || !closed || sym == 0 || len(keys) == maxSequence {
			return
		}
		keys = append(keys, sym)
	}
	text := ""
	if strings.HasPrefix(right, `"`) {
		text = quoted(right[1:])
	} else if name, _, _ := strings.Cut(right, " "); name != "" {
		text = printable(named(name))
	}
	if text == "" || len(text) > maxText {
		return
	}
	at := &c.root
	for _, key := range keys {
		next := at.next[key]
		if next == nil {
			if at.next == nil {
				at.next = map[Sym]*step{}
			}
			next = &step{depth: at.depth + 1}
			at.next[key] = next
		}
		at = next
	}
	at.text = text // of two the last counts
	c.count++
}

// quoted reads a text up to its quote.
func quoted(s string) string {
	var out strings.Builder
	for i := 0; i < len(s) && s[i] != '"'; i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		i++
		switch octal, n := digits(s[i:], 8, 3); {
		case s[i] == 'x' || s[i] == 'X':
			hex, n := digits(s[i+1:], 16, 2)
			out.WriteByte(hex)
			i += n
		case n > 0:
			out.WriteByte(octal)
			i += n - 1
		case s[i] == 'n':
			out.WriteByte('\n')
		case s[i] == 't':
			out.WriteByte('\t')
		default:
			out.WriteByte(s[i])
		}
	}
	return out.String()
}

// digits reads a number of at most so many digits.
func digits(s string, base, most int) (value byte, n int) {
	for n < len(s) && n < most {
		d := strings.IndexByte("0123456789abcdef"[:base], lower(s[n]))
		if d < 0 {
			break
		}
		value, n = value*byte(base)+byte(d), n+1 //nolint:gosec // small
	}
	return value, n
}

func lower(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

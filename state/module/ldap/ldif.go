package ldap

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"orrery/state"
)

// A snapshot is LDIF (RFC 2849) without folded lines, between a first and a last comment.
const (
	magic    = "# Orrery LDAP snapshot 1"
	maxLine  = 64 << 20
	maxEntry = 256 << 20
)

type attribute struct {
	name   string
	values []string
}

// entry is one, with attributes and values in order.
type entry struct {
	dn         string
	attributes []attribute
}

func (e *entry) sort() {
	for i := range e.attributes {
		slices.Sort(e.attributes[i].values)
	}
	slices.SortFunc(e.attributes, func(a, b attribute) int { return cmp.Compare(strings.ToLower(a.name), strings.ToLower(b.name)) })
}

// text is the entry in LDIF, with the empty line after it.
func (e *entry) text() []byte {
	b := line(nil, "dn", e.dn)
	for _, a := range e.attributes {
		for _, v := range a.values {
			b = line(b, a.name, v)
		}
	}
	return append(b, '\n')
}

func line(b []byte, name, value string) []byte {
	b = append(b, name...)
	if plain(value) {
		return append(append(append(b, ": "...), value...), '\n')
	}
	return append(base64.StdEncoding.AppendEncode(append(b, ":: "...), []byte(value)), '\n')
}

// plain says whether LDIF can have a value as it is.
func plain(v string) bool {
	if v == "" {
		return true
	}
	if strings.ContainsAny(v[:1], " :<") || strings.HasSuffix(v, " ") {
		return false
	}
	return !strings.ContainsFunc(v, func(c rune) bool { return c == 0 || c == '\n' || c == '\r' || c >= 0x7f })
}

// read visits the entries of a snapshot; what it has seen is complete only if it returns nil.
func read(r io.Reader, visit func(entry) error) error {
	in := newScanner(r)
	if !in.Scan() || in.Text() != magic {
		return cut(in.Err(), "it is not a snapshot of an LDAP directory of version 1")
	}
	count, end := 0, -1
	var last []string
	err := entries(in, func(comment string) error {
		_, err := fmt.Sscanf(comment, "# end %d", &end)
		if err == nil && (end != count || in.Scan()) {
			err = errors.New("it is not the end")
		}
		if err != nil {
			return fmt.Errorf("%w: %.40q in the snapshot: %w", state.ErrCorrupt, comment, err)
		}
		return nil
	}, func(e entry) error {
		parts, err := names(e.dn)
		if err != nil {
			return err
		}
		if count > 0 && slices.Compare(last, parts) >= 0 {
			return fmt.Errorf("%w: entry %q in the snapshot is in the wrong place", state.ErrCorrupt, e.dn)
		}
		count++
		last = parts
		return visit(e)
	})
	if err == nil && end < 0 || in.Err() != nil {
		return cut(in.Err(), "it ends before its end marker")
	}
	return err
}

func cut(err error, what string) error {
	if err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("cannot read the snapshot: %w", err)
	}
	return fmt.Errorf("%w: %s", state.ErrCorrupt, what)
}

func newScanner(r io.Reader) *bufio.Scanner {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxLine)
	in.Split(wholeLines)
	return in
}

// wholeLines is bufio.ScanLines for lines that all have an end.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, fmt.Errorf("%w: it ends in the middle of a line", state.ErrCorrupt)
	}
	return 0, nil, nil
}

// entries visits comments and entries.
func entries(in *bufio.Scanner, comment func(string) error, visit func(entry) error) error {
	var e entry
	size := 0
	for in.Scan() {
		text := in.Text()
		size += len(text)
		switch {
		case strings.HasPrefix(text, "#") && e.dn == "":
			if err := comment(text); err != nil {
				return err
			}
		case text == "" && e.dn != "":
			if err := visit(e); err != nil {
				return err
			}
			e, size = entry{}, 0
		case text == "":
		default:
			name, value, err := field(text)
			if err != nil {
				return err
			}
			if err := e.take(name, value); err != nil {
				return err
			}
		}
		if size > maxEntry {
			return fmt.Errorf("%w: entry %.80q is too large", state.ErrCorrupt, e.dn)
		}
	}
	if e.dn != "" && in.Err() == nil {
		return visit(e)
	}
	return in.Err()
}

func (e *entry) take(name, value string) error {
	switch last := len(e.attributes) - 1; {
	case e.dn == "" && name == "version":
	case (e.dn == "") != (name == "dn") || name == "dn" && value == "":
		return fmt.Errorf("%w: %.40q outside of an entry, or a dn within one", state.ErrCorrupt, name)
	case name == "dn":
		e.dn = value
	case last >= 0 && strings.EqualFold(e.attributes[last].name, name):
		e.attributes[last].values = append(e.attributes[last].values, value)
	default:
		e.attributes = append(e.attributes, attribute{name, []string{value}})
	}
	return nil
}

// field takes a line apart.
func field(text string) (name, value string, err error) {
	name, rest, ok := strings.Cut(text, ":")
	if !ok || name == "" || strings.ContainsAny(name, " \t") || strings.HasPrefix(rest, "<") {
		return "", "", fmt.Errorf("%w: %.40q is no line of LDIF with an attribute", state.ErrCorrupt, text)
	}
	encoded, is64 := strings.CutPrefix(rest, ":")
	if !is64 {
		return name, strings.TrimLeft(rest, " "), nil
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", fmt.Errorf("%w: attribute %.40q: %w", state.ErrCorrupt, name, err)
	}
	return name, string(raw), nil
}

// readLDIF visits the entries of a file that people wrote, with folded lines and comments.
func readLDIF(r io.Reader, visit func(entry) error) error {
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(unfold(r, pw)) }()
	err := entries(newScanner(pr), func(string) error { return nil }, func(e entry) error {
		e.sort()
		return visit(e)
	})
	pr.CloseWithError(errors.New("the reader stopped"))
	return err
}

// unfold joins lines that begin with a space to the line before, and leaves comments out.
func unfold(r io.Reader, w io.Writer) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	out := bufio.NewWriter(w)
	begun, comment := false, false
	for in.Scan() {
		text := in.Text()
		folded := strings.HasPrefix(text, " ")
		if !folded {
			if begun {
				_ = out.WriteByte('\n') // Flush reports it, as of what follows
			}
			comment = strings.HasPrefix(text, "#")
			begun = !comment
		}
		if !comment {
			_, _ = out.WriteString(strings.TrimPrefix(text, " "))
		}
	}
	if begun {
		_ = out.WriteByte('\n')
	}
	return errors.Join(in.Err(), out.Flush())
}

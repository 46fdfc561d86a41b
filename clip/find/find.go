// Package find says which items somebody looks for, by what was typed: words, a fuzzy pattern or a regular expression, and filters such as
// type:image or tag:work. It is pure: values in, values out.
package find

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"orrery/clip"
)

// Mode is how the text of a query is meant.
type Mode string

// The modes.
const (
	Words   Mode = "words"  // every word occurs, in any order
	Exact   Mode = "exact"  // the whole text occurs as it is
	Fuzzy   Mode = "fuzzy"  // the letters of each word occur in that order, with others between them
	Pattern Mode = "regexp" // a regular expression, in Go's syntax
)

// ErrQuery says that a query cannot be understood.
var ErrQuery = errors.New("query cannot be understood")

// Query is what is looked for. The zero Query matches everything.
type Query struct {
	filters []func(*clip.Summary) bool
	score   func(lower []byte) (int, bool) // nil: everything
	whole   bool
}

// Parse reads what was typed. Filters are words of their own: type:text, tag:work, is:pinned, before:2026-11-01, after:1h; everything else is the text, in upper or lower case.
func Parse(typed string, mode Mode, now time.Time) (*Query, error) {
	q := &Query{}
	var rest []string
	for word := range strings.FieldsSeq(typed) {
		name, value, ok := strings.Cut(word, ":")
		filter, known := filters[name]
		if !ok || !known || value == "" {
			rest = append(rest, word)
			continue
		}
		f, err := filter(value, now)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrQuery, word, err)
		}
		q.filters = append(q.filters, f)
	}
	text := strings.TrimSpace(typed)
	if len(q.filters) > 0 {
		text = strings.Join(rest, " ")
	}
	if text == "" {
		return q, nil
	}
	return q, q.look(text, mode)
}

func (q *Query) look(text string, mode Mode) error {
	lower := Lower([]byte(text))
	switch mode {
	case Words, "":
		words := distinct(bytes.Fields(lower))
		q.whole, q.score = true, func(b []byte) (int, bool) { return scoreWords(b, words) }
	case Exact:
		q.whole, q.score = true, func(b []byte) (int, bool) { return scoreWords(b, [][]byte{lower}) }
	case Fuzzy:
		words := bytes.Fields(lower)
		q.score = func(b []byte) (int, bool) { return scoreFuzzy(b, words) }
	case Pattern:
		expression, err := compile(text)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrQuery, err)
		}
		q.whole, q.score = true, expression.score
	default:
		return fmt.Errorf("%w: mode %q is unknown (use words, exact, fuzzy or regexp)", ErrQuery, mode)
	}
	return nil
}

// filters by name; each reads its value.
var filters = map[string]func(value string, now time.Time) (func(*clip.Summary) bool, error){ //nolint:gochecknoglobals // a table
	"type": func(value string, _ time.Time) (func(*clip.Summary) bool, error) {
		for k := clip.Text; k <= clip.Other; k++ {
			if k.String() == value {
				return func(s *clip.Summary) bool { return s.Kind == k }, nil
			}
		}
		return nil, errors.New("a type is text, html, image, files or other")
	},
	"tag": func(value string, _ time.Time) (func(*clip.Summary) bool, error) {
		return func(s *clip.Summary) bool { return slices.Contains(s.Tags, value) }, nil
	},
	"is": func(value string, _ time.Time) (func(*clip.Summary) bool, error) {
		switch value {
		case "pinned":
			return func(s *clip.Summary) bool { return s.Pinned }, nil
		case "tagged":
			return func(s *clip.Summary) bool { return len(s.Tags) > 0 }, nil
		}
		return nil, errors.New("an item is pinned or tagged")
	},
	"before": func(value string, now time.Time) (func(*clip.Summary) bool, error) {
		t, err := moment(value, now)
		return func(s *clip.Summary) bool { return s.Used.Before(t) }, err
	},
	"after": func(value string, now time.Time) (func(*clip.Summary) bool, error) {
		t, err := moment(value, now)
		return func(s *clip.Summary) bool { return !s.Used.Before(t) }, err
	},
}

// moment is a day (2026-11-01) or how long ago (90m, 12h, 7d).
func moment(value string, now time.Time) (time.Time, error) {
	if t, err := time.ParseInLocation(time.DateOnly, value, now.Location()); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(value, "d"); ok {
		if d, err := time.ParseDuration(days + "h"); err == nil && d >= 0 {
			return now.Add(-24 * d), nil
		}
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return time.Time{}, errors.New("a moment is a day such as 2026-11-01, or how long ago: 90m, 12h, 7d")
	}
	return now.Add(-d), nil
}

// Match says whether an item is meant; lower is its text in lower case. A note counts as text, too.
func (q *Query) Match(s *clip.Summary, lower []byte) (int, bool) {
	for _, f := range q.filters {
		if !f(s) {
			return 0, false
		}
	}
	if q.score == nil {
		return 0, true
	}
	score, ok := q.score(lower)
	if !ok && s.Note != "" {
		return q.score(Lower([]byte(s.Note)))
	}
	return score, ok
}

// Filters says whether Match looks at more of an item than its text and note.
func (q *Query) Filters() bool { return len(q.filters) > 0 }

// Whole says whether text beyond the preview matters.
func (q *Query) Whole() bool { return q.whole }

func distinct(words [][]byte) [][]byte {
	slices.SortFunc(words, func(a, b []byte) int { return cmp.Or(len(b)-len(a), bytes.Compare(a, b)) }) // the rarest first, mostly
	return slices.CompactFunc(words, bytes.Equal)
}

// pattern is a regular expression with what must occur in whatever it matches.
type pattern struct {
	re      *regexp.Regexp
	literal []byte // in lower case; empty: nothing is known
}

func compile(text string) (*pattern, error) {
	folded, err := syntax.Parse(text, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	lower(folded)
	re, err := regexp.Compile(folded.String())
	if err != nil {
		return nil, err
	}
	return &pattern{re, []byte(required(folded.Simplify()))}, nil
}

// lower has the literals of an expression match text in lower case only, which is what it is given: that is several times as fast as to try both.
func lower(re *syntax.Regexp) {
	if re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase != 0 {
		text := []byte(string(re.Rune))
		if low := Lower(text); !strings.ContainsFunc(string(low), other) {
			re.Rune, re.Flags = []rune(string(low)), re.Flags&^syntax.FoldCase
		}
	}
	for _, sub := range re.Sub {
		lower(sub)
	}
}

// other says whether a letter has a form in text in lower case besides itself.
func other(r rune) bool {
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		if l := unicode.ToLower(f); l != r || utf8.RuneLen(l) != utf8.RuneLen(f) {
			return true
		}
	}
	return false
}

func (p *pattern) score(lower []byte) (int, bool) {
	if !bytes.Contains(lower, p.literal) {
		return 0, false
	}
	return 0, p.re.Match(lower)
}

// required is the longest text that every match of an expression has, as far as that is easily told.
func required(re *syntax.Regexp) string {
	switch re.Op { //nolint:exhaustive // of all others nothing is told
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return ""
		}
		return string(re.Rune)
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpConcat:
		best := ""
		for _, sub := range re.Sub {
			if text := required(sub); len(text) > len(best) {
				best = text
			}
		}
		return best
	}
	return ""
}

// Package search finds messages by their words.
//
// An index of words is a table as all that the homeserver keeps, so that it is the same on every database. It is made a moment after messages were sent, many at
// a time, so that sending does not wait for it; whoever searches does.
package search

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"orrery/matrix/canonical"
	"orrery/matrix/event"
)

// Limits of words.
const (
	maxWord  = 40  // characters; longer ones are cut
	maxWords = 500 // of an event
)

// Keys are the parts of events that are searched, with the types of events that have them (clause client-server API, server side search).
var Keys = map[string]string{"content.body": "m.room.message", "content.name": "m.room.name", "content.topic": "m.room.topic"}

// Text is the part of an event that a key names; "" if it has none.
func Text(e *event.Event, key string) string {
	if Keys[key] != e.Type() {
		return ""
	}
	if v := e.Content().Get(strings.TrimPrefix(key, "content.")); v.Kind() == canonical.String {
		return v.String()
	}
	return ""
}

// EventWords are the words of all parts of an event that are searched.
func EventWords(e *event.Event) []string {
	for key, kind := range Keys {
		if kind == e.Type() {
			return Words(Text(e, key))
		}
	}
	return nil
}

// Words are the words of a text, each once, sorted: letters and digits, without case and accents. Of scripts that do not put spaces between words each
// character is one.
func Words(text string) []string {
	var words []string
	var word strings.Builder
	size := 0
	end := func() {
		if size > 0 {
			words = append(words, word.String())
			word.Reset()
			size = 0
		}
	}
	for _, r := range norm.NFKD.String(text) {
		switch {
		case unicode.Is(unicode.Mn, r):
		case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar):
			end()
			words = append(words, string(r))
		case (unicode.IsLetter(r) || unicode.IsDigit(r)) && r != utf8.RuneError:
			if size++; size <= maxWord {
				word.WriteRune(unicode.ToLower(r))
			}
		default:
			end()
		}
		if len(words) > 4*maxWords {
			break
		}
	}
	end()
	slices.Sort(words)
	words = slices.Compact(words)
	return words[:min(len(words), maxWords)]
}

// Score says how well a text fits words that are looked for: 0 if one of them is not there; words that are there as they are count more than those
// that only begin like it.
func Score(text string, terms []string) float64 {
	words := Words(text)
	sum := 0.0
	for _, t := range terms {
		i, exact := slices.BinarySearch(words, t)
		switch {
		case exact:
			sum += 2
		case i < len(words) && strings.HasPrefix(words[i], t):
			sum++
		default:
			return 0
		}
	}
	return sum / float64(2*len(terms)) / (1 + float64(len(words))/100)
}

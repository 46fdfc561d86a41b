// Package search finds messages by their words.
//
// What is found is the same on every database: words are made here, and the database's own index of texts, or a table of words where it has none, takes them as
// they are. The index is made a moment after messages were sent, many at a time, so that sending does not wait for it; whoever searches does. All of it can be
// made again from the events.
package search

import (
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"orrery/matrix/event"
)

// Limits of words.
const (
	maxWord  = 40   // characters; longer ones are cut
	maxWords = 2000 // of an event, its first ones
)

// Keys are the parts of events that are searched, with the types of events that have them (clause client-server API, server side search).
var Keys = map[string]string{"content.body": "m.room.message", "content.name": "m.room.name", "content.topic": "m.room.topic"}

// Text is the part of an event that a key names; "" if it has none. That of a topic is also what it says of itself as plain text.
func Text(e *event.Event, key string) string {
	if Keys[key] != e.Type() {
		return ""
	}
	texts := []string{e.Content().Get(strings.TrimPrefix(key, "content.")).String()}
	if key == "content.topic" {
		for form := range e.Content().Get("m.topic", "m.text").Elements {
			if kind := form.Get("mimetype").String(); kind == "" || kind == "text/plain" {
				texts = append(texts, form.Get("body").String())
			}
		}
	}
	return strings.Join(texts, "\n")
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

// alone are the scripts that do not put spaces between words.
var alone = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}

// vowels are the scripts whose marks are vowels, not accents.
var vowels = []*unicode.RangeTable{
	unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada, unicode.Malayalam, unicode.Sinhala,
}

// Words are the words of a text, each once, sorted: letters and digits, without case and accents. Of scripts that do not put spaces between words each
// character is one, and so is each picture, such as an emoji.
func Words(text string) []string {
	found := map[string]bool{}
	var word strings.Builder
	size := 0
	end := func() {
		if size > 0 {
			found[word.String()] = true
			word.Reset()
			size = 0
		}
	}
	for _, r := range norm.NFKD.String(text) {
		switch {
		case unicode.Is(unicode.Mn, r) && !unicode.In(r, vowels...):
		case unicode.In(r, alone...) || unicode.Is(unicode.So, r) && r != utf8.RuneError:
			end()
			found[string(r)] = true
		case unicode.In(r, unicode.L, unicode.Nd, unicode.Mn, unicode.Mc):
			if size++; size <= maxWord {
				word.WriteRune(unicode.ToLower(r))
			}
		default:
			end()
		}
		if len(found) >= maxWords {
			size = 0
			break
		}
	}
	end()
	return slices.Sorted(maps.Keys(found))
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

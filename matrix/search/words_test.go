package search

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                            nil,
		"Hello, hello WORLD!":         {"hello", "world"},
		"Ärger über Čapek — naïve":    {"arger", "capek", "naive", "uber"},
		"don't a-b c_d 42":            {"42", "a", "b", "c", "d", "don", "t"},
		"東京 tower":                    {"tower", "京", "東"},
		"\x00 \u200b \ufffd":          nil,
		"☃ 👍🏽ok":                      {"ok", "☃", "👍"},
		"हिन्दी में":                  {"में", "हिन्दी"},
		`"tea" AND NOT* (NEAR/3)^-:`:  {"3", "and", "near", "not", "tea"},
		strings.Repeat("x", 100):      {strings.Repeat("x", 40)},
		"ﬁne ①":                       {"1", "fine"},
		"Привет, ΑΘΗΝΑ":               {"αθηνα", "привет"},
		"one two one\ntwo\tone three": {"one", "three", "two"},
	} {
		if got := Words(text); !slices.Equal(got, want) {
			t.Errorf("%q: %q, not %q", text, got, want)
		}
	}
}

func TestScore(t *testing.T) {
	exact, begins := Score("the cat sat", []string{"cat"}), Score("the category", []string{"cat"})
	if exact <= begins || begins <= 0 || Score("the dog", []string{"cat"}) != 0 || Score("cat", []string{"cat", "dog"}) != 0 {
		t.Errorf("%f %f", exact, begins)
	}
	if Score("cat "+strings.Repeat("and much more ", 1), []string{"cat"}) >= Score("cat", []string{"cat"}) {
		t.Error("a long text fits as well as a short one")
	}
}

func FuzzWords(f *testing.F) {
	for _, s := range []string{"Hello", "é\xff", "東a京", strings.Repeat("a b ", 3000)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := Words(text)
		if len(words) > maxWords || !slices.IsSorted(words) {
			t.Errorf("%d words", len(words))
		}
		for _, w := range words {
			if again := Words(w); !utf8.ValidString(w) || w == "" || utf8.RuneCountInString(w) > maxWord || len(again) == 0 {
				t.Errorf("%q is a word: %q", w, again)
			}
		}
	})
}

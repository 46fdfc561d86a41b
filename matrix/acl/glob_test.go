package acl

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzGlob: patterns fit what the same regular expressions fit, and a list of a pattern finds it where it fits.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{
		{"*", ""}, {"*.evil.com", "a.evil.com"}, {"**a*", "ba"}, {"a*a*a*a*b", "aaaaaaaaaaaaac"}, {"?*?", "ä"}, {"a*??b", "aäöb"}, {"[a]", "a"}, {"*?x", "éxx"}, {`\*`, `\a`}, {"*a?", "aab"}, {"", ""}, {"*.*.", "a.b."},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if !utf8.ValidString(pattern) || !utf8.ValidString(text) || len(pattern) > 500 || len(text) > 2000 {
			return // an expression cannot say it
		}
		pattern, text = lower(pattern), lower(text)
		same := regexp.MustCompile(`(?s)\A` + strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern)) + `\z`)
		want := same.MatchString(text)
		if got := fits(pattern, text); got != want {
			t.Errorf("%q and %q: %v", pattern, text, got)
		}
		if _, got := compile([]string{"no such", pattern, "?"}).find(text); got != want && utf8.RuneCountInString(text) != 1 && text != "no such" {
			t.Errorf("a list of %q finds %q: %v", pattern, text, got)
		}
	})
}

// TestGlobTime: a pattern of many stars takes a time that is bounded by both lengths multiplied, and not by how many ways there are to place the stars: this one would
// not end.
func TestGlobTime(t *testing.T) {
	if fits(strings.Repeat("a*", 10_000)+"b", strings.Repeat("a", 20_000)) {
		t.Error("it fits")
	}
}

package find_test

import (
	"errors"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/find"
)

var now = time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)

func TestMatches(t *testing.T) {
	item := clip.Summary{Kind: clip.Text, Used: now.Add(-2 * time.Hour), Mark: clip.Mark{Pinned: true, Tags: []string{"work"}, Note: "Remark"}}
	for _, c := range []struct {
		query string
		mode  find.Mode
		text  string
		want  bool
	}{
		{"", find.Words, "anything", true},
		{"two one", find.Words, "one and two", true},
		{"two three", find.Words, "one and two", false},
		{"one and", find.Exact, "ONE and two", true},
		{"and one", find.Exact, "one and two", false},
		{"ot", find.Fuzzy, "one and two", true},
		{"two on", find.Fuzzy, "one and two", true},
		{"to1", find.Fuzzy, "one and two", false},
		{"^one.*TWO$", find.Pattern, "one and two", true},
		{"^and", find.Pattern, "one and two", false},
		{"(xyz)+", find.Pattern, "one xyzxyz", true},
		{"ä", find.Words, "Ärger", true},
		{"remark", find.Words, "nothing of it", true},
		{"type:text tag:work is:pinned is:tagged one", find.Words, "one", true},
		{"type:image", find.Words, "one", false},
		{"tag:play", find.Words, "one", false},
		{"after:3h before:1h", find.Words, "one", true},
		{"after:1h", find.Words, "one", false},
		{"before:2026-11-05", find.Words, "one", false},
		{"after:2026-11-05", find.Words, "one", true},
		{"after:1d", find.Words, "one", true},
		{"http://x", find.Words, "see http://x", true},
	} {
		q, err := find.Parse(c.query, c.mode, now)
		if err != nil {
			t.Errorf("%s: %v", c.query, err)
			continue
		}
		if _, ok := q.Match(&item, find.Lower([]byte(c.text))); ok != c.want {
			t.Errorf("%s %s in %q: %t", c.mode, c.query, c.text, ok)
		}
	}
}

// TestBetter: the first is better than the second.
func TestBetter(t *testing.T) {
	for _, c := range []struct {
		query         string
		mode          find.Mode
		better, worse string
	}{
		{"press", find.Words, "press it", "the press"},
		{"press", find.Words, "the press", "impression"},
		{"gst", find.Fuzzy, "git status", "against it"},
		{"stat", find.Fuzzy, "git status", "short tags at"},
	} {
		q, err := find.Parse(c.query, c.mode, now)
		if err != nil {
			t.Fatal(err)
		}
		a, ok1 := q.Match(&clip.Summary{}, []byte(c.better))
		b, ok2 := q.Match(&clip.Summary{}, []byte(c.worse))
		if !ok1 || !ok2 || a <= b {
			t.Errorf("%s: %q %d, %q %d", c.query, c.better, a, c.worse, b)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range [][2]string{{"(", string(find.Pattern)}, {"type:song", ""}, {"is:odd", ""}, {"before:soon", ""}, {"after:-1h", ""}, {"x", "telepathy"}} {
		if _, err := find.Parse(c[0], find.Mode(c[1]), now); !errors.Is(err, find.ErrQuery) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("type:text a.*b", "some text")
	f.Fuzz(func(t *testing.T, query, text string) {
		for _, mode := range []find.Mode{find.Words, find.Exact, find.Fuzzy, find.Pattern} {
			q, err := find.Parse(query, mode, now)
			if err != nil {
				continue
			}
			lower := find.Lower([]byte(text))
			if len(lower) != len(text) {
				t.Errorf("%q has another length in lower case", text)
			}
			q.Match(&clip.Summary{}, lower)
		}
	})
}

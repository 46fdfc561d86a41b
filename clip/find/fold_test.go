package find_test

import (
	"regexp"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/find"
)

// TestPatternFolds: an expression matches in upper and lower case, as Go's does with (?i), whatever is made of it to be faster.
func TestPatternFolds(t *testing.T) {
	t.Parallel()
	texts := []string{"Größe", "GRÖSSE", "kelvin", "KELVIN", "straße 12", "abc-DEF_9", "Ünder", "ΣΊΣΥΦΟΣ", "line one", "ASK", "task", "x.y", ""}
	for _, expression := range []string{"größe", "GRÖ", "k", "Kelvin$", "s", "[a-f]+-[^A-Z]", `\bdef_\d`, "ü", "(?-i)kel", "(ask|x\\.y)", "σ", "^[^k]*$", "o.e", "(LINE)? ONE", "ß"} {
		q, err := find.Parse(expression, find.Pattern, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile("(?i)" + expression)
		for _, text := range texts {
			lower := find.Lower([]byte(text))
			if _, ok := q.Match(&clip.Summary{}, lower); ok != re.Match(lower) {
				t.Errorf("%s in %s: %t", expression, text, ok)
			}
		}
	}
}

package acl

import (
	"strings"
	"unicode/utf8"
)

// globs are patterns, made so that a list of ten thousand is asked quickly: those without wildcards, and those that only begin with a star, are found by a look into
// a map. The others are tried one after another.
type globs struct {
	written []string          // all of them, as they are written
	exact   map[string]string // without wildcards, to how they are written
	ends    map[string]string // that begin with * and have no other wildcard, by what follows it
	others  []glob
}

type glob struct{ pattern, written string }

func compile(written []string) *globs {
	g := &globs{written: written, exact: map[string]string{}, ends: map[string]string{}}
	for _, w := range written {
		p := lower(w)
		rest, star := strings.CutPrefix(p, "*")
		switch {
		case strings.ContainsAny(rest, "*?"):
			g.others = append(g.others, glob{p, w})
		case star:
			g.ends[rest] = w
		default:
			g.exact[p] = w
		}
	}
	return g
}

// find is a pattern that fits a host in lower case, and whether there is one.
func (g *globs) find(host string) (string, bool) {
	if w, ok := g.exact[host]; ok {
		return w, true
	}
	if len(g.ends) > 0 {
		for i := range len(host) + 1 {
			if w, ok := g.ends[host[i:]]; ok {
				return w, true
			}
		}
	}
	for _, o := range g.others {
		if fits(o.pattern, host) {
			return o.written, true
		}
	}
	return "", false
}

// fits says whether all of a text fits a pattern (clause appendices, glob-style matching): "The character * matches zero or more characters. ? matches exactly one
// character." When something does not fit, only the last star takes one character more, so that it takes no longer than both lengths multiplied.
func fits(pattern, text string) bool {
	p, t := 0, 0
	star, from := -1, 0 // the last star, and from where in the text what follows it is tried
	for t < len(text) {
		_, size := utf8.DecodeRuneInString(text[t:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == '?':
			p++
			t += size
		case strings.HasPrefix(pattern[p:], text[t:t+size]):
			p += size
			t += size
		case star >= 0:
			_, size = utf8.DecodeRuneInString(text[from:])
			from += size
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// lower is a text with the letters A to Z in lower case. Names of servers have no others.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

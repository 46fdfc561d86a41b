package markup_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"orrery/clip/markup"
)

func TestText(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"":      "",
		"plain": "plain",
		"<p>one <b>two</b>\n three</p><p>four</p>": "one two three\n\nfour",
		"a<br>b<br/>c": "a\nb\nc",
		"<ul><li>a<li>b<ul><li>c</ul></ul><ol start=7><li>d<li>e</ol>":                                                 "• a\n• b\n  • c\n7. d\n8. e",
		"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>d</td></tr></table>":                                    "a\tb\nc\td",
		"<pre>x\n  y\n\nz</pre>after":                                                                                  "x\n  y\n\nz\n\nafter",
		`<a href="https://a.example/">there</a>, <a href="https://b.example">https://b.example</a> <a href="#x">x</a>`: "there <https://a.example/>, https://b.example x",
		`<a href="javascript:alert(1)">there</a><img alt="a cat" src="x">`:                                             "there[a cat]",
		"<head><title>t</title></head><body><script>alert('<p>no')</script><style>p{}</style>yes &amp; &eacute;":       "yes & é",
		"<meta charset=utf-8><span>one</span> <i>two</i>":                                                              "one two",
		"</ul></ol></a></pre>x": "x",
	} {
		if got := markup.Text([]byte(source)); got != want {
			t.Errorf("%q: %q, not %q", source, got, want)
		}
	}
}

// FuzzText: whatever is copied, the text is bounded and there is one.
func FuzzText(f *testing.F) {
	for _, s := range []string{"<ul><li>a", "<pre>\n\n\n<br>", "<a href=x><a href=y>z</a></a>", strings.Repeat("<ol>", 100) + "<li>x", "<script><", "\xff<b\x00>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		text := markup.Text(source)
		if len(text) > 1<<20 || utf8.Valid(source) && !utf8.ValidString(text) {
			t.Errorf("%d bytes, valid %t", len(text), utf8.ValidString(text))
		}
	})
}

package preview

import (
	"maps"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		page, kind string
		want       map[string]string
	}{
		"OpenGraph": {
			page: `<html><head><title>Other</title><meta property="og:title" content="A &amp; B"><meta name="og:description" content=" two
				lines "><meta property="og:image" content="/x.png"><meta property="og:title" content="again"><meta property="og:evil" content="x">`,
			kind: "text/html",
			want: map[string]string{"og:title": "A & B", "og:description": "two lines", "og:image": "/x.png"},
		},
		"title":     {`<title> Plain page</title><meta name="Description" content="about">`, "text/html", map[string]string{"og:title": "Plain page", "og:description": "about"}},
		"nothing":   {"no page", "text/html", map[string]string{}},
		"charset":   {"<title>na\xefve</title>", "text/html; charset=iso-8859-1", map[string]string{"og:title": "naïve"}},
		"in itself": {"<meta charset=windows-1251><title>\xcf\xf0\xe8\xe2\xe5\xf2</title>", "text/html", map[string]string{"og:title": "Привет"}},
		"long":      {"<title>" + strings.Repeat("x", 5000) + "</title>", "text/html", map[string]string{"og:title": strings.Repeat("x", 1000)}},
	} {
		got, err := Read(strings.NewReader(c.page), c.kind)
		if err != nil || !maps.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add("<title>x</title><meta property=og:title content=y>", "text/html; charset=utf-16")
	f.Add("\x00<\xff<!--", "")
	f.Fuzz(func(t *testing.T, page, kind string) {
		got, err := Read(strings.NewReader(page), kind)
		for name, v := range got {
			if !isName(name) || !utf8.ValidString(v) || utf8.RuneCountInString(v) > maxText {
				t.Errorf("%q %q %v", name, v, err)
			}
		}
	})
}

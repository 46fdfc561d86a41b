package preview

import (
	"cmp"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
)

// maxText is how long what a page says of itself is at most, in characters.
const maxText = 1000

// Read reads what a page says of itself: by OpenGraph, otherwise its title and description.
func Read(page io.Reader, contentType string) (map[string]string, error) {
	decoded, err := charset.NewReader(page, contentType)
	if err != nil {
		return nil, err
	}
	found, other := map[string]string{}, map[string]string{}
	z := html.NewTokenizer(decoded)
	z.SetMaxBuf(256 << 10)
	inTitle := false
	for {
		switch z.Next() {
		case html.ErrorToken: // the end, or where it stops to be a page
			title := strings.TrimSpace(other["title"])
			for name, v := range map[string]string{"og:title": title, "og:description": other["description"]} {
				if v = cut(cmp.Or(found[name], v)); v != "" {
					found[name] = v
				}
			}
			return found, nil
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			if t.DataAtom == atom.Meta {
				meta(t, found, other)
			}
			inTitle = t.DataAtom == atom.Title && other["title"] == ""
		case html.TextToken:
			if inTitle && len(other["title"]) < 10*maxText {
				other["title"] += string(z.Text())
			}
		case html.EndTagToken:
			inTitle = false
		case html.CommentToken, html.DoctypeToken:
		}
	}
}

// meta takes what an element says of the page. The first one counts.
func meta(t html.Token, found, other map[string]string) {
	var name, content string
	for _, a := range t.Attr {
		switch a.Key {
		case "property", "name":
			name = cmp.Or(name, strings.ToLower(a.Val))
		case "content":
			content = a.Val
		}
	}
	content = cut(content)
	if isName(name) && found[name] == "" && content != "" {
		found[name] = content
	}
	if name == "description" {
		other[name] = cmp.Or(other[name], content)
	}
}

// cut is a text without what is too long, on one line.
func cut(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "\ufffd")), " ")
	if utf8.RuneCountInString(s) > maxText {
		s = string([]rune(s)[:maxText])
	}
	return s
}

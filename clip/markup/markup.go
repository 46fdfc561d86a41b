// Package markup says what HTML says, as text: for previews, and for items that have no plain text. It is pure.
//
// Only what matters to a reader is kept: paragraphs, lists, cells of tables, lines of preformatted text, where links go, what pictures say of themselves. Nothing is
// loaded, and no script runs. Whatever the markup, the result is bounded.
package markup

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Limits: of what is read, and of what is made of it.
const (
	maxInput  = 256 << 10
	maxOutput = 64 << 10
	maxDepth  = 32 // lists within lists
)

// Text is the text of HTML, in lines.
func Text(source []byte) string {
	w := &writer{}
	z := html.NewTokenizer(bytes.NewReader(source[:min(len(source), maxInput)]))
	for w.out.Len() < maxOutput {
		switch kind := z.Next(); kind { //nolint:exhaustive // comments say nothing
		case html.ErrorToken:
			return strings.TrimSpace(w.out.String())
		case html.TextToken:
			w.text(string(z.Text()))
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			w.open(atom.Lookup(name), attributes(z, more), kind == html.SelfClosingTagToken)
		case html.EndTagToken:
			name, _ := z.TagName()
			w.close(atom.Lookup(name))
		}
	}
	return strings.TrimSpace(w.out.String())
}

// attributes are those that are looked at.
func attributes(z *html.Tokenizer, more bool) map[string]string {
	var all map[string]string
	for more {
		var key, value []byte
		key, value, more = z.TagAttr()
		switch string(key) {
		case "href", "alt", "start":
			if all == nil {
				all = map[string]string{}
			}
			all[string(key)] = string(value)
		}
	}
	return all
}

// writer lays text out.
type writer struct {
	out     strings.Builder
	space   bool // white space is due before the next letter
	breaks  int  // line feeds are due before the next letter
	begun   bool // something was written in this line
	hidden  atom.Atom
	pre     int
	lists   []int // the number of the next entry; -1: without numbers
	links   []string
	linkAt  []int // where in out each link begins
	indents string
}

// text takes in what is between tags.
func (w *writer) text(text string) {
	if w.hidden != 0 {
		return
	}
	if w.pre > 0 {
		for i, line := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
			if i > 0 {
				w.line(1)
			}
			if line != "" {
				w.put(line)
			}
		}
		return
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		w.space = w.space || text != ""
		return
	}
	w.space = w.space || blank(text[0])
	w.put(strings.Join(words, " "))
	w.space = blank(text[len(text)-1])
}

func blank(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' }

// put writes letters, with what is due before them.
func (w *writer) put(text string) {
	switch {
	case w.breaks > 0 && w.out.Len() > 0:
		w.out.WriteString(strings.Repeat("\n", w.breaks))
		w.out.WriteString(w.indents)
	case w.space && w.begun:
		w.out.WriteByte(' ')
	}
	w.breaks, w.space, w.begun = 0, false, true
	w.out.WriteString(text)
}

// line ends a line; 2 leaves one empty.
func (w *writer) line(breaks int) {
	switch {
	case w.pre > 0:
		w.breaks += breaks
	default:
		w.breaks = max(w.breaks, breaks)
	}
	w.breaks = min(w.breaks, 3)
	w.space, w.begun = false, false
}

// open takes in the beginning of an element.
func (w *writer) open(name atom.Atom, attributes map[string]string, alone bool) {
	if w.hidden != 0 {
		return
	}
	switch name {
	case atom.Script, atom.Style, atom.Template, atom.Title, atom.Head:
		if !alone {
			w.hidden = name
		}
	case atom.Br:
		w.line(w.breaks + 1)
	case atom.Hr:
		w.line(1)
		w.put("---")
		w.line(1)
	case atom.Img:
		if alt := strings.TrimSpace(attributes["alt"]); alt != "" {
			w.put("[" + alt + "]")
		}
	case atom.A:
		w.links = append(w.links, attributes["href"])
		w.linkAt = append(w.linkAt, w.out.Len())
	case atom.Td, atom.Th:
		if w.begun {
			w.put("\t")
		}
	case atom.Pre:
		w.line(2)
		w.pre++
	case atom.Ul, atom.Ol:
		w.list(name, attributes["start"])
	case atom.Li:
		w.entry()
	default:
		w.line2(name)
	}
}

// line2 ends lines around elements that are blocks.
func (w *writer) line2(name atom.Atom) {
	switch name { //nolint:exhaustive // all others are within lines
	case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Blockquote, atom.Table, atom.Dl, atom.Figure:
		w.line(2)
	case atom.Div, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Nav, atom.Main, atom.Aside, atom.Tr, atom.Dt, atom.Dd, atom.Address, atom.Figcaption, atom.Option, atom.Body:
		w.line(1)
	}
}

func (w *writer) list(name atom.Atom, start string) {
	w.line(1)
	next := -1
	if name == atom.Ol {
		next = 1
		if n, err := strconv.Atoi(start); err == nil && n >= 0 && n < 1<<30 {
			next = n
		}
	}
	w.lists = append(w.lists, next)
	w.indent()
}

func (w *writer) indent() {
	w.indents = strings.Repeat("  ", max(0, min(len(w.lists), maxDepth)-1))
}

func (w *writer) entry() {
	w.line(1)
	sign := "•"
	if n := len(w.lists); n > 0 && w.lists[n-1] >= 0 {
		sign = strconv.Itoa(w.lists[n-1]) + "."
		w.lists[n-1]++
	}
	w.put(sign)
	w.space = true
}

// close takes in the end of an element.
func (w *writer) close(name atom.Atom) {
	if w.hidden != 0 {
		if name == w.hidden {
			w.hidden = 0
		}
		return
	}
	switch name {
	case atom.A:
		w.link()
	case atom.Pre:
		w.pre = max(0, w.pre-1)
		w.line(2)
	case atom.Ul, atom.Ol:
		w.line(1)
		if n := len(w.lists); n > 0 {
			w.lists = w.lists[:n-1]
		}
		w.indent()
	default:
		w.line2(name)
	}
}

// link says where a link goes, unless its text does.
func (w *writer) link() {
	n := len(w.links)
	if n == 0 {
		return
	}
	href, at := w.links[n-1], w.linkAt[n-1]
	w.links, w.linkAt = w.links[:n-1], w.linkAt[:n-1]
	said := strings.TrimSpace(w.out.String()[at:])
	if said == "" || href == "" || strings.HasPrefix(href, "#") || strings.HasPrefix(strings.ToLower(href), "javascript:") || strings.HasPrefix(href, "data:") {
		return
	}
	if said == href || said == strings.TrimPrefix(href, "mailto:") || len(href) > 512 {
		return
	}
	space := w.space
	w.space = true
	w.put("<" + href + ">")
	w.space = space
}

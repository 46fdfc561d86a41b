// Package page is what the pages have in common that the homeserver shows in browsers: their looks, and headers by which they run only what is theirs, are in
// no frame, and tell nobody where they were.
package page

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"html/template"
	"net/http"
	"strings"
	"sync"
)

//go:embed page.html
var shared string

// Set is templates of pages. Each begins with {{template "top" .}} and ends with {{template "bottom" .}}; {{template "said" .}} shows .Problem, and there is
// {{template "problem" .}} for when there is nothing else to show.
type Set struct{ templates func() *template.Template }

// Parse reads templates, when the first page is shown: most servers show none for long. What is wrong in them is an error of the program.
func Parse(text string) *Set {
	return &Set{sync.OnceValue(func() *template.Template {
		return template.Must(template.Must(template.New("").Parse(shared)).Parse(text))
	})}
}

// Write writes a page. Its data has the server's name as Server; it gets Nonce, which a script of the page must have to be run. It may do what further directives of
// its policy let it.
func (s *Set) Write(w http.ResponseWriter, status int, name string, data map[string]any, more ...string) error {
	nonce := rand.Text()
	data["Nonce"] = nonce
	var b bytes.Buffer
	if err := s.templates().ExecuteTemplate(&b, name, data); err != nil {
		return err
	}
	Guard(w.Header(), "default-src 'none'; style-src 'nonce-"+nonce+"'; script-src 'nonce-"+nonce+"'; frame-ancestors 'none'; base-uri 'none'"+strings.Join(append([]string{""}, more...), "; "))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, err := b.WriteTo(w)
	return err
}

// Guard sets the headers by which a page runs only what its policy lets it, is in no frame, is kept by nobody, and tells nobody where it was.
func Guard(h http.Header, policy string) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Del("Access-Control-Allow-Origin")
}

// Problem is what a page says has gone wrong.
type Problem struct {
	Status int
	Text   string
}

// Error is the text.
func (p *Problem) Error() string { return p.Text }

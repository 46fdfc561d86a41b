// Package page is the sky's web page: a map of the orbits, a body's facts and moons, its notes, and a form to
// add one. It keeps nothing itself; everything comes from the catalog and the notes at each request.
package page

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"orrery/examples/observatory/internal/web"
)

// Theme is how the page looks and what it calls itself.
type Theme struct {
	Name  string // a class of the page's style: night, blue
	Title string
}

// Night is the theme that everyone sees.
var Night = Theme{Name: "night", Title: "The sky tonight"}

// Config says where the other services are.
type Config struct {
	Catalog, Notes string // URLs without a slash at the end
	Theme          Theme
	Now            func() time.Time // the sky is shown as of then
	Client         *http.Client
}

// Run serves the page as the environment says until ctx ends.
func Run(ctx context.Context, theme Theme) error {
	config := Config{Theme: theme, Now: time.Now, Client: &http.Client{Timeout: 30 * time.Second}}
	address, err := web.Env("ADDRESS")
	if err != nil {
		return err
	}
	if config.Catalog, err = web.Env("CATALOG_URL"); err != nil {
		return err
	}
	if config.Notes, err = web.Env("NOTES_URL"); err != nil {
		return err
	}
	return web.Serve(ctx, address, New(config))
}

//go:embed page.html
var source string

// New returns the page's handler.
func New(c Config) http.Handler {
	c.Catalog, c.Notes = strings.TrimSuffix(c.Catalog, "/"), strings.TrimSuffix(c.Notes, "/")
	s := &sky{c, template.Must(template.New("page").Funcs(functions).Parse(source))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.show)
	mux.HandleFunc("POST /notes", s.post)
	mux.HandleFunc("GET /notes", s.forward)
	mux.HandleFunc("GET /count", s.forward)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	return mux
}

type sky struct {
	Config
	template *template.Template
}

// body is a body as the catalog describes it.
type body struct {
	ID           string   `json:"id"`
	Name         string   `json:"name"`
	Kind         string   `json:"kind"`
	Parent       string   `json:"parent"`
	Radius       *float64 `json:"radiusKm"`
	Discoverer   string   `json:"discoverer"`
	Year         int      `json:"year"`
	OrbitAU      *float64 `json:"orbitAu"`
	OrbitKm      *float64 `json:"orbitKm"`
	PeriodDays   *float64 `json:"periodDays"`
	LongitudeDeg *float64 `json:"longitudeDeg"`
	Moons        int      `json:"moons"`
}

// note is a note as the notes keep it.
type note struct {
	ID      int64     `json:"id"`
	Body    string    `json:"body"`
	Author  string    `json:"author"`
	Text    string    `json:"text"`
	Created time.Time `json:"created"`
}

// view is what the template shows.
type view struct {
	Theme   Theme
	Now     time.Time
	Map     sheet
	Body    body
	Parent  string // its name, if it is a moon
	Moons   []body
	Notes   []note
	Count   int64
	NotesOK bool
	Key     string // makes a form that is sent twice one note
	Draft   note   // what the visitor wrote, if it could not be kept
	Error   string // why
}

var errNotFound = errors.New("not found")

// show answers with the page.
func (s *sky) show(w http.ResponseWriter, r *http.Request) {
	s.render(w, r, r.URL.Query().Get("body"), http.StatusOK, note{}, "")
}

func (s *sky) render(w http.ResponseWriter, r *http.Request, id string, status int, draft note, why string) {
	if id == "" {
		id = "earth"
	}
	v, err := s.gather(r, id)
	switch {
	case errors.Is(err, errNotFound):
		http.Error(w, "The catalog has no such body.", http.StatusNotFound)
		return
	case err != nil:
		http.Error(w, "The catalog does not answer: "+err.Error(), http.StatusBadGateway)
		return
	}
	v.Draft, v.Error = draft, why
	var out bytes.Buffer
	if err := s.template.Execute(&out, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // the visitor is gone if this fails
}

// gather asks the catalog and the notes for what the page shows, all at once.
func (s *sky) gather(r *http.Request, id string) (*view, error) {
	v := &view{Theme: s.Theme, Now: s.Now().UTC(), Key: rand.Text()}
	var around []body
	var count struct {
		Count int64 `json:"count"`
	}
	q := url.QueryEscape(id)
	asks := []struct {
		url  string
		into any
		err  error
	}{
		{s.Catalog + "/bodies?parent=sun", &around, nil},
		{s.Catalog + "/bodies/" + url.PathEscape(id), &v.Body, nil},
		{s.Catalog + "/bodies?kind=moon&parent=" + q, &v.Moons, nil},
		{s.Notes + "/notes?order=desc&limit=50&body=" + q, &v.Notes, nil},
		{s.Notes + "/count", &count, nil},
	}
	var all sync.WaitGroup
	for i := range asks {
		all.Go(func() { asks[i].err = s.ask(r, asks[i].url, asks[i].into) })
	}
	all.Wait()
	if err := errors.Join(asks[0].err, asks[1].err, asks[2].err); err != nil {
		return nil, err
	}
	v.Count, v.NotesOK = count.Count, asks[3].err == nil && asks[4].err == nil
	v.Map = draw(around, v.Body, v.Now)
	for _, b := range around {
		if b.ID == v.Body.Parent {
			v.Parent = b.Name
		}
	}
	return v, nil
}

// ask gets JSON from another service on behalf of r.
func (s *sky) ask(r *http.Request, from string, into any) error {
	out, err := http.NewRequestWithContext(r.Context(), http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	web.PassOn(r.Header, out.Header)
	answer, err := s.Client.Do(out)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	switch answer.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(io.LimitReader(answer.Body, 32<<20)).Decode(into)
	case http.StatusNotFound:
		return errNotFound
	}
	return fmt.Errorf("%s: %s", from, answer.Status)
}

// forward answers as the notes do.
func (s *sky) forward(w http.ResponseWriter, r *http.Request) {
	s.relay(w, r, http.MaxBytesReader(w, r.Body, 64<<10))
}

func (s *sky) relay(w http.ResponseWriter, r *http.Request, content io.Reader) {
	answer, err := s.send(r, content)
	if err != nil {
		web.Fail(w, http.StatusBadGateway, "the notes do not answer: "+err.Error())
		return
	}
	defer func() { _ = answer.Body.Close() }()
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body) // the client sees a short answer if this fails
}

// send repeats a request at the notes.
func (s *sky) send(r *http.Request, content io.Reader) (*http.Response, error) {
	to := s.Notes + r.URL.Path
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	out, err := http.NewRequestWithContext(r.Context(), r.Method, to, content)
	if err != nil {
		return nil, err
	}
	web.PassOn(r.Header, out.Header)
	out.Header.Set("Content-Type", "application/json")
	return s.Client.Do(out)
}

// post keeps a note. The page's form is answered with a redirect to the page, JSON as the notes answer it.
func (s *sky) post(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/json" {
		s.forward(w, r)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "The form could not be read.", http.StatusBadRequest)
		return
	}
	draft := note{Body: r.PostForm.Get("body"), Author: r.PostForm.Get("author"), Text: r.PostForm.Get("text")}
	status, why := s.keep(r, draft, r.PostForm.Get("key"))
	if why != "" {
		s.render(w, r, draft.Body, status, draft, why)
		return
	}
	http.Redirect(w, r, "/?body="+url.QueryEscape(draft.Body)+"#notes", http.StatusSeeOther)
}

// keep writes a note and says what was wrong, or "".
func (s *sky) keep(r *http.Request, n note, key string) (status int, why string) {
	content, err := json.Marshal(map[string]string{"body": n.Body, "author": n.Author, "text": n.Text, "key": key})
	if err != nil {
		return http.StatusBadRequest, err.Error()
	}
	answer, err := s.send(r, bytes.NewReader(content))
	if err != nil {
		return http.StatusBadGateway, "The notes do not answer; your note was not kept."
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusCreated || answer.StatusCode == http.StatusOK {
		return 0, ""
	}
	var p web.Problem
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<16)).Decode(&p); err != nil || p.Error == "" {
		p.Error = answer.Status
	}
	return answer.StatusCode, p.Error
}

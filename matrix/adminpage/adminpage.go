// Package adminpage is the pages by which administrators look after a homeserver in a browser. What they do there is done by package admin, as by the admin API
// and the command.
//
// An administrator logs in with a password, at a provider, or with an access token. A browser that is logged in has a cookie that scripts do not see and that no
// other site can send along (HttpOnly, SameSite=Strict); it counts for half a day at most, an hour without a request, and only while its user is an administrator with the
// same password. Every form has a token of the visit, and its request must come from a page of this server. What destroys something is shown first, and needs that its user
// has proved who they are within the last minutes.
package adminpage

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/admin"
	"orrery/matrix/contact"
	"orrery/matrix/media"
	"orrery/matrix/page"
	"orrery/matrix/room"
)

// Path is below which the pages are, and Provided is that to which a provider's login comes back.
const (
	Path     = "/admin/"
	Provided = Path + "provided"
)

// Config says whose pages these are.
type Config struct {
	Server   string // its name
	URL      string // where browsers reach it, "" if that is not known: then nobody logs in at a provider
	Accounts *account.Accounts
	Admin    *admin.Admin
	Media    *media.Media
	Now      func() time.Time
	Logger   *slog.Logger

	KeepMedia   time.Duration // how long what users upload is kept; 0: for ever
	NoPasswords bool          // people log in by providers only
	Providers   []Provider    // by which people may log in instead of a password

	// Token is whose access token it is.
	Token func(ctx context.Context, token string, r *http.Request) (account.Login, error)
	// LogOut removes a device of a user's.
	LogOut func(ctx context.Context, user, device string) error
	// Deactivate ends an account.
	Deactivate func(ctx context.Context, user string, erase bool) error

	Watch
}

// Watch is how the server is.
type Watch struct {
	Load *Load
	// Stores is the kind of the database, and how large it is.
	Stores func(ctx context.Context) (kind string, bytes int64)
	// Warnings are what whoever runs the server should know.
	Warnings func() []string
	// Check looks at all that the server needs.
	Check func(ctx context.Context) []Finding
	// Federation is what other servers find of this one.
	Federation func() Federation
	Began      time.Time
}

// Finding is what a check found.
type Finding struct {
	Check string
	OK    bool
	Text  string
}

// Provider is another server by which people log in, at an address of this one's that takes where to go afterwards as redirectUrl.
type Provider struct{ Name, URL string }

// Pages are those of a server.
type Pages struct {
	c      Config
	mux    *http.ServeMux
	visits visits
	totals recent
}

// section is a part of the pages, as it is in their navigation.
type section struct{ Path, Title string }

// sections are all of them, in order.
var sections = []section{
	{"", "Overview"}, {"users", "Users"}, {"rooms", "Rooms"}, {"media", "Media"}, {"reports", "Reports"}, {"tokens", "Registration"}, {"federation", "Federation"},
}

//go:embed pages
var files embed.FS

// pages are read when the first one is shown.
var pages = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(functions).ParseFS(files, "pages/*.html"))
})

// New is the pages of a server.
func New(c Config) *Pages {
	p := &Pages{c: c, mux: http.NewServeMux()}
	for _, name := range []string{"style.css", "live.js"} {
		p.mux.Handle("GET "+Path+name, file(name))
	}
	p.loginRoutes()
	p.get("{$}", p.overview)
	p.get("check", p.check)
	p.get("live/{part}", p.live)
	p.get("users", p.users)
	p.get("users/{user}", p.user)
	p.get("rooms", p.rooms)
	p.get("rooms/{room}", p.room)
	p.get("deletions", p.deletions)
	p.get("media", p.media)
	p.get("media/{media}/picture", p.picture)
	p.get("reports", p.reports)
	p.get("tokens", p.tokens)
	p.get("federation", p.federation)
	p.actions()
	p.mux.Handle(Path, p.guarded(func(*visit) error { return &page.Problem{Status: http.StatusNotFound, Text: "There is no such page."} }))
	return p
}

// ServeHTTP serves the pages.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page.Guard(w.Header(), policy)
	w.Header().Set("Referrer-Policy", "same-origin") // without one browsers do not say where a form is from
	p.mux.ServeHTTP(w, r)
}

// policy lets a page load what is this server's own, run its one script, and be in no frame.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

func file(name string) http.Handler {
	text, err := fs.ReadFile(files, "pages/"+name)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err != nil { // it was not embedded
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		kind := "text/css"
		if name == "live.js" {
			kind = "text/javascript"
		}
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(text)
	})
}

// get registers a page for administrators.
func (p *Pages) get(path string, f func(*visit) error) { p.mux.Handle("GET "+Path+path, p.inside(f)) }

// problem is an error as a page says it.
func (p *Pages) problem(r *http.Request, err error) *page.Problem {
	for _, missing := range []error{account.ErrNotFound, room.ErrNotFound, media.ErrNotFound, admin.ErrNoReport, contact.ErrUnknown} {
		if errors.Is(err, missing) {
			return &page.Problem{Status: http.StatusNotFound, Text: "This is not there, or not any more: " + err.Error()}
		}
	}
	said, ok := errors.AsType[*page.Problem](err)
	if !ok {
		p.c.Logger.ErrorContext(r.Context(), "an admin page failed", "path", r.URL.Path, "error", err)
		said = &page.Problem{Status: http.StatusInternalServerError, Text: "The server failed. Its log says why."}
	}
	return said
}

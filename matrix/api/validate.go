package api

import (
	_ "embed"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"orrery/matrix/contact"
	"orrery/matrix/contact/validation"
	webpage "orrery/matrix/page"
)

//go:embed pages.html
var pageText string

var pages = webpage.Parse(pageText)

// maxForm is how large a form of a page may be.
const maxForm = 64 << 10

// webPage serves a page. What changes something must come from a page of this server: browsers say where a request is from (http.CrossOriginProtection).
func (a *API) webPage(f func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		err := f(w, r)
		if err == nil {
			return
		}
		p, ok := errors.AsType[*webpage.Problem](err)
		if !ok {
			e, fault := toError(err)
			if fault {
				a.Logger.ErrorContext(r.Context(), "a page failed", "path", r.URL.Path, "error", err)
			}
			p = &webpage.Problem{Status: e.Status, Text: sentence(e.Text)}
		}
		_ = a.show(w, p.Status, "problem", map[string]any{"Problem": p.Text})
	}))
}

// sentence is the text of an error as people read it.
func sentence(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func (a *API) show(w http.ResponseWriter, status int, name string, data map[string]any) error {
	data["Server"] = a.Server
	return pages.Write(w, status, name, data)
}

// validateRoutes is the page to which the links of mails lead. It asks once more, since some programs open all links of a mail before somebody reads it.
func (a *API) validateRoutes() {
	a.route("GET "+validation.Path, a.webPage(func(w http.ResponseWriter, r *http.Request) error {
		query := r.URL.Query()
		s, err := a.Validations.Session(r.Context(), query.Get("sid"))
		if err != nil {
			return lost(err)
		}
		return a.show(w, http.StatusOK, "validate", map[string]any{
			"Session": query.Get("sid"), "Token": query.Get("token"), "Address": s.Address.Text, "Purpose": string(s.Purpose), "User": s.User,
		})
	}))
	a.route("POST "+validation.Path, a.limitedPages(a.webPage(func(w http.ResponseWriter, r *http.Request) error {
		s, err := a.Validations.Submit(r.Context(), r.PostFormValue("sid"), r.PostFormValue("token"))
		if err != nil {
			return lost(err)
		}
		next := nextLink(s.NextLink)
		if next != nil && a.known(next) {
			http.Redirect(w, r, next.String(), http.StatusSeeOther)
			return nil
		}
		data := map[string]any{"Address": s.Address.Text}
		if next != nil {
			data["Next"], data["Host"] = next.String(), next.Host
		}
		return a.show(w, http.StatusOK, "validated", data)
	})))
}

// lost is what a page says of a session or a token that does not count.
func lost(err error) error {
	for kind, text := range map[error]string{
		contact.ErrSession: "This link is not known, or was used. Ask for another mail.", contact.ErrExpired: "This link is too old. Ask for another mail.",
		contact.ErrToken: "This is not the whole link, or one of an older mail. Open the newest one.", contact.ErrTries: "This link was tried wrongly too often. Ask for another mail.",
	} {
		if errors.Is(err, kind) {
			return &webpage.Problem{Status: http.StatusBadRequest, Text: text}
		}
	}
	return err
}

// nextLink is an address of the web to which a client wants its user to go; nil if it is none.
func nextLink(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil
	}
	return u
}

// known says whether an address is of this server or of a client that is configured, so that the user goes there unasked. To any other there is a link, which
// says where it leads: otherwise mails of this server would lead wherever somebody wants.
func (a *API) known(u *url.URL) bool {
	for _, one := range append([]string{a.BaseURL}, a.SSOClients...) {
		if k := nextLink(one); k != nil && k.Scheme == u.Scheme && k.Host == u.Host {
			return true
		}
	}
	return false
}

package oauth

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"html/template"
	"net/http"
	"strings"
	"time"

	"orrery/matrix/page"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

//go:embed pages.html
var pageText string

var pages = page.Parse(pageText)

// visit is a request for a page, by a browser in which a user may be logged in.
type visit struct {
	*http.Request

	i      *Issuer
	w      http.ResponseWriter
	user   string
	proved time.Time
}

func wrong(text string) error { return &page.Problem{Status: http.StatusBadRequest, Text: text} }

// page serves a page. What changes something must come from a page of this server: browsers say where a request is from (http.CrossOriginProtection).
func (i *Issuer) page(f func(*visit) error) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		v := &visit{Request: r, i: i, w: w}
		err := v.recognise()
		if err == nil {
			err = f(v)
		}
		if err == nil {
			return
		}
		p, ok := errors.AsType[*page.Problem](err)
		if !ok {
			i.c.Logger.ErrorContext(r.Context(), "a page failed", "path", r.URL.Path, "error", err)
			p = &page.Problem{Status: http.StatusInternalServerError, Text: "The server failed. Try again later."}
		}
		_ = v.render(p.Status, "problem", map[string]any{"Problem": p.Text})
	}))
}

// in serves a page for those who are logged in; others log in first.
func (i *Issuer) in(f func(*visit) error) http.Handler {
	return i.page(func(v *visit) error {
		if v.user == "" {
			return v.logIn()
		}
		return f(v)
	})
}

// logIn sends a browser to log in, and back here.
func (v *visit) logIn() error {
	next := v.URL.RequestURI()
	if v.Method != http.MethodGet {
		next = "/account/"
	}
	v.to("/account/login", "next", next)
	return nil
}

// to sends a browser to a page of this server.
func (v *visit) to(path string, query ...string) {
	for n := 0; n+1 < len(query); n += 2 {
		path += string("?&"[min(n, 1)]) + query[n] + "=" + template.URLQueryEscaper(query[n+1])
	}
	http.Redirect(v.w, v.Request, path, http.StatusSeeOther)
}

// render writes a page.
func (v *visit) render(status int, name string, data map[string]any) error {
	data["Server"], data["User"] = v.i.c.Server, v.user
	return pages.Write(v.w, status, name, data)
}

// cookie is a cookie of this server's own pages.
func (i *Issuer) cookie(name, value string, lifetime time.Duration) *http.Cookie {
	secure := strings.HasPrefix(i.c.URL, "https:")
	if secure {
		name = "__Host-" + name
	}
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(lifetime / time.Second), HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode,
	}
}

// sent is a cookie's value as a browser sends it.
func (v *visit) sent(name string) string {
	c, err := v.Cookie(v.i.cookie(name, "", 0).Name)
	if err != nil {
		return ""
	}
	return c.Value
}

const (
	browserCookie = "orrery_account"
	stateCookie   = "orrery_provider"
)

// recognise finds out who is logged in.
func (v *visit) recognise() error {
	token := v.sent(browserCookie)
	if token == "" {
		return nil
	}
	return v.i.c.Stream.DB().View(v.Context(), func(tx table.Tx) error {
		b, ok, err := store.Browsers.Get(tx, digest(token))
		if err == nil && ok && v.i.c.Now().UnixMilli() < b.Expires {
			v.user, v.proved = b.User, time.UnixMilli(b.Proved)
		}
		return err
	})
}

// enter logs a user in who has proved who they are.
func (v *visit) enter(user string) error {
	token, now := rand.Text()+rand.Text(), v.i.c.Now()
	err := v.i.c.Stream.DB().Update(v.Context(), func(tx table.Tx) error {
		old, err := store.Browsers.All(tx, table.Range{Index: "expires", Before: now.UnixMilli()})
		for _, b := range old {
			err = errors.Join(err, store.Browsers.Delete(tx, b.Hash))
		}
		return errors.Join(err, store.Browsers.Put(tx, store.Browser{
			Hash: digest(token), User: user, Proved: now.UnixMilli(), Expires: now.Add(browserLifetime).UnixMilli(),
		}))
	})
	if err == nil {
		v.user, v.proved = user, now
		http.SetCookie(v.w, v.i.cookie(browserCookie, token, browserLifetime))
	}
	return err
}

// leave logs the user out of this browser.
func (v *visit) leave() error {
	http.SetCookie(v.w, v.i.cookie(browserCookie, "", -time.Second))
	return v.i.c.Stream.DB().Update(v.Context(), func(tx table.Tx) error { return store.Browsers.Delete(tx, digest(v.sent(browserCookie))) })
}

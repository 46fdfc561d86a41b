package adminpage

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// action is something that administrators do on a page: asked for by GET, which shows what will happen, and done by POST.
type action struct {
	title  string // what it does, as its button says it
	plain  bool   // it can be undone by another one, and is neither shown first nor needs a proof
	says   func(*visit) ([]string, error)
	fields []field
	do     func(*visit) (string, error) // what it says it has done
	back   func(*visit) string
}

// field is what an action asks for besides.
type field struct {
	Name, Label, Kind, Hint string
	Value                   string
	Checked                 bool
}

// on is whether a box of the action's form was checked.
func (v *visit) on(name string) bool { return v.PostFormValue(name) == "on" }

// act registers an action at a path.
func (p *Pages) act(path string, a action) {
	p.mux.Handle("POST "+Path+path, p.inside(func(v *visit) error {
		if !a.plain && !v.proved(v.URL.RequestURI()) {
			return nil
		}
		said, err := a.do(v)
		p.c.Logger.InfoContext(v.Context(), "an administrator acts", "by", v.s.user, "request", v.Method+" "+v.URL.Path, "error", err)
		if err != nil {
			return err
		}
		v.say(said)
		v.to(a.back(v))
		return nil
	}))
	if a.plain {
		return
	}
	p.get(path, func(v *visit) error {
		if !v.proved(v.URL.RequestURI()) {
			return nil
		}
		says, err := a.says(v)
		if err != nil {
			return err
		}
		return v.render(http.StatusOK, "confirm", map[string]any{"Title": a.title, "Says": says, "Fields": a.fields, "Back": a.back(v), "Action": v.URL.RequestURI()})
	})
}

// actions are all of them.
func (p *Pages) actions() {
	for _, all := range []map[string]action{p.userActions(), p.contactActions(), p.roomActions(), p.mediaActions(), p.reportActions(), p.tokenActions()} {
		for _, path := range slices.Sorted(maps.Keys(all)) {
			p.act(path, all[path])
		}
	}
}

// at is the address of a page: each part is one of its path.
func at(parts ...string) string {
	for i, s := range parts {
		parts[i] = url.PathEscape(s)
	}
	return Path + strings.Join(parts, "/")
}

// same is a page that an action leads back to, whatever it was done to.
func same(path string) func(*visit) string { return func(*visit) string { return at(path) } }

// of leads back to the page of what an action was done to.
func of(section, name string) func(*visit) string {
	return func(v *visit) string { return at(section, v.PathValue(name)) }
}

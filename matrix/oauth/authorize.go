package oauth

import (
	"crypto/rand"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// asked is a request for authorisation (RFC 6749, section 4.1.1) that a user can be asked about.
type asked struct {
	client                       *client
	redirect, mode, state, nonce string
	scope                        scope
	challenge                    string
}

// authorize asks the user whether a client may do what it wants, and sends the browser back to it with a code.
func (i *Issuer) authorize(v *visit) error {
	a, answered, err := v.asked()
	if err != nil || answered {
		return err
	}
	for p := range strings.FieldsSeq(v.URL.Query().Get("prompt")) {
		switch {
		case p == "none":
			return v.answer(a, "error", "interaction_required")
		case p == "create" && v.user == "" && i.c.Register:
			v.to("/account/register", "next", again(v.URL, "prompt"))
			return nil
		case p == "login" && v.user != "":
			v.to("/account/login", "next", again(v.URL, "prompt"))
			return nil
		}
	}
	if v.user == "" {
		v.to("/account/login", "next", again(v.URL, "prompt"))
		return nil
	}
	if v.Method == http.MethodGet {
		return v.render(http.StatusOK, "consent", map[string]any{
			"Client": a.client.shown(), "Host": a.client.host(), "Link": template.URL(a.client.URI), //nolint:gosec // checked to be https when it was registered
			"Device": a.scope.device, "Back": target(a.redirect), "Action": "/oauth2/authorize?" + v.URL.RawQuery, "Policy": a.client.Policy, "Terms": a.client.Terms,
		})
	}
	if v.PostFormValue("decision") != "allow" {
		return v.answer(a, "error", "access_denied")
	}
	code := rand.Text() + rand.Text()
	now := i.c.Now()
	if err := i.c.Stream.DB().Update(v.Context(), func(tx table.Tx) error {
		old, err := store.OAuthCodes.All(tx, table.Range{Index: "expires", Before: now.UnixMilli()})
		for _, o := range old {
			err = errors.Join(err, store.OAuthCodes.Delete(tx, o.Hash))
		}
		return errors.Join(err, store.OAuthCodes.Put(tx, store.OAuthCode{
			Hash: digest(code), Client: a.client.id, User: v.user, Redirect: a.redirect, Scope: a.scope.text, Challenge: a.challenge, Nonce: a.nonce,
			Proved: v.proved.UnixMilli(), Expires: now.Add(codeLifetime).UnixMilli(),
		}))
	}); err != nil {
		return err
	}
	return v.answer(a, "code", code)
}

// asked reads the request. As long as the client and its address are not known to belong together, what is wrong is shown to the user; then it is told the
// client, and answered is true.
func (v *visit) asked() (a asked, answered bool, err error) {
	query := v.URL.Query()
	if a.client, err = v.i.client(v.Context(), query.Get("client_id")); err != nil {
		if _, ok := errors.AsType[*Error](err); ok {
			err = wrong("The app is not known to this server. Go back to it and try again.")
		}
		return a, false, err
	}
	if a.redirect = query.Get("redirect_uri"); !a.client.redirects(a.redirect) {
		return a, false, wrong("The app wants to be answered at an address that is not its own.")
	}
	a.mode, a.state, a.nonce, a.challenge = query.Get("response_mode"), query.Get("state"), query.Get("nonce"), query.Get("code_challenge")
	refuse := func(code string) (asked, bool, error) { return a, true, v.answer(a, "error", code) }
	if a.mode != "" && a.mode != "query" && a.mode != "fragment" {
		return refuse("invalid_request")
	}
	if query.Get("response_type") != "code" {
		return refuse("unsupported_response_type")
	}
	if len(a.challenge) != 43 || query.Get("code_challenge_method") != "S256" {
		return refuse("invalid_request")
	}
	if a.scope, err = readScope(query.Get("scope")); err != nil {
		return refuse("invalid_scope")
	}
	return a, false, nil
}

// answer sends the browser back to the client.
func (v *visit) answer(a asked, name, value string) error {
	u, err := url.Parse(a.redirect)
	if err != nil {
		return err
	}
	values := url.Values{name: {value}, "iss": {v.i.c.URL}} // RFC 9207
	if a.state != "" {
		values.Set("state", a.state)
	}
	to := u.String()
	switch {
	case a.mode == "fragment":
		to += "#"
	case u.RawQuery != "":
		to += "&"
	default:
		to += "?"
	}
	http.Redirect(v.w, v.Request, to+values.Encode(), http.StatusSeeOther)
	return nil
}

// again is an address without one of its parameters.
func again(u *url.URL, without string) string {
	query := u.Query()
	query.Del(without)
	return u.Path + "?" + query.Encode()
}

// hinted is the name by which a client thinks that its user logs in, of a request for authorisation to which a login leads (OpenID Connect Core, section 3.1.2.1,
// login_hint; MSC4198 has users' ids in it).
func hinted(next string) string {
	u, err := url.Parse(next)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Query().Get("login_hint"), "mxid:")
}

// target is where a redirect goes, for people.
func target(redirect string) string {
	u, err := url.Parse(redirect)
	if err != nil || u.Host == "" {
		scheme, _, _ := strings.Cut(redirect, ":")
		return "the app " + scheme
	}
	return u.Host
}

// fresh says whether the user has proved who they are in the last minutes.
func (v *visit) fresh() bool { return v.i.c.Now().Sub(v.proved) < 5*time.Minute }

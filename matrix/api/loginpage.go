package api

import (
	"net/http"
	"net/url"
	"strings"
)

// loginPath is that of the page by which clients log in that know none of the ways to (clause client-server API, login fallback).
const loginPath = "/_matrix/static/client/login/"

// loginPageRoutes are that page. "The page will attempt to call the JavaScript function window.matrixLogin.onLogin(response) when login has been successfully
// completed."
func (a *API) loginPageRoutes() {
	a.route("GET "+loginPath+"{$}", a.webPage(a.loginPage))
	a.route("GET "+strings.TrimSuffix(loginPath, "/"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, (&url.URL{Path: loginPath, RawQuery: r.URL.RawQuery}).String(), http.StatusMovedPermanently)
	}))
}

func (a *API) loginPage(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	body, kept := map[string]any{}, url.Values{}
	for _, name := range []string{"device_id", "initial_device_display_name"} { // "non-credential parameters ... are to be forwarded to the login endpoint"
		if v := query.Get(name); v != "" {
			body[name] = v
			kept.Set(name, v)
		}
	}
	if query.Get("refresh_token") == "true" {
		body["refresh_token"] = true
		kept.Set("refresh_token", "true")
	}
	var providers []map[string]string
	back := a.BaseURL + loginPath
	if len(kept) > 0 {
		back += "?" + kept.Encode()
	}
	if a.sso != nil {
		for _, p := range a.Providers {
			at := "/_matrix/client/v3/login/sso/redirect/" + p.ID + "?" + url.Values{"redirectUrl": {back}}.Encode()
			providers = append(providers, map[string]string{"ID": p.ID, "Name": p.Name, "URL": at})
		}
	}
	data := map[string]any{"Server": a.Server, "Passwords": !a.NoPasswords, "Providers": providers, "Body": body, "Token": query.Get("loginToken")}
	// Apps put in what hands them the answer: an address with a scheme of theirs, in a frame that lives for a moment.
	return pages.Write(w, http.StatusOK, "login", data, "connect-src 'self'", "frame-src js:")
}

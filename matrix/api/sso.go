package api

import (
	"slices"
	"strings"

	"orrery/matrix/adminpage"
	"orrery/matrix/canonical"
	"orrery/matrix/sso"
)

const stageSSO = "m.login.sso"

func (a *API) ssoRoutes() {
	if len(a.Providers) == 0 {
		return
	}
	clients := a.SSOClients
	if a.AdminPage != nil { // which only takes a login that was begun there
		clients = append(slices.Clone(clients), strings.TrimSuffix(a.BaseURL, "/")+adminpage.Provided)
	}
	a.sso = sso.New(sso.Config{
		URL: a.BaseURL, Server: a.Server, Providers: a.Providers, Clients: clients, Accounts: a.Accounts, Stream: a.Stream, Now: a.Now, Logger: a.Logger,
		Confirmed: func(session, user string) bool { return a.auth.passUser(session, stageSSO, user) },
		Wanted:    func(session string) string { return wanted(a.auth.what(session)) },
	})
	a.route("GET login/sso/redirect", a.sso.Redirect())
	a.route("GET login/sso/redirect/{provider}", a.sso.Redirect())
	a.route("GET "+sso.Callback, a.sso.CallbackHandler())
	a.route("POST login/sso/name", a.sso.Name())
	a.route("GET auth/"+stageSSO+"/fallback/web", a.sso.Confirm())
	a.route("POST auth/"+stageSSO+"/fallback/web", a.sso.Confirm())
}

// wanted is what a request would do that waits for its user, for people.
func wanted(what string) string {
	for part, text := range map[string]string{
		"/account/password": "change your password", "/account/deactivate": "end your account", "/delete_devices": "log devices out", "/devices/": "log a device out",
		"/login/get_token": "let another device in", "/keys/device_signing": "replace the identity of your keys",
	} {
		if strings.Contains(what, part) {
			return text
		}
	}
	if what == "" {
		return ""
	}
	return "do something that needs you"
}

// ssoFlow is the login by a provider, as GET /login lists it.
func (a *API) ssoFlow() map[string]any {
	var all []map[string]string
	for _, p := range a.Providers {
		one := map[string]string{"id": p.ID, "name": p.Name}
		if p.Icon != "" {
			one["icon"] = p.Icon
		}
		if p.Brand != "" {
			one["brand"] = p.Brand
		}
		all = append(all, one)
	}
	return map[string]any{"type": stageSSO, "identity_providers": all}
}

// confirmFlows are the ways in which the user of a request can prove again who they are.
func (a *API) confirmFlows(q *request) ([][]string, map[string]stage, error) {
	flows, stages := [][]string{{stagePassword}}, map[string]stage{stagePassword: {check: a.ownPassword}}
	if a.sso == nil {
		return flows, stages, nil
	}
	has, err := a.Accounts.HasExternal(q.Context(), q.login.User)
	if err != nil || !has {
		return flows, stages, err
	}
	stages[stageSSO] = stage{check: func(*request, canonical.Value) error {
		return forbidden("the user has to log in on the page of this stage")
	}}
	u, err := a.Accounts.User(q.Context(), q.login.User)
	if u.Password == "" {
		delete(stages, stagePassword)
		return [][]string{{stageSSO}}, stages, err
	}
	return append(flows, []string{stageSSO}), stages, err
}

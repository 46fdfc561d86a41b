package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"orrery/matrix/adminpage"
)

// adminPath is below which administrators ask, as Synapse has it, so that panels and bots made for it work; docs/matrix-admin.md says what there is.
const adminPath = "/_synapse/admin/"

// adminRoutes are requests of administrators.
func (a *API) adminRoutes() {
	a.open("GET "+adminPath+"v1/server_version", func(*request) (any, error) {
		return map[string]string{"server_version": "Orrery homeserver"}, nil
	})
	a.adminUsers()
	a.adminAccounts()
	a.adminDevices()
	a.adminRooms()
	a.adminDeletions()
	a.adminTimelines()
	a.adminMedia()
	a.adminReports()
	a.adminRedactions()
	a.adminTokens()
	a.adminNotices()
	a.adminServices()
	a.adminFederation()
}

// adminPages are the pages of administrators.
func (a *API) adminPages() {
	if a.AdminPage == nil {
		return
	}
	c := adminpage.Config{
		Server: a.Server, URL: a.BaseURL, Accounts: a.Accounts, Admin: a.Admin, Media: a.Media, Now: a.Now, Logger: a.Logger, KeepMedia: a.KeepMedia,
		NoPasswords: a.NoPasswords, Token: a.authenticate, LogOut: a.logOutDevice, Deactivate: a.end, Watch: *a.AdminPage,
	}
	for _, p := range a.Providers {
		c.Providers = append(c.Providers, adminpage.Provider{Name: p.Name, URL: "/_matrix/client/v3/login/sso/redirect/" + p.ID})
	}
	pages := a.limitedPages(adminpage.New(c))
	a.mux.Handle(adminpage.Path, pages)
}

// administer registers a request of administrators.
func (a *API) administer(route string, h handler) {
	method, path, _ := strings.Cut(route, " ")
	a.in(method+" "+adminPath+path, func(q *request) (any, error) {
		if err := a.admin(q); err != nil {
			return nil, err
		}
		q.sees = true
		if q.Method != http.MethodGet {
			a.Logger.InfoContext(q.Context(), "an administrator acts", "by", cmp.Or(q.login.User, "the operator"), "request", q.Method+" "+q.URL.Path)
		}
		return h(q)
	})
}

type operatorKey struct{}

// Operator serves the requests of administrators to whoever runs the server, who needs no login: to the command, in its own process or by a socket that
// only they can open.
func (a *API) Operator() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, adminPath) {
			http.Error(w, "only requests of administrators are served here", http.StatusNotFound)
			return
		}
		a.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, true)))
	})
}

func isOperator(ctx context.Context) bool { return ctx.Value(operatorKey{}) != nil }

// page is which part of a list is wanted: how many, after how many.
func page(query url.Values) (from, limit int, err error) {
	for _, one := range []struct {
		name  string
		usual int
		to    *int
	}{{"from", 0, &from}, {"limit", 100, &limit}} {
		*one.to = one.usual
		if s := query.Get(one.name); s != "" {
			if *one.to, err = strconv.Atoi(s); err != nil || *one.to < 0 {
				return 0, 0, invalidParam(one.name + " is not a number")
			}
		}
	}
	return from, limit, nil
}

// next is where the next part of a list begins, and whether there is one.
func next(from, shown, total int) (int, bool) { return from + shown, from+shown < total && shown > 0 }

// paged is the part of a list, and where the next one begins: nil at the end.
func paged[T any](all []T, from, limit int) ([]T, *int) {
	all = all[min(from, len(all)):]
	if len(all) <= limit {
		return all, nil
	}
	next := from + limit
	return all[:limit], &next
}

// which is a parameter that is true, false or not there.
func which(query url.Values, name string) *bool {
	switch query.Get(name) {
	case "true":
		return new(true)
	case "false":
		return new(false)
	}
	return nil
}

// flag is a parameter or a field of the body that must be true or false.
func (q *request) flag(name string) (bool, error) {
	v := q.body.Get(name)
	if !v.IsTrue() && !v.IsFalse() {
		return false, badJSON(name + " is neither true nor false")
	}
	return v.IsTrue(), nil
}

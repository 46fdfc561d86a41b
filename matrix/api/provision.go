package api

import (
	"context"
	"io"
	"net/http"
	"strings"

	"orrery/matrix/canonical"
	"orrery/matrix/keys"
	"orrery/matrix/provision"
)

// provisionRoutes are what another issuer asks that shares a secret with this server, as Matrix Authentication Service does: it says who has an account, with which devices.
func (a *API) provisionRoutes() {
	accounts := provision.New(provision.Config{
		Accounts: a.Accounts, Show: a.showProfile, LogOut: a.logOutDevice, Deactivate: a.end, AllowReset: a.allowReset,
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		a.route(method+" "+provision.Path+"{name}", a.plain(func(q *request) (any, error) {
			if err := a.fromIssuer(q); err != nil {
				return nil, err
			}
			body, err := io.ReadAll(http.MaxBytesReader(q.w, q.Body, maxBody))
			if err != nil {
				return nil, err
			}
			if q.Method != http.MethodGet {
				a.Logger.InfoContext(q.Context(), "the issuer acts", "request", q.Method+" "+q.URL.Path)
			}
			status, answer, err := accounts.Do(q.Context(), q.Method, q.PathValue("name"), q.URL.Query(), body)
			if err == nil && answer == nil {
				q.w.WriteHeader(status)
			}
			q.status = status
			return answer, err
		}))
	}
}

// fromIssuer is nil for a request that the issuer makes. It may ask as often as it wants; who guesses its secret, as often as they may guess passwords.
func (a *API) fromIssuer(q *request) error {
	token, given := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	if given && a.delegate.IsIssuer(token) {
		return nil
	}
	if err := a.take(a.limits.logins, a.address(q.Request)); err != nil {
		return err
	}
	return forbidden("only the issuer asks this, by the secret that it shares with the server")
}

// allowReset lets a user replace the identity of their keys, if they have one: who has none needs no leave.
func (a *API) allowReset(ctx context.Context, user string) error {
	key, err := a.Keys.Cross(ctx, user, keys.Master, user)
	if err == nil && key.Kind() != canonical.None {
		a.delegate.Resets.Allow(user)
	}
	return err
}

package api

import (
	"orrery/matrix/account"
)

const stageToken = "m.login.token"

func (a *API) loginTokenRoutes() {
	// A device that is logged in gets a token for another one (clause client-server API, POST /login/get_token).
	a.in("POST login/get_token", func(q *request) (any, error) {
		if err := a.confirm(q); err != nil {
			return nil, err
		}
		token, err := a.Accounts.LoginToken(q.Context(), q.login.User)
		return map[string]any{"login_token": token, "expires_in_ms": account.LoginTokenLifetime.Milliseconds()}, err
	})
}

// tokenUser is whose token a login has.
func (a *API) tokenUser(q *request) (string, error) {
	token, err := q.text("token")
	if err != nil {
		return "", err
	}
	user, err := a.Accounts.UseLoginToken(q.Context(), token)
	if e, fault := toError(err); err != nil && !fault && e.Code == "M_UNKNOWN_TOKEN" {
		return "", forbidden("the login token is not known, was used, or is too old")
	}
	return user, err
}

package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// token gives a client tokens for what a user allowed it (RFC 6749, section 3.2).
func (i *Issuer) token(r *http.Request) (any, error) {
	c, err := i.asks(r)
	if err != nil {
		return nil, err
	}
	kind := r.PostFormValue("grant_type")
	if slices.Contains(grantTypes, kind) && !slices.Contains(c.Grants, kind) {
		return nil, fail("unauthorized_client", "the client was not registered for "+kind)
	}
	switch kind {
	case grantCode:
		return i.byCode(r, c)
	case grantLink:
		return i.byLink(r, c)
	case grantRefresh:
		row, err := i.c.Accounts.Inspect(r.Context(), r.PostFormValue("refresh_token"))
		var t account.Tokens
		if err == nil {
			t, err = i.c.Accounts.RefreshFor(r.Context(), r.PostFormValue("refresh_token"), c.id)
		}
		if errors.Is(err, account.ErrToken) {
			return nil, fail("invalid_grant", "the refresh token is not known")
		}
		if err != nil {
			return nil, err
		}
		return answer(t, row.Scope), nil
	}
	return nil, fail("unsupported_grant_type", "grant_type is none of "+strings.Join(grantTypes, ", "))
}

// byCode exchanges an authorisation code.
func (i *Issuer) byCode(r *http.Request, c *client) (any, error) {
	var code store.OAuthCode
	if err := i.c.Stream.DB().Update(r.Context(), func(tx table.Tx) (err error) {
		var ok bool
		hash := digest(r.PostFormValue("code"))
		if code, ok, err = store.OAuthCodes.Get(tx, hash); err != nil || !ok {
			return err
		}
		return store.OAuthCodes.Delete(tx, hash) // it counts once, whatever comes of it
	}); err != nil {
		return nil, err
	}
	verifier := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	challenge := base64.RawURLEncoding.EncodeToString(verifier[:])
	switch {
	case len(code.Hash) == 0 || code.Client != c.id || i.c.Now().UnixMilli() >= code.Expires:
		return nil, fail("invalid_grant", "the code is not known, was used, or is too old")
	case code.Redirect != r.PostFormValue("redirect_uri"):
		return nil, fail("invalid_grant", "redirect_uri is another one than the code was sent to")
	case subtle.ConstantTimeCompare([]byte(challenge), []byte(code.Challenge)) != 1:
		return nil, fail("invalid_grant", "code_verifier does not fit the code's challenge")
	}
	return i.grant(r, c, code)
}

// grant makes the tokens for what a user allowed.
func (i *Issuer) grant(r *http.Request, c *client, code store.OAuthCode) (any, error) {
	s, err := readScope(code.Scope)
	if err != nil {
		return nil, err
	}
	var t account.Tokens
	if s.device != "" {
		t, err = i.c.Accounts.Grant(r.Context(), code.User, s.device, c.shown(), i.c.Address(r), c.id, code.Scope)
	} else {
		t, err = i.c.Accounts.Identify(r.Context(), code.User, c.id, code.Scope)
	}
	if errors.Is(err, account.ErrDeactivated) || errors.Is(err, account.ErrNotFound) {
		return nil, fail("invalid_grant", "the account is not used any more")
	}
	if err != nil {
		return nil, err
	}
	a := answer(t, code.Scope)
	if s.openID {
		if a["id_token"], err = i.identity(r.Context(), c.id, code, t.Access); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func answer(t account.Tokens, scope string) map[string]any {
	a := map[string]any{"access_token": t.Access, "token_type": "Bearer", "expires_in": int64(t.Expires / time.Second), "scope": scope}
	if t.Refresh != "" {
		a["refresh_token"] = t.Refresh
	}
	return a
}

// revoke ends what a token is for: the device's other tokens, too (RFC 7009).
func (i *Issuer) revoke(r *http.Request) (any, error) {
	row, err := i.c.Accounts.Inspect(r.Context(), r.PostFormValue("token"))
	if errors.Is(err, account.ErrToken) {
		return struct{}{}, nil
	}
	if err != nil {
		return nil, err
	}
	if row.Device == "" {
		return struct{}{}, i.c.Stream.DB().Update(r.Context(), func(tx table.Tx) error { return store.Tokens.Delete(tx, row.Hash) })
	}
	return struct{}{}, i.c.LogOut(r.Context(), row.User, row.Device)
}

// introspect says to another server what a token is for (RFC 7662). It must have a secret.
func (i *Issuer) introspect(r *http.Request) (any, error) {
	c, err := i.asks(r)
	if err != nil {
		return nil, err
	}
	if len(c.secret) == 0 {
		return nil, &Error{http.StatusUnauthorized, "invalid_client", "tokens are told of only to clients with a secret"}
	}
	row, err := i.c.Accounts.Inspect(r.Context(), r.PostFormValue("token"))
	if errors.Is(err, account.ErrToken) {
		return map[string]any{"active": false}, nil
	}
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(row.User, "@"), ":")
	a := map[string]any{
		"active": true, "scope": row.Scope, "client_id": row.Client, "sub": row.User, "username": name, "iss": i.c.URL, "device_id": row.Device,
		"token_type": "access_token",
	}
	if row.Refresh {
		a["token_type"] = "refresh_token"
	}
	if row.Expires != 0 {
		a["exp"] = row.Expires / 1000
	}
	return a, nil
}

// userinfo says who a token's user is (OpenID Connect Core, section 5.3).
func (i *Issuer) userinfo(r *http.Request) (any, error) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		token = r.PostFormValue("access_token")
	}
	row, err := i.c.Accounts.Inspect(r.Context(), token)
	if errors.Is(err, account.ErrToken) || err == nil && (row.Refresh || !slices.Contains(strings.Fields(row.Scope), scopeOpenID)) {
		return nil, &Error{http.StatusUnauthorized, "invalid_token", "the token is not known, or says nothing of its user"}
	}
	if err != nil {
		return nil, err
	}
	return i.claims(r.Context(), row.User)
}

// claims is what the issuer says of a user.
func (i *Issuer) claims(ctx context.Context, user string) (map[string]any, error) {
	localpart, _, _ := strings.Cut(strings.TrimPrefix(user, "@"), ":")
	a := map[string]any{"sub": user, "preferred_username": localpart}
	profile, err := i.c.Accounts.Profile(ctx, user)
	if name := profile["displayname"]; len(name) > 0 {
		a["name"] = name
	}
	return a, err
}

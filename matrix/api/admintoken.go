package api

import (
	"bytes"
	"encoding/json"
	"time"

	"orrery/matrix/store"
)

// adminTokens are tokens by which accounts are made.
func (a *API) adminTokens() {
	a.administer("GET v1/registration_tokens", func(q *request) (any, error) {
		all, err := a.Accounts.Invitations(q.Context())
		valid := which(q.URL.Query(), "valid")
		views := []any{}
		for _, v := range all {
			if valid == nil || *valid == v.Counts(a.Now()) {
				views = append(views, viewToken(v))
			}
		}
		return map[string]any{"registration_tokens": views}, err
	})
	a.administer("GET v1/registration_tokens/{token}", func(q *request) (any, error) {
		v, err := a.Accounts.Invitation(q.Context(), q.PathValue("token"))
		return viewToken(v), err
	})
	a.administer("POST v1/registration_tokens/new", func(q *request) (any, error) {
		var in struct {
			Token   string `json:"token"`
			Uses    int64  `json:"uses_allowed"`
			Expires int64  `json:"expiry_time"`
		}
		if err := q.into(&in); err != nil {
			return nil, err
		}
		v, err := a.Accounts.Invite(q.Context(), in.Token, in.Uses, until(in.Expires))
		return viewToken(v), err
	})
	a.administer("PUT v1/registration_tokens/{token}", a.changeToken)
	a.administer("DELETE v1/registration_tokens/{token}", func(q *request) (any, error) {
		return empty, a.Accounts.Uninvite(q.Context(), q.PathValue("token"))
	})
}

// until is a time in milliseconds; 0, the zero time, is for ever.
func until(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func viewToken(v store.Invitation) map[string]any {
	out := map[string]any{"token": v.Token, "uses_allowed": nil, "pending": 0, "completed": v.Used, "expiry_time": nil}
	if v.Uses > 0 {
		out["uses_allowed"] = v.Uses
	}
	if v.Expires > 0 {
		out["expiry_time"] = v.Expires
	}
	return out
}

// changeToken changes how often a token counts and for how long: what is null is without limit, what is not there stays.
func (a *API) changeToken(q *request) (any, error) {
	var in struct {
		Uses    json.RawMessage `json:"uses_allowed"`
		Expires json.RawMessage `json:"expiry_time"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	read := func(text json.RawMessage, to *int64) error {
		switch {
		case text == nil:
			return nil
		case bytes.Equal(text, []byte("null")):
			*to = 0
			return nil
		}
		if err := json.Unmarshal(text, to); err != nil || *to < 0 {
			return invalidParam("uses_allowed and expiry_time are numbers or null")
		}
		return nil
	}
	v, err := a.Accounts.Reinvite(q.Context(), q.PathValue("token"), func(v *store.Invitation) error {
		if err := read(in.Uses, &v.Uses); err != nil {
			return err
		}
		return read(in.Expires, &v.Expires)
	})
	return viewToken(v), err
}

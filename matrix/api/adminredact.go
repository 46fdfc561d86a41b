package api

import (
	"slices"

	"orrery/matrix"
	"orrery/matrix/admin"
	"orrery/matrix/store"
)

// defaultRedactions is how many events of a user are looked at in each room unless it is said.
const defaultRedactions = 1000

// adminRedactions redact what a user sent.
func (a *API) adminRedactions() {
	a.administer("POST v1/user/{user}/redact", a.beginRedacting)
	a.administer("GET v1/user/redact_status/{id}", func(q *request) (any, error) {
		r, failed, err := a.Admin.Redacted(q.Context(), q.PathValue("id"))
		if err != nil {
			return nil, err
		}
		why := map[string]string{}
		for _, f := range failed {
			why[f.Event] = f.Why
		}
		answer := map[string]any{"status": r.Status, "failed_redactions": why}
		if r.Why != "" {
			answer["error"] = r.Why
		}
		return answer, nil
	})
}

func (a *API) beginRedacting(q *request) (any, error) {
	var in struct {
		Rooms  *[]string `json:"rooms"`
		Reason string    `json:"reason"`
		Limit  *int64    `json:"limit"`
		Always bool      `json:"use_admin"`
		After  int64     `json:"after_ts"`
		Before *int64    `json:"before_ts"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	user, limit := q.PathValue("user"), int64(defaultRedactions)
	if err := matrix.ValidUser(user); err != nil {
		return nil, invalidParam(err.Error())
	}
	if in.Rooms == nil {
		return nil, missing("rooms")
	}
	if in.Limit != nil {
		if limit = *in.Limit; limit <= 0 {
			return nil, invalidParam("limit is not greater than 0")
		}
	}
	r := admin.Redacting{Redaction: store.Redaction{User: user, By: q.login.User, Always: in.Always, Reason: in.Reason, After: in.After}, Rooms: slices.Compact(slices.Sorted(slices.Values(*in.Rooms))), Limit: limit}
	if in.Before != nil {
		if r.Before = *in.Before; r.Before <= 0 {
			return nil, invalidParam("before_ts is not greater than 0")
		}
	}
	id, err := a.Admin.BeginRedacting(q.Context(), r)
	return map[string]string{"redact_id": id}, err
}

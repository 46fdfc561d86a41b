package api

import (
	"net/http"
	"strings"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// moderationRoutes are reports, and what administrators do to accounts (clauses client-server API, reporting content and server administration).
func (a *API) moderationRoutes() {
	a.in("POST rooms/{room}/report/{event}", func(q *request) (any, error) {
		r, err := a.find(q)
		if err != nil || r.Membership(q.login.User) != matrix.Join {
			return nil, notFound("there is no such event, or you are not a member of its room")
		}
		e, err := r.Event(q.Context(), q.PathValue("event"))
		if err != nil {
			return nil, err
		}
		return empty, a.report(q, store.Report{Room: r.ID(), Event: e.ID(), Subject: e.Sender()})
	})
	a.in("POST rooms/{room}/report", func(q *request) (any, error) {
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return empty, a.report(q, store.Report{Room: r.ID()})
	})
	a.in("POST users/{user}/report", func(q *request) (any, error) {
		u, err := a.Accounts.User(q.Context(), q.PathValue("user"))
		if err != nil {
			return nil, err
		}
		return empty, a.report(q, store.Report{Subject: u.ID})
	})
	for name, f := range map[string]struct {
		get func(store.User) bool
		set func(*store.User, bool)
	}{
		"suspend": {func(u store.User) bool { return u.Suspended }, func(u *store.User, v bool) { u.Suspended = v }},
		"lock":    {func(u store.User) bool { return u.Locked }, func(u *store.User, v bool) { u.Locked = v }},
	} {
		field := map[string]string{"suspend": "suspended", "lock": "locked"}[name]
		a.in("GET admin/"+name+"/{user}", func(q *request) (any, error) {
			u, err := a.moderated(q)
			return map[string]bool{field: f.get(u)}, err
		})
		a.in("PUT admin/"+name+"/{user}", func(q *request) (any, error) {
			u, err := a.moderated(q)
			if err != nil {
				return nil, err
			}
			if u.Admin || u.ID == q.login.User {
				return nil, forbidden("administrators are not to be suspended or locked")
			}
			v := q.body.Get(field)
			if v.Kind() != canonical.Bool {
				return nil, badJSON(field + " is neither true nor false")
			}
			return map[string]bool{field: v.IsTrue()}, a.Accounts.Moderate(q.Context(), u.ID, func(u *store.User) { f.set(u, v.IsTrue()) })
		})
	}
	a.in("GET admin/whois/{user}", a.whois)
}

// report keeps what a user says.
func (a *API) report(q *request, r store.Report) error {
	var err error
	if r.Reason, err = q.text("reason"); err != nil {
		return err
	}
	if len(r.Reason) > 10_000 {
		return fail(http.StatusBadRequest, "M_TOO_LARGE", "the reason is too long")
	}
	score := q.body.Get("score")
	if r.Score, _ = score.Int(); score.Kind() != canonical.None && score.Kind() != canonical.Number {
		return badJSON("score is not a number")
	}
	r.User, r.Time = q.login.User, a.Now().UnixMilli()
	a.Logger.InfoContext(q.Context(), "something was reported", "by", r.User, "room", r.Room, "event", r.Event, "user", r.Subject)
	return a.Stream.DB().Update(q.Context(), func(tx table.Tx) error { return store.NewReport(tx, r) })
}

// admin sees to it that an administrator asks.
func (a *API) admin(q *request) error {
	if isOperator(q.Context()) {
		return nil
	}
	u, err := a.Accounts.User(q.Context(), q.login.User)
	if err == nil && !u.Admin {
		err = forbidden("you are no administrator")
	}
	return err
}

// moderated is the account in the path, for an administrator.
func (a *API) moderated(q *request) (store.User, error) {
	if err := a.admin(q); err != nil {
		return store.User{}, err
	}
	if !a.Accounts.Local(q.PathValue("user")) {
		return store.User{}, invalidParam("this is no user of this server")
	}
	u, err := a.Accounts.User(q.Context(), q.PathValue("user"))
	if err == nil && u.Deactivated {
		err = notFound("the account is deactivated")
	}
	return u, err
}

// whois says where a user was seen (clause client-server API, GET /admin/whois).
func (a *API) whois(q *request) (any, error) {
	user := q.PathValue("user")
	if user != q.login.User {
		if err := a.admin(q); err != nil {
			return nil, err
		}
	}
	if _, err := a.Accounts.User(q.Context(), user); err != nil {
		return nil, err
	}
	all, err := a.Accounts.Devices(q.Context(), user)
	devices := map[string]any{}
	for _, d := range all {
		devices[d.ID] = map[string]any{"sessions": []any{map[string]any{"connections": []any{map[string]any{"ip": d.Address, "last_seen": d.Seen}}}}}
	}
	return map[string]any{"user_id": user, "devices": devices}, err
}

// suspendable are the requests that a suspended user cannot make, without their last parts: what others would see, other than to leave and to take back
// (clause client-server API, account suspension).
var suspendable = []string{
	"POST createRoom", "POST join/", "POST knock/", "POST rooms/{room}/join", "POST rooms/{room}/invite", "POST rooms/{room}/kick", "POST rooms/{room}/ban",
	"POST rooms/{room}/unban", "POST rooms/{room}/upgrade", "PUT rooms/{room}/send/", "PUT rooms/{room}/state/", "PUT rooms/{room}/typing/", "PUT profile/", "DELETE profile/",
	"PUT directory/", "DELETE directory/", "POST /_matrix/media/", "PUT /_matrix/media/",
}

// moderate refuses what locked and suspended users cannot do (clauses client-server API, account locking and account suspension).
func moderate(l account.Login, route string) error {
	switch {
	case l.Locked && route != "POST logout" && route != "POST logout/all":
		e := fail(http.StatusUnauthorized, "M_USER_LOCKED", "this account is locked")
		e.More = map[string]any{"soft_logout": true}
		return e
	case l.Suspended:
		for _, s := range suspendable {
			if strings.HasPrefix(route, s) {
				return fail(http.StatusForbidden, "M_USER_SUSPENDED", "this account is suspended")
			}
		}
	}
	return nil
}

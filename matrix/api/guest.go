package api

import (
	"net/http"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
)

// guestMay are the requests that guests can make (clause client-server API, guest access: client behaviour).
var guestMay = set(
	"GET rooms/{room}/state", "GET rooms/{room}/state/{type}", "GET rooms/{room}/state/{type}/{key}", "GET rooms/{room}/state/{type}/{$}",
	"GET rooms/{room}/context/{event}", "GET rooms/{room}/event/{event}", "GET rooms/{room}/messages", "GET rooms/{room}/members",
	"GET rooms/{room}/joined_members", "GET rooms/{room}/initialSync", "GET joined_rooms", "GET sync", "GET events", "GET capabilities", "GET pushrules/{$}",
	"POST rooms/{room}/join", "POST join/{room}", "POST rooms/{room}/leave", "POST rooms/{room}/forget", "POST rooms/{room}/read_markers",
	"POST rooms/{room}/receipt/{type}/{event}", "PUT rooms/{room}/typing/{user}", "PUT rooms/{room}/send/{type}/{txn}", "PUT rooms/{room}/state/{type}/{key}",
	"PUT sendToDevice/{type}/{txn}", "PUT profile/{user}/{field}", "GET devices", "GET devices/{device}", "PUT devices/{device}",
	"POST keys/upload", "POST keys/query", "POST keys/claim", "GET keys/changes", "GET account/whoami", "POST logout", "POST logout/all",
	"POST user/{user}/filter", "GET user/{user}/filter/{filter}",
	"GET /_matrix/client/v1/media/thumbnail/{server}/{id}", "GET /_matrix/client/v1/media/download/{server}/{id}", "GET /_matrix/client/v1/media/download/{server}/{id}/{name}",
)

func set(all ...string) map[string]bool {
	m := map[string]bool{}
	for _, s := range all {
		m[s] = true
	}
	return m
}

// guestAllowed is nil unless a guest's login is not enough for a request.
func (q *request) guestAllowed(route string) error {
	if !q.login.Guest || guestMay[route] {
		return nil
	}
	return fail(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "guests cannot do this (make an account)")
}

var guestAccess = matrix.Key{Type: "m.room.guest_access"}

// letsGuests says whether a room is open to guests, by the event of its state (clause client-server API, m.room.guest_access).
func letsGuests(e *room.Entry) bool {
	return e != nil && e.Content().Get("guest_access").String() == "can_join"
}

// dropGuests takes guests out of a room that is not open to them any more, as this server's part of its clause.
func (a *API) dropGuests(q *request, r *room.Room) error {
	if letsGuests(r.State(guestAccess)) {
		return nil
	}
	for _, user := range r.Joined() {
		if !a.Accounts.Local(user) {
			continue
		}
		u, err := a.Accounts.User(q.Context(), user)
		if err != nil || !u.Guest {
			continue
		}
		if err := r.Do(q.Context(), func(t *room.Turn) error {
			_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(matrix.Leave)})})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

package api

import "unicode/utf8"

// maxStatus is how long what somebody says of themselves may be, in characters.
const maxStatus = 1000

// presenceRoutes are who is there (clause client-server API, presence).
func (a *API) presenceRoutes() {
	const path = "presence/{user}/status"
	a.in("PUT "+path, func(q *request) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		state, err := q.text("presence")
		if err != nil {
			return nil, err
		}
		if state == "" {
			return nil, missing("presence")
		}
		if err := presence(state); err != nil {
			return nil, err
		}
		status, err := q.text("status_msg")
		if err != nil {
			return nil, err
		}
		if utf8.RuneCountInString(status) > maxStatus {
			return nil, invalidParam("status_msg is longer than 1000 characters")
		}
		return empty, a.Syncer.SetPresence(q.Context(), q.login.User, state, status)
	})
	a.in("GET "+path, func(q *request) (any, error) {
		user := q.PathValue("user")
		shares, err := a.Syncer.SharesRoom(q.Context(), q.login.User, user)
		if err != nil {
			return nil, err
		}
		if !shares {
			return nil, forbidden("you share no room with " + user)
		}
		return a.Syncer.Presence(q.Context(), user)
	})
}

// presence says whether a word is a state of presence, or none.
func presence(word string) error {
	switch word {
	case "", "online", "unavailable", "offline":
		return nil
	}
	return invalidParam("presence is online, unavailable or offline")
}

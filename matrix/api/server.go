package api

import (
	"maps"
	"net/http"

	"orrery/matrix"
	"orrery/matrix/contact"
	"orrery/matrix/federation"
)

// versions of the specification whose requests are served.
var versions = []string{
	"r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
}

// unstable are the parts of future versions that are served, by their flags.
var unstable = map[string]bool{
	"org.matrix.simplified_msc3575":                  true, // MSC4186
	"org.matrix.e2e_cross_signing":                   true, // without it Element Web of up to 2025 makes no keys for cross-signing, and verifies nobody
	"org.matrix.msc3391":                             true, // DELETE of account data
	"org.matrix.msc3814":                             true, // dehydrated devices
	"org.matrix.msc3827.stable":                      true, // publicRooms by types of rooms; without it Element Web asks for no spaces
	"org.matrix.msc3874":                             true, // GET messages by relations
	"org.matrix.msc3930":                             true, // push rules for polls
	"org.matrix.msc4140":                             true, // events that are sent later
	"org.matrix.msc4222":                             true, // GET sync, use_state_after
	"uk.half-shot.msc2666.query_mutual_rooms.stable": true,
}

// features are the unstable parts that this server serves.
func (a *API) features() map[string]bool {
	all := maps.Clone(unstable)
	if a.Subscriptions {
		all["org.matrix.msc4306"] = true // subscriptions to threads, MSC4308
	}
	if len(a.Transports) > 0 {
		all["org.matrix.msc4143"] = true // transports of calls
	}
	if a.meets() {
		all["org.matrix.msc4108"] = true // logging in by a picture
	}
	return all
}

func (a *API) serverRoutes() {
	features := a.features()
	a.open("GET /_matrix/client/versions", func(*request) (any, error) {
		return map[string]any{"versions": versions, "unstable_features": features}, nil
	})
	a.open("GET /.well-known/matrix/client", func(*request) (any, error) {
		if a.BaseURL == "" {
			return nil, fail(http.StatusNotFound, "M_NOT_FOUND", "the server does not say where it is")
		}
		known := map[string]any{"m.homeserver": map[string]string{"base_url": a.BaseURL}}
		if at := a.Identity.First(); at != "" {
			known["m.identity_server"] = map[string]string{"base_url": at}
		}
		if len(a.Transports) > 0 { // where clients look that do not know of the request
			known["org.matrix.msc4143.rtc_foci"] = a.Transports
		}
		return known, nil
	})
	a.mux.Handle("GET "+federation.WellKnown, a.Servers)
	if len(a.Transports) > 0 { // MSC4143, discovery of RTC transports
		a.in("GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports", func(*request) (any, error) {
			return map[string]any{"rtc_transports": a.Transports}, nil
		})
	}
	a.in("GET capabilities", func(q *request) (any, error) {
		available := map[string]string{}
		for _, v := range matrix.Versions {
			available[v.ID] = "stable"
		}
		capabilities := map[string]any{
			"m.room_versions":            map[string]any{"default": a.RoomVersion, "available": available},
			"m.change_password":          map[string]bool{"enabled": true},
			"m.set_displayname":          map[string]bool{"enabled": true},
			"m.set_avatar_url":           map[string]bool{"enabled": true},
			"m.3pid_changes":             map[string]bool{"enabled": a.Validations.Sends(contact.Email) || a.Validations.Sends(contact.MSISDN)},
			"m.get_login_token":          map[string]bool{"enabled": true},
			"m.profile_fields":           map[string]bool{"enabled": true},
			"m.forget_forced_upon_leave": map[string]bool{"enabled": false},
		}
		if a.admin(q) == nil {
			capabilities["m.account_moderation"] = map[string]bool{"suspend": true, "lock": true}
		}
		return map[string]any{"capabilities": capabilities}, nil
	})
}

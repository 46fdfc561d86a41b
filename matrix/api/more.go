package api

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/table"
)

// Turn is a server by which clients reach one another for calls (clause client-server API, voice over IP).
type Turn struct {
	URIs     []string
	Secret   string // shared with the server, which makes user names and passwords of it
	Lifetime time.Duration
}

// Contact is somebody who helps with this server (clause client-server API, well-known URI, support).
type Contact struct {
	Role  string `yaml:"role" json:"role"`
	ID    string `yaml:"matrix_id" json:"matrix_id,omitempty"`
	Email string `yaml:"email_address" json:"email_address,omitempty"`
}

func (a *API) moreRoutes() {
	a.in("GET voip/turnServer", a.turn)
	a.open("GET /.well-known/matrix/support", func(*request) (any, error) {
		if len(a.Contacts) == 0 && a.SupportPage == "" {
			return nil, fail(http.StatusNotFound, "M_NOT_FOUND", "the server does not say who helps with it")
		}
		answer := map[string]any{}
		if len(a.Contacts) > 0 {
			answer["contacts"] = a.Contacts
		}
		if a.SupportPage != "" {
			answer["support_page"] = a.SupportPage
		}
		return answer, nil
	})
	for _, path := range []string{"GET mutual_rooms", "GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"} {
		a.in(path, a.mutualRooms)
	}
	a.in("GET rooms/{room}/timestamp_to_event", a.eventAt)
	a.openIDRoutes()
}

// turn makes a user name and a password for calls, as servers for TURN have them made of a shared secret: the user name says until when they count.
func (a *API) turn(q *request) (any, error) {
	if len(a.Turn.URIs) == 0 {
		return empty, nil
	}
	name := fmt.Sprintf("%d:%s", a.Now().Add(a.Turn.Lifetime).Unix(), q.login.User)
	mac := hmac.New(sha1.New, []byte(a.Turn.Secret))
	_, _ = mac.Write([]byte(name))
	return map[string]any{
		"username": name, "password": base64.StdEncoding.EncodeToString(mac.Sum(nil)), "uris": a.Turn.URIs, "ttl": int(a.Turn.Lifetime.Seconds()),
	}, nil
}

// mutualRooms are the rooms of which the user and another one are members (MSC2666, GET /_matrix/client/v1/mutual_rooms).
func (a *API) mutualRooms(q *request) (any, error) {
	other := q.URL.Query().Get("user_id")
	if err := matrix.ValidUser(other); err != nil || other == q.login.User {
		return nil, invalidParam("user_id is not another user")
	}
	if q.URL.Query().Get("from") != "" {
		return nil, invalidParam("from is not of this server: all rooms are in one answer")
	}
	mine, err := a.roomsOf(q.Context(), q.login.User, matrix.Join)
	if err != nil {
		return nil, err
	}
	theirs, err := a.roomsOf(q.Context(), other, matrix.Join)
	if err != nil {
		return nil, err
	}
	mine = slices.DeleteFunc(mine, func(id string) bool { return !slices.Contains(theirs, id) })
	return map[string]any{"joined": mine, "count": len(mine)}, nil
}

// nearby is how many events are looked at where those around a time are.
const nearby = 100

// eventAt is the event that is the closest to a time, before or after it (clause client-server API, GET timestamp_to_event). Events are nearly in the order of
// their times: the place is found by halving, and looked at.
func (a *API) eventAt(q *request) (any, error) {
	r, err := a.readable(q)
	if err != nil {
		return nil, err
	}
	ts, err := strconv.ParseInt(q.URL.Query().Get("ts"), 10, 64)
	if err != nil {
		return nil, invalidParam("ts is not a time in milliseconds")
	}
	forward := q.URL.Query().Get("dir") != "b"
	low, high := int64(0), r.Last() // the first event with a later time is after low, and not after high
	for low < high {
		middle := low + (high-low)/2
		some, err := r.Page(q.Context(), table.Range{From: middle + 1, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(some) > 0 && some[0].Timestamp() < ts {
			low = some[0].Order
		} else {
			high = middle
		}
	}
	var around []*room.Entry
	for _, of := range []table.Range{{Before: low + 1, Descending: true, Limit: nearby}, {From: low + 1, Limit: nearby}} {
		page, err := r.Page(q.Context(), of)
		if err != nil {
			return nil, err
		}
		around = append(around, page...)
	}
	if around, err = q.visible(r, around); err != nil {
		return nil, err
	}
	var best *room.Entry
	for _, e := range around {
		t := e.Timestamp()
		if forward && t >= ts && (best == nil || t < best.Timestamp()) || !forward && t <= ts && (best == nil || t > best.Timestamp()) {
			best = e
		}
	}
	if best == nil {
		return nil, notFound("the room has no event there")
	}
	return map[string]any{"event_id": best.ID(), "origin_server_ts": best.Timestamp()}, nil
}

// How long somebody else's service can ask whose an OpenID token is, and how many of them count at a time.
const (
	openIDLifetime = time.Hour
	maxOpenID      = 10_000
)

// openIDRoutes let users prove to other services who they are (clauses client-server API, OpenID; server-server API, OpenID). Tokens are in memory: they are
// asked about at once.
func (a *API) openIDRoutes() {
	type token struct {
		user  string
		until time.Time
	}
	var mu sync.Mutex
	all := map[string]token{}
	a.in("POST user/{user}/openid/request_token", func(q *request) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		name := "oid_" + rand.Text()
		mu.Lock()
		defer mu.Unlock()
		for other, t := range all {
			if len(all) >= maxOpenID || a.Now().After(t.until) {
				delete(all, other)
			}
		}
		all[name] = token{q.login.User, a.Now().Add(openIDLifetime)}
		return map[string]any{"access_token": name, "token_type": "Bearer", "matrix_server_name": a.Server, "expires_in": int(openIDLifetime.Seconds())}, nil
	})
	a.open("GET /_matrix/federation/v1/openid/userinfo", func(q *request) (any, error) {
		name := q.URL.Query().Get("access_token")
		if name == "" {
			return nil, fail(http.StatusUnauthorized, "M_MISSING_TOKEN", "access_token is missing")
		}
		mu.Lock()
		defer mu.Unlock()
		t, ok := all[name]
		if !ok || a.Now().After(t.until) {
			return nil, fail(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "the token is not known, or too old")
		}
		return map[string]string{"sub": t.user}, nil
	})
}

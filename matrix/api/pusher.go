package api

import (
	"context"
	"encoding/json"
	"net/url"

	"orrery/matrix/canonical"
	"orrery/matrix/push"
	"orrery/matrix/store"
	"orrery/matrix/sync"
)

// pusherRoutes are where users' notifications are sent, and which there were (clause client-server API, push notifications).
func (a *API) pusherRoutes() {
	a.in("GET pushers", func(q *request) (any, error) {
		all, err := a.viewPushers(q.Context(), q.login.User)
		return map[string]any{"pushers": all}, err
	})
	a.in("POST pushers/set", a.setPusher)
	a.in("GET notifications", a.notifications)
}

func (a *API) viewPushers(ctx context.Context, user string) ([]any, error) {
	rows, err := a.Pushers.List(ctx, user)
	all := []any{}
	for _, p := range rows {
		one := map[string]any{
			"app_id": p.App, "pushkey": p.Key, "kind": p.Kind, "app_display_name": p.AppName, "device_display_name": p.DeviceName, "lang": p.Lang, "data": json.RawMessage(p.Data),
		}
		if p.Tag != "" {
			one["profile_tag"] = p.Tag
		}
		all = append(all, one)
	}
	return all, err
}

// Limits of a pusher's names (clause client-server API, POST /pushers/set).
const (
	maxPushKey = 512
	maxAppID   = 64
	notifyPath = "/_matrix/push/v1/notify"
)

// setPusher makes, changes or, without a kind, removes a pusher.
func (a *API) setPusher(q *request) (any, error) {
	p := store.Pusher{User: q.login.User, Device: q.login.Device}
	kind, given := q.body.Find("kind")
	for _, f := range []struct {
		name string
		to   *string
		most int
		need bool
	}{
		{"pushkey", &p.Key, maxPushKey, true},
		{"app_id", &p.App, maxAppID, true},
		{"app_display_name", &p.AppName, 1000, kind.Kind() == canonical.String},
		{"device_display_name", &p.DeviceName, 1000, kind.Kind() == canonical.String},
		{"lang", &p.Lang, 100, kind.Kind() == canonical.String},
		{"profile_tag", &p.Tag, 100, false},
	} {
		var err error
		if *f.to, err = q.text(f.name); err != nil {
			return nil, err
		}
		if _, there := q.body.Find(f.name); f.need && !there {
			return nil, missing(f.name)
		}
		if len(*f.to) > f.most {
			return nil, invalidParam(f.name + " is too long")
		}
	}
	if !given {
		return nil, missing("kind")
	}
	if kind.Kind() == canonical.Null {
		return empty, a.Pushers.Remove(q.Context(), p.User, p.App, p.Key)
	}
	if p.Kind = kind.String(); p.Kind != "http" {
		return nil, invalidParam("there are no pushers of that kind, only of http")
	}
	data := q.body.Get("data")
	if data.Kind() != canonical.Object {
		return nil, missing("data")
	}
	u, err := url.Parse(data.Get("url").String())
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != notifyPath || u.User != nil {
		return nil, invalidParam("data.url is not https://HOST" + notifyPath)
	}
	if format := data.Get("format"); format.Kind() != canonical.None && format.Kind() != canonical.Null && format.String() != "event_id_only" {
		return nil, invalidParam("data.format is event_id_only, or is not there")
	}
	p.Data = data.JSON()
	return empty, a.Pushers.Set(q.Context(), p, q.body.Get("append").IsTrue())
}

// notifications are events that notified the user, newest first.
func (a *API) notifications(q *request) (any, error) {
	n, err := limit(q, 20, 100)
	if err != nil {
		return nil, err
	}
	before := a.Stream.Current() + 1
	if s := q.URL.Query().Get("from"); s != "" {
		if before, _, err = a.Syncer.ReadToken(s); err != nil {
			return nil, err
		}
	}
	found, next, err := a.Syncer.Notifications(q.Context(), q.login.User, before, max(n, 1), q.URL.Query().Get("only") == "highlight")
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, n := range found {
		all = append(all, map[string]any{
			"actions": actionsOf(n.Outcome), "event": sync.Client(n.Event, q.login.User, q.login.Device, true), "read": n.Read, "room_id": n.Room.ID(), "ts": n.Event.Timestamp(),
		})
	}
	answer := map[string]any{"notifications": all}
	if next != 0 {
		answer["next_token"] = a.Syncer.Token(next)
	}
	return answer, nil
}

// actionsOf are what an event did, as the actions of a rule.
func actionsOf(o push.Outcome) []any {
	all := []any{"notify"}
	for name, value := range o.Tweaks {
		all = append(all, map[string]any{"set_tweak": name, "value": value})
	}
	return all
}

package api

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/matrix/store"
)

// adminMedia are what users uploaded.
func (a *API) adminMedia() {
	quarantine := func(quarantined bool) handler {
		return func(q *request) (any, error) {
			return empty, a.Media.Quarantine(q.Context(), q.PathValue("media"), quarantined)
		}
	}
	a.administer("POST v1/media/quarantine/{server}/{media}", quarantine(true))
	a.administer("POST v1/media/unquarantine/{server}/{media}", quarantine(false))
	a.administer("GET v1/media/{server}/{media}", func(q *request) (any, error) {
		m, err := a.Media.Info(q.Context(), q.PathValue("media"))
		return map[string]any{"media_info": viewMedia(m)}, err
	})
	a.administer("DELETE v1/media/{server}/{media}", func(q *request) (any, error) {
		id := q.PathValue("media")
		return map[string]any{"deleted_media": []string{id}, "total": 1}, a.Media.Delete(q.Context(), id)
	})
	a.administer("POST v1/media/delete", a.deleteMedia)
	a.administer("POST v1/media/{server}/delete", a.deleteMedia)
	a.administer("GET v1/users/{user}/media", func(q *request) (any, error) {
		from, limit, err := page(q.URL.Query())
		if err != nil {
			return nil, err
		}
		all, err := a.Media.Of(q.Context(), q.PathValue("user"), time.Time{})
		if q.URL.Query().Get("dir") == "b" {
			slices.Reverse(all)
		}
		shown, next := paged(all, from, limit)
		views := []any{}
		for _, m := range shown {
			views = append(views, viewMedia(m))
		}
		answer := map[string]any{"media": views, "total": len(all)}
		if next != nil {
			answer["next_token"] = *next
		}
		return answer, err
	})
	a.administer("DELETE v1/users/{user}/media", func(q *request) (any, error) {
		all, err := a.Media.Of(q.Context(), q.PathValue("user"), time.Time{})
		if err != nil {
			return nil, err
		}
		return a.removeMedia(q.Context(), all)
	})
	a.administer("POST v1/user/{user}/media/quarantine", func(q *request) (any, error) {
		all, err := a.Media.Of(q.Context(), q.PathValue("user"), time.Time{})
		if err != nil {
			return nil, err
		}
		return a.quarantine(q.Context(), all)
	})
	a.administer("GET v1/room/{room}/media", func(q *request) (any, error) {
		all, err := a.Admin.Media(q.Context(), q.PathValue("room"))
		local := []string{}
		for _, m := range all {
			local = append(local, "mxc://"+a.Server+"/"+m.ID)
		}
		return map[string]any{"local": local, "remote": []string{}, "total": len(local)}, err
	})
	a.administer("POST v1/room/{room}/media/quarantine", func(q *request) (any, error) {
		all, err := a.Admin.Media(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		return a.quarantine(q.Context(), all)
	})
	a.administer("GET v1/statistics/users/media", a.mediaStatistics)
}

// mediaStatistics is how much each user uploaded, the most first unless it is asked otherwise.
func (a *API) mediaStatistics(q *request) (any, error) {
	query := q.URL.Query()
	from, limit, err := page(query)
	if err != nil {
		return nil, err
	}
	all, err := a.Media.Stats(q.Context())
	if err != nil {
		return nil, err
	}
	type usage struct {
		User  string  `json:"user_id"`
		Shown *string `json:"displayname"`
		Count int     `json:"media_count"`
		Bytes int64   `json:"media_length"`
	}
	found := []usage{}
	for _, u := range all {
		if wanted := strings.ToLower(query.Get("search_term")); strings.Contains(strings.ToLower(u.User), wanted) {
			found = append(found, usage{User: u.User, Count: u.Count, Bytes: u.Bytes})
		}
	}
	slices.SortStableFunc(found, func(x, y usage) int {
		n := cmp.Compare(x.Bytes, y.Bytes)
		switch query.Get("order_by") {
		case "user_id":
			n = cmp.Compare(x.User, y.User)
		case "media_count":
			n = cmp.Compare(x.Count, y.Count)
		}
		if query.Get("dir") == "b" || query.Get("dir") == "" && query.Get("order_by") == "" {
			return -n
		}
		return n
	})
	shown, next := paged(found, from, limit)
	for i := range shown {
		if u, err := a.Admin.User(q.Context(), shown[i].User); err == nil && u.Name != "" {
			shown[i].Shown = &u.Name
		}
	}
	answer := map[string]any{"users": shown, "total": len(found)}
	if next != nil {
		answer["next_token"] = *next
	}
	return answer, nil
}

func viewMedia(m store.Media) map[string]any {
	v := map[string]any{
		"media_id": m.ID, "media_type": m.Type, "media_length": m.Size, "upload_name": m.Name, "created_ts": m.Created, "user_id": m.User,
		"last_access_ts": nil, "quarantined_by": nil, "safe_from_quarantine": false,
	}
	if m.Quarantined {
		v["quarantined_by"] = "an administrator"
	}
	return v
}

// deleteMedia removes what was uploaded before a time and is not small; or, with dry_run, only says what that would be. user_id is of one user only.
func (a *API) deleteMedia(q *request) (any, error) {
	query := q.URL.Query()
	before, err := strconv.ParseInt(query.Get("before_ts"), 10, 64)
	size, sizeErr := strconv.ParseInt(cmp.Or(query.Get("size_gt"), "0"), 10, 64)
	if err != nil || sizeErr != nil || before < 0 {
		return nil, invalidParam("before_ts and size_gt are numbers")
	}
	all, err := a.Media.Of(q.Context(), query.Get("user_id"), time.UnixMilli(before))
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m store.Media) bool { return m.Size <= size && size > 0 })
	if query.Get("dry_run") == "true" {
		return removal(all), nil
	}
	return a.removeMedia(q.Context(), all)
}

func (a *API) removeMedia(ctx context.Context, all []store.Media) (any, error) {
	for _, m := range all {
		if err := a.Media.Delete(ctx, m.ID); err != nil {
			return nil, err
		}
	}
	return removal(all), nil
}

func removal(all []store.Media) map[string]any {
	ids, bytes := []string{}, int64(0)
	for _, m := range all {
		ids = append(ids, m.ID)
		bytes += m.Size
	}
	return map[string]any{"deleted_media": ids, "total": len(ids), "bytes": bytes}
}

func (a *API) quarantine(ctx context.Context, all []store.Media) (any, error) {
	n := 0
	for _, m := range all {
		if m.Quarantined {
			continue
		}
		if err := a.Media.Quarantine(ctx, m.ID, true); err != nil {
			return nil, err
		}
		n++
	}
	return map[string]int{"num_quarantined": n}, nil
}

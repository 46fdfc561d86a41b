package api

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"

	"orrery/matrix/canonical"
	"orrery/matrix/keys"
	"orrery/matrix/store"
)

// backupRoutes are backups of the keys by which messages are encrypted (clause client-server API, server-side key backups).
func (a *API) backupRoutes() {
	a.in("POST room_keys/version", func(q *request) (any, error) {
		algorithm, auth, err := backupForm(q)
		if err != nil {
			return nil, err
		}
		version, err := a.Keys.NewBackup(q.Context(), q.login.User, algorithm, auth)
		return map[string]string{"version": strconv.FormatInt(version, 10)}, err
	})
	a.in("GET room_keys/version", func(q *request) (any, error) { return a.backup(q, 0) })
	const one = "room_keys/version/{version}"
	a.in("GET "+one, func(q *request) (any, error) {
		version, err := number(q.PathValue("version"))
		if err != nil {
			return nil, err
		}
		return a.backup(q, version)
	})
	a.in("PUT "+one, func(q *request) (any, error) {
		version, err := number(q.PathValue("version"))
		if err != nil {
			return nil, err
		}
		if in := q.body.Get("version").String(); in != "" && in != q.PathValue("version") {
			return nil, invalidParam("the version in the request is not that in its path")
		}
		algorithm, auth, err := backupForm(q)
		if err != nil {
			return nil, err
		}
		return empty, a.Keys.ChangeBackup(q.Context(), q.login.User, version, algorithm, auth)
	})
	a.in("DELETE "+one, func(q *request) (any, error) {
		version, err := number(q.PathValue("version"))
		if err != nil {
			return nil, err
		}
		return empty, a.Keys.DropBackup(q.Context(), q.login.User, version)
	})
	for _, path := range []string{"room_keys/keys", "room_keys/keys/{room}", "room_keys/keys/{room}/{session}"} {
		a.in("PUT "+path, a.putKeys)
		a.in("GET "+path, a.getKeys)
		a.in("DELETE "+path, func(q *request) (any, error) {
			version, err := number(q.URL.Query().Get("version"))
			if err != nil {
				return nil, err
			}
			b, err := a.Keys.Unstore(q.Context(), q.login.User, version, q.PathValue("room"), q.PathValue("session"))
			return tally(b), err
		})
	}
}

func number(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, notFound("there is no backup of version " + s)
	}
	return n, nil
}

func backupForm(q *request) (string, canonical.Value, error) {
	auth := q.body.Get("auth_data")
	algorithm := q.body.Get("algorithm").String()
	if algorithm == "" || auth.Kind() != canonical.Object {
		return "", auth, missing("algorithm or auth_data")
	}
	return algorithm, auth, nil
}

func tally(b store.BackupVersion) map[string]any {
	return map[string]any{"count": b.Count, "etag": strconv.FormatInt(b.ETag, 10)}
}

func (a *API) backup(q *request, version int64) (any, error) {
	b, err := a.Keys.Backup(q.Context(), q.login.User, version)
	answer := tally(b)
	answer["version"], answer["algorithm"], answer["auth_data"] = strconv.FormatInt(b.Version, 10), b.Algorithm, json.RawMessage(b.AuthData)
	return answer, err
}

// putKeys stores keys: of one session, of a room's, or of several rooms'.
func (a *API) putKeys(q *request) (any, error) {
	version, err := number(q.URL.Query().Get("version"))
	if err != nil {
		return nil, err
	}
	all := map[string]map[string]canonical.Value{}
	add := func(room string, sessions canonical.Value) {
		all[room] = maps.Collect(sessions.Members)
	}
	switch room, session := q.PathValue("room"), q.PathValue("session"); {
	case session != "":
		all[room] = map[string]canonical.Value{session: q.body}
	case room != "":
		add(room, q.body.Get("sessions"))
	default:
		for room, of := range q.body.Get("rooms").Members {
			add(room, of.Get("sessions"))
		}
	}
	b, err := a.Keys.Store(q.Context(), q.login.User, version, all)
	if errors.Is(err, keys.ErrVersion) {
		e := fail(http.StatusForbidden, "M_WRONG_ROOM_KEYS_VERSION", err.Error())
		e.More = map[string]any{"current_version": strconv.FormatInt(b.Version, 10)}
		return nil, e
	}
	return tally(b), err
}

func (a *API) getKeys(q *request) (any, error) {
	version, err := number(q.URL.Query().Get("version"))
	if err != nil {
		return nil, err
	}
	room, session := q.PathValue("room"), q.PathValue("session")
	all, err := a.Keys.Stored(q.Context(), q.login.User, version, room, session)
	if err != nil {
		return nil, err
	}
	if session != "" {
		if len(all) == 0 {
			return nil, notFound("the backup has no such key")
		}
		return json.RawMessage(all[0].JSON), nil
	}
	type sessions struct {
		Sessions map[string]json.RawMessage `json:"sessions"`
	}
	rooms := map[string]sessions{}
	for _, k := range all {
		if rooms[k.Room].Sessions == nil {
			rooms[k.Room] = sessions{map[string]json.RawMessage{}}
		}
		rooms[k.Room].Sessions[k.Session] = k.JSON
	}
	if room != "" {
		if rooms[room].Sessions == nil {
			return sessions{map[string]json.RawMessage{}}, nil
		}
		return rooms[room], nil
	}
	return map[string]any{"rooms": rooms}, nil
}

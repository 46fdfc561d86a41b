package api

import (
	"errors"
	"net/http"

	"orrery/matrix/canonical"
	"orrery/matrix/keys"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// keyRoutes are the keys of devices, and messages between them (clauses client-server API, key management API and send-to-device messaging).
func (a *API) keyRoutes() {
	a.in("POST keys/upload", a.uploadKeys)
	a.in("POST keys/query", a.queryKeys)
	a.in("POST keys/claim", a.claimKeys)
	a.in("GET keys/changes", a.keyChanges)
	a.in("POST keys/device_signing/upload", a.setCross)
	a.in("POST keys/signatures/upload", a.uploadSignatures)
	a.in("PUT sendToDevice/{type}/{txn}", a.sendToDevice)
}

func (a *API) uploadKeys(q *request) (any, error) {
	user, device := q.login.User, q.login.Device
	if err := q.device(); err != nil {
		return nil, err
	}
	err := a.Keys.Upload(q.Context(), user, device, q.body.Get("device_keys"), q.body.Get("one_time_keys"), q.body.Get("fallback_keys"))
	if err != nil {
		if errors.Is(err, keys.ErrConflict) {
			err = fail(http.StatusBadRequest, "M_UNKNOWN", err.Error())
		}
		return nil, err
	}
	var counts map[string]int
	err = a.Stream.DB().View(q.Context(), func(tx table.Tx) (err error) {
		counts, err = keys.Counts(tx, user, device)
		return err
	})
	return map[string]any{"one_time_key_counts": counts}, err
}

func (a *API) queryKeys(q *request) (any, error) {
	wanted := q.body.Get("device_keys")
	if wanted.Kind() != canonical.Object {
		return nil, missing("device_keys")
	}
	devices, cross := canonical.Of(), map[string]canonical.Value{}
	for _, usage := range keys.Usages {
		cross[usage] = canonical.Of()
	}
	for user, list := range wanted.Members {
		if list.Kind() != canonical.Array {
			return nil, badJSON("the devices of " + user + " are no list")
		}
		var ids []string
		for id := range list.Elements {
			ids = append(ids, id.String())
		}
		found, err := a.Keys.Devices(q.Context(), user, ids, q.login.User)
		if err != nil {
			return nil, err
		}
		of := canonical.Of()
		for id, v := range found {
			of = of.With(id, v)
		}
		if of.Len() > 0 || a.Accounts.Local(user) {
			devices = devices.With(user, of)
		}
		for _, usage := range keys.Usages {
			v, err := a.Keys.Cross(q.Context(), user, usage, q.login.User)
			if err != nil {
				return nil, err
			}
			if v.Kind() != canonical.None {
				cross[usage] = cross[usage].With(user, v)
			}
		}
	}
	answer := canonical.Of(canonical.Member{Name: "failures", Value: canonical.Of()}, canonical.Member{Name: "device_keys", Value: devices})
	for _, usage := range keys.Usages {
		answer = answer.With(usage+"_keys", cross[usage])
	}
	return raw(answer), nil
}

func (a *API) claimKeys(q *request) (any, error) {
	wanted := q.body.Get("one_time_keys")
	if wanted.Kind() != canonical.Object {
		return nil, missing("one_time_keys")
	}
	all := canonical.Of()
	for user, devices := range wanted.Members {
		of := canonical.Of()
		for device, algorithm := range devices.Members {
			id, key, err := a.Keys.Claim(q.Context(), user, device, algorithm.String())
			if errors.Is(err, keys.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			of = of.With(device, canonical.Of(canonical.Member{Name: id, Value: key}))
		}
		if of.Len() > 0 {
			all = all.With(user, of)
		}
	}
	return raw(canonical.Of(canonical.Member{Name: "failures", Value: canonical.Of()}, canonical.Member{Name: "one_time_keys", Value: all})), nil
}

func (a *API) keyChanges(q *request) (any, error) {
	from, err := a.Syncer.ReadSince(q.URL.Query().Get("from"))
	if err != nil {
		return nil, err
	}
	to, holds, err := a.Syncer.ReadToken(q.URL.Query().Get("to"))
	if err != nil {
		return nil, err
	}
	if !holds {
		to = a.Stream.Current()
	}
	return a.Syncer.DeviceLists(q.Context(), q.login.User, from, to)
}

// setCross sets keys for signing; who has some already must prove who they are.
func (a *API) setCross(q *request) (any, error) {
	set := map[string]canonical.Value{}
	for _, usage := range keys.Usages {
		if v, ok := q.body.Find(usage + "_key"); ok {
			set[usage] = v
		}
	}
	has, same, err := a.Keys.HasCross(q.Context(), q.login.User, set)
	if err != nil {
		return nil, err
	}
	if has && !same {
		if err := a.confirmReset(q); err != nil {
			return nil, err
		}
	}
	return empty, a.Keys.SetCross(q.Context(), q.login.User, set)
}

func (a *API) uploadSignatures(q *request) (any, error) {
	failures := map[string]map[string]*Error{}
	for user, of := range q.body.Members {
		for key, signed := range of.Members {
			err := a.Keys.Sign(q.Context(), q.login.User, user, key, signed)
			if err == nil {
				continue
			}
			e, fault := toError(err)
			if fault {
				return nil, err
			}
			if failures[user] == nil {
				failures[user] = map[string]*Error{}
			}
			failures[user][key] = e
		}
	}
	return map[string]any{"failures": failures}, nil
}

func (a *API) sendToDevice(q *request) (any, error) {
	messages := q.body.Get("messages")
	if messages.Kind() != canonical.Object {
		return nil, missing("messages")
	}
	key := []any{q.login.User, q.login.Device, q.URL.Path}
	known := false
	if err := a.Stream.DB().View(q.Context(), func(tx table.Tx) (err error) {
		known, err = store.Transactions.Has(tx, key...)
		return err
	}); err != nil || known {
		return empty, err
	}
	if err := a.Keys.Send(q.Context(), q.login.User, q.PathValue("type"), messages); err != nil {
		return nil, err
	}
	return empty, a.Stream.DB().Update(q.Context(), func(tx table.Tx) error {
		return store.Transactions.Put(tx, store.Transaction{User: q.login.User, Device: q.login.Device, Path: q.URL.Path, Time: a.Now().UnixMilli()})
	})
}

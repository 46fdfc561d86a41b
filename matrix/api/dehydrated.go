package api

import (
	"encoding/json"

	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// dehydratedRoutes are a device that a user keeps on the server, encrypted, so that it gets messages while none of the others is there (MSC3814).
func (a *API) dehydratedRoutes() {
	const path = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
	a.in("PUT "+path, a.putDehydrated)
	a.in("GET "+path, func(q *request) (any, error) {
		d, err := a.dehydrated(q)
		return map[string]any{"device_id": d.Device, "device_data": json.RawMessage(d.Data)}, err
	})
	a.in("DELETE "+path, func(q *request) (any, error) {
		d, err := a.dehydrated(q)
		if err != nil {
			return nil, err
		}
		return map[string]string{"device_id": d.Device}, a.dropDehydrated(q, d)
	})
	a.in("GET "+path+"/{device}/events", func(q *request) (any, error) { return a.dehydratedEvents(q, q.URL.Query().Get("next_batch")) })
	a.in("POST "+path+"/{device}/events", func(q *request) (any, error) {
		next, err := q.text("next_batch")
		if err != nil {
			return nil, err
		}
		return a.dehydratedEvents(q, next)
	})
}

func (a *API) dehydrated(q *request) (d store.Dehydrated, err error) {
	err = a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		found, ok, err := store.Dehydrateds.Get(tx, q.login.User)
		if err == nil && !ok {
			err = notFound("there is no dehydrated device")
		}
		d = found
		return err
	})
	return d, err
}

// putDehydrated makes a dehydrated device, in place of the one that there is.
func (a *API) putDehydrated(q *request) (any, error) {
	id, err := q.text("device_id")
	if err != nil {
		return nil, err
	}
	name, err := q.text("initial_device_display_name")
	if err != nil {
		return nil, err
	}
	data, own := q.body.Get("device_data"), q.body.Get("device_keys")
	if data.Kind() != canonical.Object {
		return nil, missing("device_data")
	}
	if own.Kind() != canonical.Object {
		return nil, missing("device_keys")
	}
	if id == "" || len(id) > 255 || own.Get("device_id").String() != id || own.Get("user_id").String() != q.login.User {
		return nil, invalidParam("device_keys are not those of device_id")
	}
	user := q.login.User
	old, err := a.dehydrated(q)
	if err == nil {
		if err := a.dropDehydrated(q, old); err != nil {
			return nil, err
		}
	} else if e, fault := toError(err); fault || e.Code != "M_NOT_FOUND" {
		return nil, err
	}
	if err := a.Stream.DB().Update(q.Context(), func(tx table.Tx) error {
		taken, err := store.Devices.Has(tx, user, id)
		if err != nil {
			return err
		}
		if taken {
			return invalidParam("there is a device " + id)
		}
		if err := store.Devices.Put(tx, store.Device{User: user, ID: id, Name: name, Created: a.Now().UnixMilli()}); err != nil {
			return err
		}
		return store.Dehydrateds.Put(tx, store.Dehydrated{User: user, Device: id, Data: data.JSON()})
	}); err != nil {
		return nil, err
	}
	return map[string]string{"device_id": id}, a.Keys.Upload(q.Context(), user, id, own, q.body.Get("one_time_keys"), q.body.Get("fallback_keys"))
}

func (a *API) dropDehydrated(q *request, d store.Dehydrated) error {
	if err := a.Stream.DB().Update(q.Context(), func(tx table.Tx) error { return store.Dehydrateds.Delete(tx, d.User) }); err != nil {
		return err
	}
	return a.logOut(q, d.Device)
}

// dehydratedEvents are messages that the device got. They stay until it is deleted: another client may need them.
func (a *API) dehydratedEvents(q *request, from string) (any, error) {
	d, err := a.dehydrated(q)
	if err != nil {
		return nil, err
	}
	if d.Device != q.PathValue("device") {
		return nil, forbidden("this is not the dehydrated device")
	}
	since := int64(0)
	if from != "" {
		if since, err = a.Syncer.ReadSince(from); err != nil {
			return nil, err
		}
	}
	events := []json.RawMessage{}
	err = a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		for m, err := range store.ToDevices.Scan(tx, table.Range{Prefix: []any{d.User, d.Device}, From: since + 1, Limit: maxMessages}) {
			if err != nil {
				return err
			}
			events, since = append(events, m.JSON), m.Position
		}
		return nil
	})
	return map[string]any{"events": events, "next_batch": a.Syncer.Token(since)}, err
}

package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// maxTimeout is how long an answer to /sync may take.
const maxTimeout = 2 * time.Minute

func (a *API) dataRoutes() {
	a.in("GET sync", a.sync)
	a.slidingRoutes()
	a.presenceRoutes()
	a.in("POST user/{user}/filter", func(q *request) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		if err := sync.ReadFilter(q.body.JSON(), &sync.Filter{}); err != nil {
			return nil, err
		}
		var id int64
		err := a.Stream.DB().Update(q.Context(), func(tx table.Tx) (err error) {
			id, err = putFilter(tx, q.login.User, q.body.JSON())
			return err
		})
		return map[string]string{"filter_id": strconv.FormatInt(id, 10)}, err
	})
	a.in("GET user/{user}/filter/{filter}", func(q *request) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		text, err := a.filter(q, q.PathValue("filter"))
		return json.RawMessage(text), err
	})
	for _, path := range []string{"user/{user}/account_data/{type}", "user/{user}/rooms/{room}/account_data/{type}"} {
		a.in("GET "+path, a.getData)
		a.in("PUT "+path, func(q *request) (any, error) {
			if err := settable(q); err != nil {
				return nil, err
			}
			return empty, a.putData(q, q.PathValue("room"), q.PathValue("type"), q.body)
		})
		a.in("DELETE /_matrix/client/unstable/org.matrix.msc3391/"+path, a.deleteData)
	}
	a.tagRoutes()
}

// own sees to it that the user in the path is the one who asks.
func own(q *request) error {
	if q.PathValue("user") != q.login.User {
		return forbidden("this is somebody else's")
	}
	return nil
}

// settable is nil unless account data are not the client's to write.
func settable(q *request) error {
	if err := own(q); err != nil {
		return err
	}
	if kind := q.PathValue("type"); kind == "m.fully_read" || kind == "m.push_rules" {
		return fail(http.StatusMethodNotAllowed, "M_BAD_JSON", kind+" is not set this way")
	}
	return nil
}

// deleteData deletes account data (MSC3391: "for idempotency reasons, these endpoints always return 200 OK").
func (a *API) deleteData(q *request) (any, error) {
	if err := settable(q); err != nil {
		return nil, err
	}
	err := a.Stream.Update(q.Context(), func(tx table.Tx, advance func(int) (int64, error)) error {
		_, err := store.DeleteAccountData(tx, advance, q.login.User, q.PathValue("room"), q.PathValue("type"))
		return err
	}, nil)
	a.Syncer.Wake(q.login.User)
	return empty, err
}

// putFilter keeps a filter, and is its number: that of the same one, if it is kept already.
func putFilter(tx table.Tx, user string, text []byte) (int64, error) {
	all, err := store.Filters.All(tx, table.Range{Prefix: []any{user}})
	if err != nil {
		return 0, err
	}
	next := int64(1)
	for _, f := range all {
		if string(f.JSON) == string(text) {
			return f.ID, nil
		}
		next = max(next, f.ID+1)
	}
	return next, store.Filters.Put(tx, store.Filter{User: user, ID: next, JSON: text})
}

func (a *API) filter(q *request, id string) ([]byte, error) {
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return nil, invalidParam("a filter's id is a number")
	}
	var text []byte
	return text, a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		f, ok, err := store.Filters.Get(tx, q.login.User, number)
		if err == nil && !ok {
			err = notFound("there is no filter " + id)
		}
		text = f.JSON
		return err
	})
}

// sync tells what is new (clause client-server API, GET sync).
func (a *API) sync(q *request) (any, error) {
	query := q.URL.Query()
	in := &sync.Request{User: q.login.User, Device: q.login.Device, Initial: true, FullState: query.Get("full_state") == "true"}
	if s := query.Get("since"); s != "" {
		if err := a.Syncer.Told(s, in); err != nil {
			return nil, err
		}
	}
	if s := query.Get("timeout"); s != "" {
		var err error
		if in.Timeout, err = timeout(s); err != nil {
			return nil, err
		}
	}
	var err error
	if in.Filter, err = a.readFilter(q, query.Get("filter")); err != nil {
		return nil, err
	}
	switch {
	case query.Get("use_state_after") == "true":
		in.After = sync.StateAfter
	case query.Get("org.matrix.msc4222.use_state_after") == "true":
		in.After = sync.StateAfterEarly
	}
	if err := presence(query.Get("set_presence")); err != nil {
		return nil, err
	}
	done, err := a.Syncer.Attend(q.Context(), in.User, query.Get("set_presence"))
	if err != nil {
		return nil, err
	}
	defer done()
	return a.Syncer.Do(q.Context(), in)
}

// everything is what passes without a filter.
var everything = &sync.Filter{}

// readFilter is a filter as a request names it: by its number, or whole.
func (a *API) readFilter(q *request, f string) (*sync.Filter, error) {
	if f != "" && f[0] != '{' {
		number, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, invalidParam("a filter's id is a number")
		}
		found, err := a.Syncer.Filter(q.Context(), q.login.User, number)
		if err == nil && found == nil {
			err = notFound("there is no filter " + f)
		}
		return found, err
	}
	if f == "" {
		return everything, nil
	}
	return a.Syncer.WholeFilter(f)
}

func timeout(s string) (time.Duration, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms < 0 {
		return 0, invalidParam("timeout is not a number of milliseconds")
	}
	return milliseconds(ms), nil
}

// milliseconds are how long somebody wants to wait, as far as they may.
func milliseconds(n int64) time.Duration {
	return min(time.Duration(min(max(n, 0), 1<<30))*time.Millisecond, maxTimeout)
}

func (a *API) getData(q *request) (any, error) {
	if err := own(q); err != nil {
		return nil, err
	}
	d, ok, err := a.data(q, q.PathValue("room"), q.PathValue("type"))
	if err == nil && !ok {
		err = notFound("there is no such account data")
	}
	return json.RawMessage(d.JSON), err
}

func (a *API) data(q *request, room, kind string) (d store.AccountData, ok bool, err error) {
	err = a.Stream.DB().View(q.Context(), func(tx table.Tx) (err error) {
		d, ok, err = store.AllAccountData.Get(tx, q.login.User, room, kind)
		return err
	})
	return d, ok && !d.Deleted(), err
}

func (a *API) putData(q *request, room, kind string, v canonical.Value) error {
	return a.changeData(q, room, kind, func(canonical.Value) canonical.Value { return v })
}

// changeData changes account data, and tells the user's devices.
func (a *API) changeData(q *request, room, kind string, with func(canonical.Value) canonical.Value) error {
	err := a.Stream.Update(q.Context(), func(tx table.Tx, advance func(int) (int64, error)) error {
		_, err := store.ChangeAccountData(tx, advance, q.login.User, room, kind, func(v canonical.Value) (canonical.Value, bool) { return with(v), true })
		return err
	}, nil)
	a.Syncer.Wake(q.login.User)
	return err
}

// tagRoutes are a user's tags of rooms (clause client-server API, room tagging).
func (a *API) tagRoutes() {
	const kind = tagType
	a.in("GET user/{user}/rooms/{room}/tags", func(q *request) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		d, ok, err := a.data(q, q.PathValue("room"), kind)
		if !ok {
			d.JSON = []byte(`{"tags":{}}`)
		}
		return json.RawMessage(d.JSON), err
	})
	change := func(q *request, with func(canonical.Value) canonical.Value) (any, error) {
		if err := own(q); err != nil {
			return nil, err
		}
		return empty, a.changeData(q, q.PathValue("room"), kind, func(v canonical.Value) canonical.Value { return v.With("tags", with(store.Tags(v))) })
	}
	a.in("PUT user/{user}/rooms/{room}/tags/{tag}", func(q *request) (any, error) {
		return change(q, func(tags canonical.Value) canonical.Value { return tags.With(q.PathValue("tag"), q.body) })
	})
	a.in("DELETE user/{user}/rooms/{room}/tags/{tag}", func(q *request) (any, error) {
		return change(q, func(tags canonical.Value) canonical.Value { return tags.Without(q.PathValue("tag")) })
	})
}

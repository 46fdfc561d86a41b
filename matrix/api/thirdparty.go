package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/appservice"
	"orrery/matrix/appservice/remote"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// thirdPartyRoutes are networks of which application services know (clause client-server API, third-party networks).
func (a *API) thirdPartyRoutes() {
	a.in("GET thirdparty/protocols", func(q *request) (any, error) {
		all := map[string]appservice.Protocol{}
		for _, s := range a.Services.Services().All() {
			for _, name := range s.Protocols {
				all[name] = nil
			}
		}
		for name := range all {
			if all[name] = a.protocol(q, name); all[name] == nil {
				delete(all, name)
			}
		}
		return all, nil
	})
	a.in("GET thirdparty/protocol/{protocol}", func(q *request) (any, error) {
		if p := a.protocol(q, q.PathValue("protocol")); p != nil {
			return p, nil
		}
		return nil, notFound("no network " + q.PathValue("protocol") + " is known")
	})
	for kind, id := range map[string]string{"user": "userid", "location": "alias"} {
		a.in("GET thirdparty/"+kind+"/{protocol}", func(q *request) (any, error) {
			name := q.PathValue("protocol")
			return a.thirdParties(q, kind+"/"+name, id, func(s *appservice.Service) bool { return slices.Contains(s.Protocols, name) })
		})
		a.in("GET thirdparty/"+kind, func(q *request) (any, error) {
			if q.URL.Query().Get(id) == "" {
				return nil, missing(id)
			}
			return a.thirdParties(q, kind, id, func(s *appservice.Service) bool { return len(s.Protocols) > 0 })
		})
	}
}

// answers are what services answer, in their order; nil of those that know nothing or fail.
func (a *API) answers(q *request, path string, query url.Values, wanted func(*appservice.Service) bool) ([]*appservice.Service, []json.RawMessage) {
	var all []*appservice.Service
	for _, s := range a.Services.Services().All() {
		if s.URL != "" && wanted(s) {
			all = append(all, s)
		}
	}
	found := make([]json.RawMessage, len(all))
	var asked sync.WaitGroup
	for i, s := range all {
		asked.Go(func() {
			text, err := a.Services.Remote().ThirdParty(q.Context(), s, path, query)
			if err != nil {
				a.Logger.WarnContext(q.Context(), "an application service did not answer", "service", s.ID, "about", path, "error", err)
			}
			found[i] = text
		})
	}
	asked.Wait()
	return all, found
}

// protocol is what services say of a network; nil if none knows it.
func (a *API) protocol(q *request, name string) (merged appservice.Protocol) {
	services, found := a.answers(q, "protocol/"+name, nil, func(s *appservice.Service) bool { return slices.Contains(s.Protocols, name) })
	for i, s := range services {
		switch p, ok := appservice.ReadProtocol(s, found[i]); {
		case !ok:
		case merged == nil:
			merged = p
		default:
			merged = merged.Merge(p)
		}
	}
	return merged
}

// thirdParties are the users or places that services know by the request's fields.
func (a *API) thirdParties(q *request, path, id string, wanted func(*appservice.Service) bool) (any, error) {
	query := q.URL.Query()
	for _, own := range []string{"access_token", "user_id", "device_id"} {
		query.Del(own)
	}
	var all []json.RawMessage
	_, found := a.answers(q, path, query, wanted)
	for _, text := range found {
		all = append(all, appservice.Objects(text, id, "protocol", "fields")...)
	}
	if len(all) == 0 {
		return nil, notFound("nothing is known")
	}
	return all, nil
}

// networkRoutes are the rooms that services have in directories of their own (clause application service API, published room directories).
func (a *API) networkRoutes() {
	a.in("PUT directory/list/appservice/{network}/{room}", func(q *request) (any, error) {
		if q.as == nil {
			return nil, forbidden("only application services have such a directory")
		}
		r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
		if err != nil {
			return nil, err
		}
		row := store.NetworkRoom{Service: q.as.ID, Network: q.PathValue("network"), Room: r.Number()}
		visibility := q.body.Get("visibility").String()
		if visibility != "public" && visibility != "private" {
			return nil, invalidParam("visibility is public or private")
		}
		return empty, a.Stream.DB().Update(q.Context(), func(tx table.Tx) error {
			if visibility == "private" {
				return store.NetworkRooms.Delete(tx, row.Service, row.Network, row.Room)
			}
			return store.NetworkRooms.Put(tx, row)
		})
	})
	a.in("POST /_matrix/client/v1/appservice/{service}/ping", a.ping)
}

// listed are the rooms of the directory that a request means: the server's, one of a service's, or all of them.
func (a *API) listed(q *request) ([]string, error) {
	all, instance := q.body.Get("include_all_networks").IsTrue(), q.body.Get("third_party_instance_id").String()
	if all && instance != "" {
		return nil, invalidParam("include_all_networks and third_party_instance_id exclude one another")
	}
	if !all && instance == "" {
		return a.publicIDs(q.Context())
	}
	of := table.Range{}
	if instance != "" {
		service, network, ok := a.Services.Services().CutInstance(instance)
		if !ok {
			return nil, nil
		}
		of.Prefix = []any{service, network}
	}
	var ids []string
	if err := a.Stream.DB().View(q.Context(), func(tx table.Tx) error {
		ids = nil
		rows, err := store.NetworkRooms.All(tx, of)
		if err != nil {
			return err
		}
		for _, row := range rows {
			r, ok, err := store.Rooms.Get(tx, row.Room)
			if err != nil {
				return err
			}
			if ok && !slices.Contains(ids, r.RoomID) {
				ids = append(ids, r.RoomID)
			}
		}
		return nil
	}); err != nil || !all {
		return ids, err
	}
	public, err := a.publicIDs(q.Context())
	for _, id := range public {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// ping asks whether a service can be reached, for the service (clause application service API, pinging).
func (a *API) ping(q *request) (any, error) {
	if q.as == nil || q.as.ID != q.PathValue("service") {
		return nil, forbidden("this is not the token of the application service " + q.PathValue("service"))
	}
	if q.as.URL == "" {
		return nil, fail(http.StatusBadRequest, "M_URL_NOT_SET", "the registration of the application service has no url")
	}
	transaction, err := q.text("transaction_id")
	if err != nil {
		return nil, err
	}
	took, err := a.Services.Remote().Ping(q.Context(), q.as, transaction)
	status, answered := errors.AsType[*remote.StatusError](err)
	switch {
	case answered:
		e := fail(http.StatusBadGateway, "M_BAD_STATUS", status.Error())
		e.More = map[string]any{"status": status.Status, "body": status.Body}
		return nil, e
	case errors.Is(err, remote.ErrTimeout):
		return nil, fail(http.StatusGatewayTimeout, "M_CONNECTION_TIMEOUT", err.Error())
	case err != nil:
		return nil, fail(http.StatusBadGateway, "M_CONNECTION_FAILED", err.Error())
	}
	a.Services.Reached(q.as.ID)
	return map[string]int64{"duration_ms": took.Milliseconds()}, nil
}

// How often a service is asked that does not answer, and how long after.
const (
	askTries = 3
	askPause = 300 * time.Millisecond
)

// ask asks a service whether something exists, several times if there is no answer (clause application service API, querying).
func (a *API) ask(ctx context.Context, question func() (bool, error)) (exists bool, err error) {
	for range askTries {
		if exists, err = question(); err == nil {
			return exists, nil
		}
		if _, answered := errors.AsType[*remote.StatusError](err); answered {
			return false, nil
		}
		pause := time.NewTimer(askPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return false, ctx.Err()
		}
	}
	return false, err
}

// anyAlias is the id of the room with a name, which a service may make when it is asked for it.
func (a *API) anyAlias(q *request, name string) (string, error) {
	id, err := a.alias(q.Context(), name)
	if e, _ := errors.AsType[*Error](err); e == nil || e.Status != http.StatusNotFound {
		return id, err
	}
	for _, s := range a.Services.Services().All() {
		if s == q.as || s.URL == "" || !s.HasAlias(name) {
			continue
		}
		exists, err := a.ask(q.Context(), func() (bool, error) { return a.Services.Remote().HasAlias(q.Context(), s, name) })
		if err != nil {
			a.Logger.WarnContext(q.Context(), "an application service did not answer", "service", s.ID, "about", name, "error", err)
			return "", fail(http.StatusRequestTimeout, "M_UNKNOWN", "the application service that knows "+name+" does not answer")
		}
		if exists {
			return a.alias(q.Context(), name)
		}
	}
	return "", err
}

// askUsers lets services make users of theirs who are not there yet. A service that does not answer makes none.
func (a *API) askUsers(q *request, users ...string) {
	for _, s := range a.Services.Services().All() {
		for _, user := range users {
			if s == q.as || s.URL == "" || matrix.Domain(user) != a.Server || !s.HasUser(user) {
				continue
			}
			if _, err := a.Accounts.User(q.Context(), user); !errors.Is(err, account.ErrNotFound) {
				continue
			}
			if _, err := a.ask(q.Context(), func() (bool, error) { return a.Services.Remote().HasUser(q.Context(), s, user) }); err != nil {
				a.Logger.WarnContext(q.Context(), "an application service did not answer", "service", s.ID, "about", user, "error", err)
			}
		}
	}
}

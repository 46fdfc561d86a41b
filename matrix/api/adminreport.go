package api

import (
	"cmp"
	"strconv"

	"orrery/matrix/admin"
	"orrery/matrix/sync"
)

// adminReports are what users said of events and of other users; who resolves a report deletes it.
func (a *API) adminReports() {
	for path, of := range map[string]struct {
		kind, list string
		view       func(*request, admin.Report, bool) (map[string]any, error)
	}{"v1/event_reports": {admin.OfEvents, "event_reports", a.viewEventReport}, "v1/user_reports": {admin.OfUsers, "user_reports", viewUserReport}} {
		a.administer("GET "+path, func(q *request) (any, error) {
			query := q.URL.Query()
			from, limit, err := page(query)
			if err != nil {
				return nil, err
			}
			shown, total, err := a.Admin.Reports(q.Context(), admin.ReportQuery{
				Kind: of.kind, By: query.Get("user_id"), Room: query.Get("room_id"), Subject: cmp.Or(query.Get("event_sender_user_id"), query.Get("target_user_id")),
				Oldest: query.Get("dir") == "f", From: from, Limit: limit,
			})
			if err != nil {
				return nil, err
			}
			views := []any{}
			for _, r := range shown {
				v, err := of.view(q, r, false)
				if err != nil {
					return nil, err
				}
				views = append(views, v)
			}
			answer := map[string]any{of.list: views, "total": total}
			if n, more := next(from, len(shown), total); more {
				answer["next_token"] = n
			}
			return answer, nil
		})
		a.administer("GET "+path+"/{report}", func(q *request) (any, error) {
			r, err := a.reported(q, of.kind)
			if err != nil {
				return nil, err
			}
			return of.view(q, r, true)
		})
		a.administer("DELETE "+path+"/{report}", func(q *request) (any, error) {
			r, err := a.reported(q, of.kind)
			if err != nil {
				return nil, err
			}
			return empty, a.Admin.Resolve(q.Context(), r.ID)
		})
	}
}

// reported is the report in the path.
func (a *API) reported(q *request, kind string) (admin.Report, error) {
	id, err := strconv.ParseInt(q.PathValue("report"), 10, 64)
	if err != nil || id < 0 {
		return admin.Report{}, invalidParam("the number of a report is not a number")
	}
	r, err := a.Admin.Report(q.Context(), id)
	if err == nil && r.Kind != kind {
		err = notFound("there is no such report of a " + kind)
	}
	return r, err
}

func viewUserReport(_ *request, r admin.Report, _ bool) (map[string]any, error) {
	return map[string]any{"id": r.ID, "received_ts": r.Time, "user_id": r.User, "target_user_id": r.Subject, "reason": r.Reason}, nil
}

// viewEventReport is a report of an event, with the event itself if all of it is wanted and the room is still there.
func (a *API) viewEventReport(q *request, r admin.Report, whole bool) (map[string]any, error) {
	v := map[string]any{
		"id": r.ID, "received_ts": r.Time, "room_id": r.Room, "event_id": r.Event, "user_id": r.User, "reason": r.Reason, "score": r.Score, "sender": r.Subject,
		"name": nil, "canonical_alias": nil,
	}
	of, err := a.Rooms.Find(q.Context(), r.Room)
	if err != nil {
		e, fault := toError(err)
		if !fault && e.Code == "M_NOT_FOUND" { // it was purged
			return v, nil
		}
		return nil, err
	}
	about, err := a.Admin.Room(q.Context(), r.Room)
	if err != nil {
		return nil, err
	}
	v["name"], v["canonical_alias"] = about.Name, about.Alias
	if !whole {
		return v, nil
	}
	e, err := of.Event(q.Context(), r.Event)
	if err != nil {
		return nil, err
	}
	v["event_json"] = sync.Client(e, q.login.User, q.login.Device, true)
	return v, nil
}

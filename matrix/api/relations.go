package api

import (
	"orrery/matrix/room"
	"orrery/matrix/table"
)

// relationRoutes are events that relate to others (clauses client-server API, relationships API and threading).
func (a *API) relationRoutes() {
	const path = "rooms/{room}/relations/{event}"
	a.in("GET "+path, a.relations)
	a.in("GET "+path+"/{rel}", a.relations)
	a.in("GET "+path+"/{rel}/{type}", a.relations)
	a.in("GET rooms/{room}/threads", a.threads)
}

func (a *API) relations(q *request) (any, error) {
	r, e, err := a.visibleEvent(q)
	if err != nil {
		return nil, err
	}
	n, err := limit(q, 50, 500)
	if err != nil {
		return nil, err
	}
	query := q.URL.Query()
	w := room.Wanted{Rel: q.PathValue("rel"), Type: q.PathValue("type"), Recurse: query.Get("recurse") == "true"}
	w.Range = table.Range{Descending: query.Get("dir") != "f", Limit: n}
	if err := a.between(&w.Range, query.Get("from"), query.Get("to")); err != nil {
		return nil, err
	}
	found, err := r.Relations(q.Context(), e.ID(), w)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	if len(found) == n && n > 0 {
		last := found[len(found)-1].Order
		if w.Range.Descending {
			last--
		}
		answer["next_batch"] = a.Syncer.Token(last)
	}
	if w.Recurse {
		answer["recursion_depth"] = 3
	}
	if found, err = a.shown(q, r, found); err != nil {
		return nil, err
	}
	answer["chunk"], err = a.clients(q, r, found)
	return answer, err
}

func (a *API) threads(q *request) (any, error) {
	r, err := a.readable(q)
	if err != nil {
		return nil, err
	}
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
	mine := q.URL.Query().Get("include") == "participated"
	ignored, err := a.Syncer.Ignored(q.Context(), q.login.User)
	if err != nil {
		return nil, err
	}
	roots, next, err := r.Threads(q.Context(), before, n, func(_ string, senders map[string]bool) bool { return !mine || senders[q.login.User] })
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	if next != 0 {
		answer["next_batch"] = a.Syncer.Token(next)
	}
	if roots, err = q.visible(r, roots); err != nil {
		return nil, err
	}
	for i, e := range roots {
		if ignored[e.Sender()] { // "the event is returned redacted to the caller"
			redacted := *e
			redacted.Event = e.Event.Redacted()
			roots[i] = &redacted
		}
	}
	answer["chunk"], err = a.clients(q, r, roots)
	return answer, err
}

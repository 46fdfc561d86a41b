package api

import "slices"

// destinationOrders are what the list of other servers can be sorted by.
var destinationOrders = []string{"destination", "retry_last_ts", "retry_interval", "failure_ts", "last_successful_stream_ordering"}

// adminFederation is the other servers to which this one sends: there are none, since messages are not exchanged with others yet. Panels show an empty list then, and no error.
func (a *API) adminFederation() {
	a.administer("GET v1/federation/destinations", func(q *request) (any, error) {
		query := q.URL.Query()
		if _, _, err := page(query); err != nil {
			return nil, err
		}
		if by := query.Get("order_by"); by != "" && !slices.Contains(destinationOrders, by) {
			return nil, invalidParam("order_by " + by + " is nothing by which servers are sorted")
		}
		if dir := query.Get("dir"); dir != "" && dir != "f" && dir != "b" {
			return nil, invalidParam("dir is f or b")
		}
		return map[string]any{"destinations": []any{}, "total": 0}, nil
	})
	for _, route := range []string{"GET v1/federation/destinations/{server}", "GET v1/federation/destinations/{server}/rooms", "POST v1/federation/destinations/{server}/reset_connection"} {
		a.administer(route, func(q *request) (any, error) {
			return nil, notFound("nothing is sent to server " + q.PathValue("server"))
		})
	}
}

package api

import (
	"orrery/matrix/appservice/delivery"
)

// adminServices are the application services, with what waits for them. Synapse has nothing like these requests.
func (a *API) adminServices() {
	a.administer("GET v1/application_services", func(q *request) (any, error) {
		all, err := delivery.Standings(q.Context(), a.Stream.DB(), a.Services.Services())
		return map[string]any{"application_services": append([]delivery.Standing{}, all...), "total": len(all)}, err
	})
	a.administer("DELETE v1/application_services/{service}/backlog", func(q *request) (any, error) {
		dry := q.URL.Query().Get("dry_run") == "true"
		w, err := delivery.Drop(q.Context(), a.Stream.DB(), a.Services.Services, q.PathValue("service"), dry)
		return struct {
			delivery.Waiting

			Dry bool `json:"dry_run"`
		}{w, dry}, err
	})
}

package api

import "net/http"

// contactRoutes answer what clients ask of addresses by which users are reached outside (clause client-server API, adding account administrative contact
// information). This server keeps none: nobody has one, and none can be added.
func (a *API) contactRoutes() {
	denied := func(*request) (any, error) {
		return nil, fail(http.StatusForbidden, "M_THREEPID_DENIED", "this server keeps no addresses of mail and no numbers of telephones")
	}
	for _, path := range []string{"account/3pid/add", "account/3pid/bind"} {
		a.in("POST "+path, denied)
	}
	for _, path := range []string{"register", "account/password", "account/3pid"} {
		for _, medium := range []string{"email", "msisdn"} {
			a.open("POST "+path+"/"+medium+"/requestToken", denied)
		}
	}
}

// Package federation is what this server answers other servers (clause server-server API): who it is, and by which keys it signs.
package federation

import (
	"net/http"
	"time"

	"orrery/matrix/canonical"
	"orrery/matrix/signature"
)

// Config is what other servers are told.
type Config struct {
	Server  string // its name
	Key     signature.Key
	Version string // of the program
	Now     func() time.Time
}

// keyLifetime is how long other servers may take the key for valid without asking again. They ask again when half of it is over.
const keyLifetime = 24 * time.Hour

// API answers other servers.
type API struct {
	Config

	mux *http.ServeMux
}

// New is an API.
func New(c Config) *API {
	a := &API{c, http.NewServeMux()}
	a.get("/_matrix/key/v2/server", a.keys)
	a.get("/_matrix/federation/v1/version", a.version)
	a.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusNotFound, unrecognized("there is no such request"))
	})
	return a
}

// get registers a request; others at its path have the wrong method.
func (a *API) get(path string, v func() canonical.Value) {
	a.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			answer(w, http.StatusMethodNotAllowed, unrecognized("the request has another method"))
			return
		}
		answer(w, http.StatusOK, v())
	})
}

// ServeHTTP answers.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

func answer(w http.ResponseWriter, status int, v canonical.Value) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(v.JSON())
}

// unrecognized is the error of requests that are not known (clause server-server API, unsupported endpoints).
func unrecognized(text string) canonical.Value {
	return pairs("errcode", "M_UNRECOGNIZED", "error", text)
}

// pairs are an object of texts.
func pairs(all ...string) canonical.Value {
	v := canonical.Of()
	for i := 0; i < len(all); i += 2 {
		v = v.With(all[i], canonical.Text(all[i+1]))
	}
	return v
}

// keys are the server's keys, signed by them (clause server-server API, publishing keys).
func (a *API) keys() canonical.Value {
	v := canonical.Of(
		canonical.Member{Name: "server_name", Value: canonical.Text(a.Server)},
		canonical.Member{Name: "valid_until_ts", Value: canonical.Int(a.Now().Add(keyLifetime).UnixMilli())},
		canonical.Member{Name: "old_verify_keys", Value: canonical.Of()},
		canonical.Member{Name: "verify_keys", Value: canonical.Of(canonical.Member{Name: a.Key.ID, Value: pairs("key", a.Key.Public())})},
	)
	return signature.Sign(v, a.Server, a.Key)
}

// version is what program this is (clause server-server API, GET version).
func (a *API) version() canonical.Value {
	return canonical.Of(canonical.Member{Name: "server", Value: pairs("name", "Orrery", "version", a.Version)})
}

// Package federation is what this server answers other servers (clause server-server API): who it is, where it is, and by which keys it signs. It counts what they ask.
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
	Address string // where other servers reach it, as a server name; "" if they are told nothing
	Version string // of the program
	Now     func() time.Time
}

// keyLifetime is how long other servers may take the key for valid without asking again. They ask again when half of it is over.
const keyLifetime = 24 * time.Hour

// API answers other servers.
type API struct {
	Config

	mux    *http.ServeMux
	counts counts
}

// New is an API.
func New(c Config) *API {
	a := &API{Config: c, mux: http.NewServeMux()}
	a.get("/_matrix/key/v2/server", a.keys)
	a.get("/_matrix/federation/v1/version", a.version)
	a.mux.HandleFunc("GET "+WellKnown, a.wellKnown)
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

// ServeHTTP answers, and counts it.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &counting{w, http.StatusOK}
	a.mux.ServeHTTP(c, r)
	a.counts.add(r.Pattern, c.status, a.Now())
}

// WellKnown is where other servers look for where this one is (clause server-server API, server discovery). They ask at port 443 of the host in its name, as clients do.
const WellKnown = "/.well-known/matrix/server"

func (a *API) wellKnown(w http.ResponseWriter, _ *http.Request) {
	if a.Address == "" {
		answer(w, http.StatusNotFound, pairs("errcode", "M_NOT_FOUND", "error", "the server does not say where it is"))
		return
	}
	answer(w, http.StatusOK, pairs("m.server", a.Address))
}

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

// VerifyKey is a key by which this server signs, as others are told.
type VerifyKey struct {
	ID, Public string
	Until      time.Time // that they may take it for valid without asking again
}

// VerifyKeys are those that others are told now. There are no old ones: the key of a server stays.
func (a *API) VerifyKeys() []VerifyKey {
	return []VerifyKey{{a.Key.ID, a.Key.Public(), a.Now().Add(keyLifetime)}}
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

// Name is what others are told that the program is called.
const Name = "Orrery"

// version is what program this is (clause server-server API, GET version).
func (a *API) version() canonical.Value {
	return canonical.Of(canonical.Member{Name: "server", Value: pairs("name", Name, "version", a.Version)})
}

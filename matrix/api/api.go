// Package api is the client-server API (clause client-server API): requests in, what account, room and sync make of them out.
//
// Each group of requests is a file. A handler gets a request whose body and user are checked, and returns what is written as JSON, or an error,
// which errors.go turns into the standard's answer.
package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"orrery/matrix"
	"orrery/matrix/account"
	"orrery/matrix/admin"
	"orrery/matrix/adminpage"
	"orrery/matrix/appservice"
	"orrery/matrix/appservice/delivery"
	"orrery/matrix/canonical"
	"orrery/matrix/contact/identity"
	"orrery/matrix/contact/validation"
	"orrery/matrix/delayed"
	"orrery/matrix/keys"
	"orrery/matrix/media"
	"orrery/matrix/notice"
	"orrery/matrix/preview"
	"orrery/matrix/pusher"
	"orrery/matrix/rendezvous"
	"orrery/matrix/room"
	"orrery/matrix/search"
	"orrery/matrix/store"
	"orrery/matrix/sync"
)

// maxBody is how large the JSON of a request may be.
const maxBody = 1 << 20

// Config is what the API serves.
type Config struct {
	Server   string // its name
	BaseURL  string // where clients reach it; "" if it is not told
	Accounts *account.Accounts
	Rooms    *room.Rooms
	Syncer   *sync.Syncer
	Keys     *keys.Keys
	Media    *media.Media
	Admin    *admin.Admin
	Pushers  *pusher.Pushers
	Delayed  *delayed.Events
	Notices  *notice.Notices    // nil: there are none
	Services *delivery.Delivery // nil: there are no application services

	Validations *validation.Validations
	Identity    *identity.Client
	Turn        Turn      // without URIs there is none
	Contacts    []Contact // who helps with this server
	SupportPage string
	Search      *search.Index
	Previews    *preview.Previews // nil: there are none

	KeepMedia time.Duration // how long what users upload is kept; 0: for ever
	OpenMedia bool          // whoever knows its address may see it, without a login
	Stream    *store.Stream
	Usable    func() error // an error says why nothing can be served; nil: it always can
	Now       func() time.Time
	Logger    *slog.Logger

	Subscriptions bool             // users subscribe to threads
	Transports    []map[string]any // of calls, as clients are told them; none: there are none

	RoomVersion  string           // of rooms for which nobody says another one
	AdminPage    *adminpage.Watch // how the server is, for the page of administrators; nil: there is no such page
	Servers      http.Handler     // answers other servers what they ask where clients do: where this one is
	Limits       Limits
	BehindProxy  bool   // which says in X-Forwarded-For where clients are
	SharedSecret string // by which accounts can be made by those who know it; "" for none

	LogIn
}

// API serves clients.
type API struct {
	Config

	mux    *http.ServeMux
	auth   uia
	routes []string

	transactions locks
	sent         sent
	limits       limiters
	metrics      metrics
	sessions     rendezvous.Sessions
	entry
}

// Routes are the requests that are served: METHOD, a space, and the path, as ServeMux has it.
func (a *API) Routes() []string { return a.routes }

// New is an API. Once the context is over, it answers those who wait.
func New(c Config) *API {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Usable == nil {
		c.Usable = func() error { return nil }
	}
	a := &API{Config: c, mux: http.NewServeMux(), auth: newUIA(c.Now), limits: newLimiters(c.Limits), metrics: newMetrics(), sent: newSent(maxSent, maxSentByDevice)}
	a.serverRoutes()
	a.moreRoutes()
	a.deprecatedRoutes()
	a.moderationRoutes()
	a.dehydratedRoutes()
	a.delayedRoutes()
	a.ssoRoutes()
	a.loginPageRoutes()
	a.oauthRoutes()
	a.rendezvousRoutes()
	a.accountRoutes()
	a.roomRoutes()
	a.stateRoutes()
	a.dataRoutes()
	a.pushRoutes()
	a.pusherRoutes()
	a.subscriptionRoutes()
	a.receiptRoutes()
	a.keyRoutes()
	a.backupRoutes()
	a.mediaRoutes()
	a.adminRoutes()
	a.adminPages()
	a.thirdPartyRoutes()
	a.networkRoutes()
	a.mux.Handle("/", a.handler(func(q *request) (any, error) {
		if a.otherMethod(q.Request) {
			return nil, fail(http.StatusMethodNotAllowed, "M_UNRECOGNIZED", "the request has another method")
		}
		return nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "there is no such request")
	}))
	return a
}

// request is what a handler gets.
type request struct {
	*http.Request

	w     http.ResponseWriter
	login account.Login       // of those that need one
	as    *appservice.Service // by whose token it is made; nil: by a user's
	body  canonical.Value     // an object
	notes map[string]string   // of the stages of its authentication

	status int  // of a success that is not 200
	sees   bool // an administrator asks, who reads all rooms
}

type handler func(*request) (any, error)

// open registers a request that anybody may make, in all versions of the API that clients use.
func (a *API) open(route string, h handler) {
	a.route(route, a.handler(func(q *request) (any, error) {
		if err := a.admitOpen(q); err != nil {
			return nil, err
		}
		return h(q)
	}))
}

// in registers a request that needs a login.
func (a *API) in(route string, h handler) { a.route(route, a.handler(a.loggedIn(route, h))) }

// bodiless registers a request that needs a login and to which the standard gives no body: what one says means nothing. To log out nheko sends null.
func (a *API) bodiless(route string, h handler) { a.route(route, a.plain(a.loggedIn(route, h))) }

// loggedIn is a handler of a request that needs a login.
func (a *API) loggedIn(route string, h handler) handler {
	return func(q *request) (any, error) {
		if err := a.logIn(q); err != nil {
			return nil, err
		}
		if err := moderate(q.login, route); err != nil {
			return nil, err
		}
		if err := q.serviceAllowed(route); err != nil {
			return nil, err
		}
		if err := q.guestAllowed(route); err != nil {
			return nil, err
		}
		return h(q)
	}
}

// inOr registers a request that does something else for those who are not logged in, who may ask as often as they may try to log in.
func (a *API) inOr(route string, h, otherwise handler) {
	in := a.loggedIn(route, h)
	a.route(route, a.handler(func(q *request) (any, error) {
		if q.Header.Get("Authorization") != "" || q.URL.Query().Get("access_token") != "" {
			return in(q)
		}
		if err := a.take(a.limits.logins, a.address(q.Request)); err != nil {
			return nil, err
		}
		return otherwise(q)
	}))
}

// route registers "METHOD path" below the client-server API's paths: v3, and r0 for old clients; a path that begins with / is taken as it is, but for r0 of media.
func (a *API) route(route string, h http.Handler) {
	method, path, _ := strings.Cut(route, " ")
	if strings.HasPrefix(path, "/") {
		a.mux.Handle(method+" "+path, h)
		if old, ok := strings.CutPrefix(path, "/_matrix/media/v3/"); ok {
			a.mux.Handle(method+" /_matrix/media/r0/"+old, h)
		}
		a.routes = append(a.routes, method+" "+path)
		return
	}
	for _, version := range []string{"v3", "r0", "v1"} {
		a.mux.Handle(method+" /_matrix/client/"+version+"/"+path, h)
	}
	a.routes = append(a.routes, method+" /_matrix/client/v3/"+path)
}

// ServeHTTP answers, with what browsers need to let pages of other servers ask (clause client-server API, web browser clients).
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization, If-Match, If-None-Match") // the last two of MSC4108
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	a.measure(w, r)
}

// otherMethod says whether a path exists with another method than the request's.
func (a *API) otherMethod(r *http.Request) bool {
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := *r
		other.Method = m
		if _, pattern := a.mux.Handler(&other); m != r.Method && pattern != "/" {
			return true
		}
	}
	return false
}

// handler serves a request whose body is JSON, if it has one.
func (a *API) handler(h handler) http.Handler {
	return a.plain(func(q *request) (any, error) {
		if err := q.read(); err != nil {
			return nil, err
		}
		return h(q)
	})
}

// plain serves a request whose body the handler reads.
func (a *API) plain(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				a.Logger.ErrorContext(r.Context(), "a request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				a.write(w, r, http.StatusInternalServerError, fail(0, "M_UNKNOWN", "the server failed"))
			}
		}()
		q := &request{Request: r, w: w}
		result, err := any(nil), a.Usable()
		if err == nil {
			result, err = h(q)
		}
		if err != nil {
			e, fault := toError(err)
			if fault {
				a.Logger.ErrorContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			retryAfter(w.Header(), e)
			a.write(w, r, e.Status, e)
			return
		}
		if result != nil {
			a.write(w, r, cmp.Or(q.status, http.StatusOK), result)
		}
	})
}

func (a *API) write(w http.ResponseWriter, r *http.Request, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // it is for one user
	var body []byte
	var err error
	if own, ok := v.(interface{ AppendJSON(b []byte) []byte }); ok { // it is faster
		body = own.AppendJSON(nil)
	} else {
		body, err = json.Marshal(v)
	}
	if err != nil {
		a.Logger.ErrorContext(r.Context(), "an answer cannot be written", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"errcode":"M_UNKNOWN","error":"the server failed"}`)
	}
	body = compressed(w.Header(), r, body)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// read reads the request's JSON.
func (q *request) read() error {
	if q.Method == http.MethodGet || strings.HasPrefix(q.URL.Path, "/_matrix/media/") {
		return nil
	}
	text, err := io.ReadAll(http.MaxBytesReader(q.w, q.Body, maxBody))
	if err != nil {
		return err
	}
	if len(strings.TrimSpace(string(text))) == 0 {
		q.body = canonical.Of()
		return nil
	}
	if q.body, err = canonical.Parse(text, canonical.Single); err != nil {
		return fail(http.StatusBadRequest, "M_NOT_JSON", err.Error())
	}
	if q.body.Kind() != canonical.Object {
		return badJSON("the request is not an object")
	}
	return nil
}

// logIn finds out whose request it is (clause client-server API, client authentication).
func (a *API) logIn(q *request) error {
	if isOperator(q.Context()) {
		return nil
	}
	token, err := q.token()
	if err != nil {
		return err
	}
	if q.as = a.Services.Services().ByToken(token); q.as != nil {
		return a.actAs(q)
	}
	login, err := a.authenticate(q.Context(), token, q.Request)
	q.login = login
	if limited := a.admit(q, login.User); err == nil || errors.Is(err, account.ErrToken) {
		err = cmp.Or(limited, err)
	}
	if err != nil {
		return err
	}
	if err := a.Accounts.Saw(q.Context(), login, a.address(q.Request)); err != nil { // reads go on while nothing can be written
		a.Logger.DebugContext(q.Context(), "cannot write when a device was seen", "error", err)
	}
	return nil
}

// authenticate is whose access token it is, which came with a request.
func (a *API) authenticate(ctx context.Context, token string, r *http.Request) (account.Login, error) {
	login, err := a.Accounts.Authenticate(ctx, token)
	if errors.Is(err, account.ErrToken) && a.delegate != nil {
		login, err = a.delegate.Authenticate(ctx, token, a.address(r))
	}
	return login, err
}

// text is a string of the body; an error if it is there and is none.
func (q *request) text(name string) (string, error) {
	v, ok := q.body.Find(name)
	if ok && v.Kind() != canonical.String {
		return "", badJSON(name + " is not a string")
	}
	return v.String(), nil
}

// into reads the body into a value.
func (q *request) into(v any) error {
	if err := json.Unmarshal(q.body.JSON(), v); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return badJSON(wrong.Field + " is a " + wrong.Value + ", which it cannot be")
		}
		return badJSON(err.Error())
	}
	return nil
}

// strictBody is the body where it becomes part of an event: integers only, and of 53 bits.
func (q *request) strictBody() (canonical.Value, error) {
	if err := q.body.Integers(); err != nil {
		return q.body, badJSON("JSON is " + err.Error())
	}
	return q.body, nil
}

// raw is a value as an answer.
func raw(v canonical.Value) json.RawMessage { return v.JSON() }

// empty is the answer of requests that have nothing to say.
var empty = struct{}{}

// content is the room of the path, and the body as a part of an event.
func (a *API) content(q *request) (*room.Room, canonical.Value, error) {
	content, err := q.strictBody()
	if err != nil {
		return nil, content, err
	}
	r, err := a.find(q)
	return r, content, err
}

// find is a room by the id in the path, in which the user is or was a member.
func (a *API) find(q *request) (*room.Room, error) {
	r, err := a.Rooms.Find(q.Context(), q.PathValue("room"))
	if errors.Is(err, room.ErrNotFound) && !q.sees {
		return nil, forbidden("you are not a member of the room")
	}
	return r, err
}

// member is find for requests of members only.
func (a *API) member(q *request) (*room.Room, error) {
	r, err := a.find(q)
	if err == nil && r.Membership(q.login.User) != matrix.Join {
		err = forbidden("you are not a member of the room")
	}
	return r, err
}

package api

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"orrery/matrix/account"
	"orrery/matrix/appservice"
	"orrery/matrix/canonical"
)

const stageService = "m.login.application_service"

// errLoginUnsupported is for services on a server where clients log in by OAuth only.
var errLoginUnsupported = fail(http.StatusBadRequest, "M_APPSERVICE_LOGIN_UNSUPPORTED", "clients log in by OAuth only here: use inhibit_login, and make devices")

func exclusive(text string) *Error { return fail(http.StatusBadRequest, "M_EXCLUSIVE", text) }

// token is that of a request (clause client-server API, client authentication).
func (q *request) token() (string, error) {
	token, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer ")
	if !ok {
		if token = q.URL.Query().Get("access_token"); token == "" {
			return "", fail(http.StatusUnauthorized, "M_MISSING_TOKEN", "the request has no access token")
		}
	}
	return token, nil
}

// actAs makes a request that of a user of the service that makes it: its own, or the one that it names (clause application service API, identity assertion).
func (a *API) actAs(q *request) error {
	query := q.URL.Query()
	user, device := q.as.SenderID, query.Get("device_id")
	if device == "" {
		device = query.Get("org.matrix.msc3202.device_id") // its name while it was proposed
	}
	if named := query.Get("user_id"); named != "" {
		user = named
	}
	if !q.as.HasUser(user) {
		return forbidden(user + " is no user of the application service")
	}
	var err error
	q.login, err = a.Accounts.Act(q.Context(), user, "")
	switch {
	case errors.Is(err, account.ErrNotFound):
		return forbidden("the application service has not registered " + user)
	case err == nil && device != "":
		if q.login, err = a.Accounts.Act(q.Context(), user, device); errors.Is(err, account.ErrNotFound) {
			return fail(http.StatusBadRequest, "M_UNKNOWN_DEVICE", user+" has no device "+device)
		}
	}
	if err == nil && q.as.RateLimited && user != q.as.SenderID {
		err = a.admit(q, user)
	}
	return err
}

// admitOpen is admit for an open request: it may be a service's, whom nothing limits.
func (a *API) admitOpen(q *request) error {
	if a.Services != nil {
		if s, err := a.service(q); err == nil {
			if q.as = s; !s.RateLimited {
				return nil
			}
		}
	}
	return a.admit(q, "")
}

// personal are the requests that services cannot make for their users, without their last parts: what is about how people log in (clause application service
// API, identity assertion).
var personal = []string{"POST account/password", "POST account/3pid", "POST login/get_token"}

// serviceAllowed is nil unless a request is no service's.
func (q *request) serviceAllowed(route string) error {
	if q.as != nil && slices.ContainsFunc(personal, func(p string) bool { return strings.HasPrefix(route, p) }) {
		return forbidden("an application service cannot do this for its users")
	}
	return nil
}

// mayName is nil if the request's user may make or remove an alias (clause application service API, server admin style permissions).
func (a *API) mayName(q *request, alias string) error {
	if owner := a.Services.Services().AliasOwner(alias); owner != nil && owner != q.as {
		return exclusive(alias + " is reserved for an application service")
	}
	if q.as != nil && !q.as.HasAlias(alias) {
		return exclusive(alias + " is not in a namespace of the application service")
	}
	return nil
}

// makeDevice makes a device for a user of a service, or names it (clause application service API, device management).
func (a *API) makeDevice(q *request) (any, error) {
	var name *string
	if q.body.Get("display_name").Kind() != canonical.None {
		text, err := q.text("display_name")
		if err != nil {
			return nil, err
		}
		name = &text
	}
	made, err := a.Accounts.MakeDevice(q.Context(), q.login.User, q.PathValue("device"), name, a.address(q.Request))
	if made {
		q.status = http.StatusCreated
	}
	return empty, err
}

// device is an error for a service that names no device, where one is needed.
func (q *request) device() error {
	if q.login.Device == "" {
		return missing("device_id (this needs the device of the user)")
	}
	return nil
}

// service is the service whose token a request has.
func (a *API) service(q *request) (*appservice.Service, error) {
	token, err := q.token()
	if err != nil {
		return nil, err
	}
	s := a.Services.Services().ByToken(token)
	if s == nil {
		return nil, fail(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", "the token is not that of an application service")
	}
	return s, nil
}

// legacyLogin says whether clients can log in other than by OAuth.
func (a *API) legacyLogin() bool {
	return !a.NoPasswords || len(a.Providers) > 0 || a.Delegate == nil && !a.Issuer
}

// registerService makes a user of a service (clause application service API, server admin style permissions).
func (a *API) registerService(q *request) (any, error) {
	s, err := a.service(q)
	if err != nil {
		return nil, err
	}
	quiet := q.body.Get("inhibit_login").IsTrue()
	if !quiet && !a.legacyLogin() {
		return nil, errLoginUnsupported
	}
	name, err := q.text("username")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, missing("username")
	}
	if !s.HasUser(a.Accounts.Full(name)) || strings.HasPrefix(name, "@") {
		return nil, exclusive(name + " is not in a namespace of the application service")
	}
	u, err := a.Accounts.Make(q.Context(), account.NewUser{Name: name, Service: s.ID})
	if err != nil {
		return nil, err
	}
	if quiet {
		return map[string]string{"user_id": u.ID}, nil
	}
	return a.tokens(q, u.ID)
}

// serviceUser is whom a service logs in (clause client-server API, appservice login).
func (a *API) serviceUser(q *request) (string, error) {
	s, err := a.service(q)
	if err != nil {
		return "", err
	}
	if !a.legacyLogin() {
		return "", errLoginUnsupported
	}
	user, err := a.identifier(q.Context(), q.body)
	if err != nil {
		return "", err
	}
	// People are known by their name in any case; users of services may have capitals in it.
	if exact := a.Accounts.Full(cmp.Or(q.body.Get("identifier").Get("user").String(), q.body.Get("user").String())); strings.EqualFold(exact, user) {
		if _, err := a.Accounts.User(q.Context(), exact); err == nil {
			user = exact
		}
	}
	if !s.HasUser(user) {
		return "", exclusive(user + " is not in a namespace of the application service")
	}
	if _, err = a.Accounts.User(q.Context(), user); errors.Is(err, account.ErrNotFound) {
		err = forbidden(user + " was not registered")
	}
	return user, err
}

// isService says whether a request wants to register or to log in a user of a service.
func isService(body canonical.Value) bool { return body.Get("type").String() == stageService }

// timestamp is the time that an event gets: the one that a service says, or 0 for now (clause application service API, timestamp massaging).
func (q *request) timestamp() (int64, error) {
	s := q.URL.Query().Get("ts")
	if s == "" || q.as == nil {
		return 0, nil
	}
	ts, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ts <= 0 || ts > canonical.MaxInteger {
		return 0, invalidParam("ts is not a time in milliseconds")
	}
	return ts, nil
}

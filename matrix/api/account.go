package api

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/store"
)

func (a *API) accountRoutes() {
	a.registerRoutes()
	a.secretRegister()
	a.open("GET login", func(*request) (any, error) {
		flows := []map[string]any{{"type": stageToken, "get_login_token": true}}
		if !a.NoPasswords {
			flows = append(flows, map[string]any{"type": stagePassword})
		}
		if a.sso != nil {
			flows = append(flows, a.ssoFlow())
		}
		if a.Services != nil && a.legacyLogin() {
			flows = append(flows, map[string]any{"type": stageService})
		}
		return map[string]any{"flows": flows}, nil
	})
	a.loginTokenRoutes()
	a.contactRoutes()
	a.limited("POST login", a.login)
	a.limited("POST refresh", a.refresh)
	a.bodiless("POST logout", func(q *request) (any, error) {
		return empty, a.logOut(q, q.login.Device)
	})
	a.bodiless("POST logout/all", func(q *request) (any, error) {
		err := a.Accounts.LogoutAll(q.Context(), q.login.User, "")
		a.Syncer.WakeSharing(q.Context(), q.login.User)
		return empty, err
	})
	a.in("GET account/whoami", func(q *request) (any, error) {
		who := map[string]any{"user_id": q.login.User, "is_guest": q.login.Guest}
		if q.login.Device != "" { // services act without one
			who["device_id"] = q.login.Device
		}
		return who, nil
	})
	a.inOr("POST account/password", a.changePassword, a.forgottenPassword)
	a.in("POST account/deactivate", a.deactivate)
	a.deviceRoutes()
	a.profileRoutes()
}

// tokens makes a device of the request's, and its tokens.
func (a *API) tokens(q *request, user string) (any, error) {
	if q.body.Get("device_id").Kind() == canonical.Null { // panels send it for a device that they do not have yet
		q.body = q.body.Without("device_id")
	}
	device, err := q.text("device_id")
	if err != nil {
		return nil, err
	}
	name, err := q.text("initial_device_display_name")
	if err != nil {
		return nil, err
	}
	t, err := a.Accounts.LogIn(q.Context(), user, device, name, a.address(q.Request), q.body.Get("refresh_token").IsTrue())
	if err != nil {
		return nil, err
	}
	return withTokens(map[string]any{"user_id": user, "home_server": a.Server, "device_id": t.Device}, t), nil
}

func withTokens(answer map[string]any, t account.Tokens) map[string]any {
	answer["access_token"] = t.Access
	if t.Refresh != "" {
		answer["refresh_token"], answer["expires_in_ms"] = t.Refresh, t.Expires.Milliseconds()
	}
	return answer
}

// login lets somebody in (clause client-server API, POST /login).
func (a *API) login(q *request) (any, error) {
	var user string
	var err error
	switch kind := q.body.Get("type").String(); kind {
	case stagePassword:
		if a.NoPasswords {
			return nil, forbidden("users log in with no password here")
		}
		if user, err = a.identifier(q.Context(), q.body); err == nil {
			err = a.Accounts.CheckPassword(q.Context(), user, q.body.Get("password").String())
		}
	case stageToken:
		user, err = a.tokenUser(q)
	case stageService:
		user, err = a.serviceUser(q)
	default:
		err = fail(http.StatusBadRequest, "M_UNKNOWN", "there is no login of type "+kind)
	}
	if err != nil {
		return nil, err
	}
	return a.tokens(q, user)
}

// logOut removes a device of the user's.
func (a *API) logOut(q *request, device string) error {
	return a.logOutDevice(q.Context(), q.login.User, device)
}

// logOutDevice removes a device, and tells others whose list of devices changed.
func (a *API) logOutDevice(ctx context.Context, user, device string) error {
	err := a.Accounts.Logout(ctx, user, device)
	a.Syncer.WakeSharing(ctx, user)
	return err
}

// identifier is the user that a login means (clause client-server API, identifier types); "" for an address that nobody has, by which nobody gets in.
func (a *API) identifier(ctx context.Context, v canonical.Value) (string, error) {
	id, ok := v.Find("identifier")
	if !ok {
		id = v // of old clients
	}
	kind := id.Get("type").String()
	switch {
	case kind == "m.id.phone":
		return a.byNumber(ctx, id.Get("country").String(), cmp.Or(id.Get("phone").String(), id.Get("number").String()))
	case kind == "m.id.thirdparty", kind != "m.id.user" && id.Get("medium").String() != "": // as the clause login has it, without a type
		return a.byContact(ctx, id.Get("medium").String(), id.Get("address").String())
	case ok && kind != "m.id.user":
		return "", fail(http.StatusBadRequest, "M_UNKNOWN", "users are not known here by a "+kind)
	}
	name := id.Get("user").String()
	if name == "" {
		return "", missing("identifier")
	}
	localpart, domain, whole := strings.Cut(strings.TrimPrefix(name, "@"), ":")
	if whole && domain != a.Server {
		return name, nil
	}
	return a.Accounts.Full(strings.ToLower(localpart)), nil // as all are here
}

// byNumber is the user who has a number, as it is dialled in a country; "" for nobody.
func (a *API) byNumber(ctx context.Context, country, number string) (string, error) {
	of, err := contact.Dialled(country, number)
	if errors.Is(err, contact.ErrCountry) { // the number may do without it
		return a.byContact(ctx, contact.MSISDN, number)
	}
	if err != nil {
		return "", nil //nolint:nilerr // nobody has it
	}
	return a.owner(ctx, of)
}

// byContact is the user who has an address; "" for nobody.
func (a *API) byContact(ctx context.Context, medium, address string) (string, error) {
	of, err := contact.Parse(medium, address)
	if err != nil {
		return "", nil //nolint:nilerr // nobody has it
	}
	return a.owner(ctx, of)
}

func (a *API) owner(ctx context.Context, of contact.Address) (string, error) {
	user, err := a.Accounts.ByContact(ctx, of)
	if errors.Is(err, contact.ErrUnknown) {
		err = nil
	}
	return user, err
}

func (a *API) refresh(q *request) (any, error) {
	token, err := q.text("refresh_token")
	if err != nil {
		return nil, err
	}
	t, err := a.Accounts.Refresh(q.Context(), token)
	if err != nil {
		return nil, err
	}
	return withTokens(map[string]any{}, t), nil
}

// confirm lets the user prove again who they are.
func (a *API) confirm(q *request) error {
	if q.as != nil { // clause application service API, device management and cross-signing
		return nil
	}
	if q.login.Client != "" { // clause client-server API, OAuth 2.0 API: its tokens cannot be used for this
		return fail(http.StatusForbidden, "M_FORBIDDEN", "an app that logged in by OAuth cannot do this, the user's account page can")
	}
	flows, stages, err := a.confirmFlows(q)
	if err == nil {
		_, err = a.auth.check(q, flows, stages)
	}
	return err
}

// ownPassword checks that a stage's password is that of the user whose request it is.
func (a *API) ownPassword(q *request, sent canonical.Value) error {
	user, err := a.identifier(q.Context(), sent)
	if err != nil {
		return err
	}
	if user != q.login.User {
		return errOther
	}
	return a.Accounts.CheckPassword(q.Context(), user, sent.Get("password").String())
}

func (a *API) changePassword(q *request) (any, error) {
	if err := a.confirm(q); err != nil {
		return nil, err
	}
	password, err := newPassword(q)
	if err != nil {
		return nil, err
	}
	if err := a.Accounts.SetPassword(q.Context(), q.login.User, password); err != nil {
		return nil, err
	}
	if keep := q.body.Get("logout_devices"); !keep.IsFalse() {
		return empty, a.Accounts.LogoutAll(q.Context(), q.login.User, q.login.Device)
	}
	return empty, nil
}

// newPassword is the one that a request sets.
func newPassword(q *request) (string, error) {
	password, err := q.text("new_password")
	if err == nil && password == "" {
		err = missing("new_password")
	}
	return password, err
}

func (a *API) deactivate(q *request) (any, error) {
	if err := a.confirm(q); err != nil {
		return nil, err
	}
	return a.endUnbound(q.Context(), q.login.User, q.body.Get("id_server").String(), q.body.Get("erase").IsTrue())
}

// end ends an account, and may have it forgotten.
func (a *API) end(ctx context.Context, user string, erase bool) error {
	_, err := a.endUnbound(ctx, user, "", erase)
	return err
}

// endUnbound is that with the answer that says whether identity servers tell no more of the user's addresses: the one that is named, or those where they were
// bound.
func (a *API) endUnbound(ctx context.Context, user, server string, erase bool) (any, error) {
	if err := a.leaveAll(ctx, user); err != nil {
		return nil, err
	}
	result, _ := a.unbind(ctx, user, server, func(contact.Address) bool { return true }, nil) // the account ends all the same
	err := a.Accounts.Deactivate(ctx, user)
	if err == nil && erase {
		err = a.Accounts.Erase(ctx, user)
	}
	return map[string]string{"id_server_unbind_result": result}, err
}

// secretRegister makes accounts for whoever knows the shared secret, as Synapse does at the same path.
func (a *API) secretRegister() {
	var mu sync.Mutex
	nonces := map[string]bool{}
	a.open("GET /_synapse/admin/v1/register", func(*request) (any, error) {
		if a.SharedSecret == "" {
			return nil, fail(http.StatusNotFound, "M_UNRECOGNIZED", "the server has no shared secret")
		}
		mu.Lock()
		defer mu.Unlock()
		if len(nonces) > 1000 {
			clear(nonces)
		}
		nonce := rand.Text()
		nonces[nonce] = true
		return map[string]string{"nonce": nonce}, nil
	})
	a.limited("POST /_synapse/admin/v1/register", func(q *request) (any, error) {
		nonce := q.body.Get("nonce").String()
		mu.Lock()
		known := nonces[nonce]
		delete(nonces, nonce)
		mu.Unlock()
		if a.SharedSecret == "" || !known {
			return nil, fail(http.StatusBadRequest, "M_UNKNOWN", "the nonce is not known")
		}
		name, password, admin := q.body.Get("username").String(), q.body.Get("password").String(), "notadmin"
		if q.body.Get("admin").IsTrue() {
			admin = "admin"
		}
		mac := hmac.New(sha1.New, []byte(a.SharedSecret))
		_, _ = mac.Write([]byte(strings.Join([]string{nonce, name, password, admin}, "\x00")))
		if given, err := hex.DecodeString(q.body.Get("mac").String()); err != nil || !hmac.Equal(given, mac.Sum(nil)) {
			return nil, forbidden("the mac does not fit")
		}
		u, err := a.Accounts.Create(q.Context(), strings.ToLower(name), password, admin == "admin", false)
		if err != nil {
			return nil, err
		}
		return a.tokens(q, u.ID)
	})
}

func (a *API) deviceRoutes() {
	view := func(d store.Device) any {
		return map[string]any{"device_id": d.ID, "display_name": d.Name, "last_seen_ts": d.Seen, "last_seen_ip": d.Address}
	}
	a.in("GET devices", func(q *request) (any, error) {
		all, err := a.Accounts.Devices(q.Context(), q.login.User)
		views := []any{}
		for _, d := range all {
			views = append(views, view(d))
		}
		return map[string]any{"devices": views}, err
	})
	a.in("GET devices/{device}", func(q *request) (any, error) {
		d, err := a.Accounts.Device(q.Context(), q.login.User, q.PathValue("device"))
		return view(d), err
	})
	a.in("PUT devices/{device}", func(q *request) (any, error) {
		if q.as != nil {
			return a.makeDevice(q)
		}
		name, err := q.text("display_name")
		if err != nil {
			return nil, err
		}
		return empty, a.Accounts.NameDevice(q.Context(), q.login.User, q.PathValue("device"), name)
	})
	a.in("DELETE devices/{device}", func(q *request) (any, error) {
		if err := a.confirm(q); err != nil {
			return nil, err
		}
		return empty, a.logOut(q, q.PathValue("device"))
	})
	a.in("POST delete_devices", func(q *request) (any, error) {
		if err := a.confirm(q); err != nil {
			return nil, err
		}
		var err error
		for d := range q.body.Get("devices").Elements {
			err = errors.Join(err, a.logOut(q, d.String()))
		}
		return empty, err
	})
}

// profileNames are the fields that old clients set, and that members' events have, too.
var profileNames = []string{"displayname", "avatar_url"}

func (a *API) profileRoutes() {
	a.open("GET profile/{user}", func(q *request) (any, error) {
		a.askUsers(q, q.PathValue("user"))
		return a.Accounts.Profile(q.Context(), q.PathValue("user"))
	})
	a.open("GET profile/{user}/{field}", func(q *request) (any, error) {
		a.askUsers(q, q.PathValue("user"))
		all, err := a.Accounts.Profile(q.Context(), q.PathValue("user"))
		if err != nil {
			return nil, err
		}
		field := q.PathValue("field")
		if v, ok := all[field]; ok {
			return map[string]json.RawMessage{field: v}, nil
		}
		if slices.Contains(profileNames, field) {
			return empty, nil
		}
		return nil, notFound("the profile has no field " + field)
	})
	set := func(q *request, v json.RawMessage) (any, error) {
		if q.PathValue("user") != q.login.User {
			return nil, forbidden("this is somebody else's profile")
		}
		if err := a.Accounts.SetProfile(q.Context(), q.login.User, q.PathValue("field"), v); err != nil {
			return nil, err
		}
		return empty, a.showProfile(q.Context(), q.login.User, q.PathValue("field"))
	}
	a.in("PUT profile/{user}/{field}", func(q *request) (any, error) {
		v, ok := q.body.Find(q.PathValue("field"))
		if !ok {
			return nil, missing(q.PathValue("field"))
		}
		if len(q.PathValue("field")) > 255 {
			return nil, fail(http.StatusBadRequest, "M_KEY_TOO_LARGE", "the field's name is too long")
		}
		if len(v.JSON()) > 65536 {
			return nil, fail(http.StatusBadRequest, "M_PROFILE_TOO_LARGE", "the field is too large")
		}
		return set(q, v.JSON())
	})
	a.in("DELETE profile/{user}/{field}", func(q *request) (any, error) { return set(q, nil) })
}

// memberContent is the content of a user's own member event.
func (a *API) memberContent(q *request, user, membership string) canonical.Value {
	content := canonical.Of(canonical.Member{Name: "membership", Value: canonical.Text(membership)})
	if reason := q.body.Get("reason").String(); reason != "" {
		content = content.With("reason", canonical.Text(reason))
	}
	if membership != "join" && membership != "invite" && membership != "knock" {
		return content
	}
	profile, err := a.Accounts.Profile(q.Context(), user)
	if err != nil { // of another server, perhaps
		return content
	}
	return withProfile(content, profile)
}

func withProfile(content canonical.Value, profile map[string]json.RawMessage) canonical.Value {
	for _, name := range profileNames {
		content = content.Without(name)
		if v, err := canonical.Parse(profile[name], canonical.Strict); err == nil && v.Kind() == canonical.String {
			content = content.With(name, v)
		}
	}
	return content
}

// errNothing ends a turn in which there is nothing to do.
var errNothing = errors.New("nothing to do")

// doneOr is nil for a turn that had nothing to do.
func doneOr(err error) error {
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

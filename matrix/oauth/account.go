package oauth

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/page"
	"orrery/matrix/store"
)

// Actions that the page of an account takes (clause client-server API, account management URL actions).
const (
	actionReset      = "org.matrix.cross_signing_reset"
	actionDevices    = "org.matrix.devices_list"
	actionView       = "org.matrix.device_view"
	actionDelete     = "org.matrix.device_delete"
	actionDeactivate = "org.matrix.account_deactivate"
)

var actions = []string{actionDevices, actionView, actionDelete, actionDeactivate, actionReset}

func (i *Issuer) pageRoutes() {
	i.mux.Handle("GET /oauth2/authorize", i.page(i.authorize))
	i.mux.Handle("POST /oauth2/authorize", i.page(i.authorize))
	i.mux.Handle("GET /account/login", i.page(i.showLogin))
	i.mux.Handle("POST /account/login", i.page(i.login))
	i.mux.Handle("GET /account/provider/{n}", i.page(i.toProvider))
	i.mux.Handle("GET /account/provided", i.page(i.fromProvider))
	if i.c.Register {
		i.mux.Handle("GET /account/register", i.page(func(v *visit) error { return v.showRegister(http.StatusOK, "") }))
		i.mux.Handle("POST /account/register", i.page(i.register))
	}
	i.mux.Handle("POST /account/logout", i.page(func(v *visit) error {
		if err := v.leave(); err != nil {
			return err
		}
		v.to("/account/login", "next", local(v.PostFormValue("next")))
		return nil
	}))
	i.mux.Handle("GET /account/{$}", i.in(i.manage))
	i.mux.Handle("POST /account/device", i.in(i.deleteDevice))
	i.mux.Handle("POST /account/password", i.in(i.changePassword))
	i.mux.Handle("POST /account/deactivate", i.in(i.deactivate))
	i.mux.Handle("POST /account/reset", i.in(func(v *visit) error {
		v.i.Resets.Allow(v.user)
		return v.done("For ten minutes your app can replace the identity of your keys. Go back to it.")
	}))
	i.contactPages()
	i.mux.Handle("GET /account/link", i.in(i.showLink))
	i.mux.Handle("POST /account/link", i.in(i.decideLink))
}

func (v *visit) done(text string) error {
	return v.render(http.StatusOK, "done", map[string]any{"Text": text})
}

// loginPage is where people log in; with what was wrong with their last try.
func (v *visit) loginPage(status int, name, problem string) error {
	var providers []map[string]any
	for n, p := range v.i.c.Providers {
		providers = append(providers, map[string]any{"Name": p.Name, "N": n})
	}
	return v.render(status, "login", map[string]any{
		"Next": local(v.FormValue("next")), "Name": name, "Problem": problem, "Register": v.i.c.Register, "Providers": providers, "Passwords": !v.i.c.NoPasswords, "Forgotten": v.sends() != "",
	})
}

func (i *Issuer) showLogin(v *visit) error {
	return v.loginPage(http.StatusOK, hinted(v.FormValue("next")), "")
}

func (i *Issuer) login(v *visit) error {
	if i.c.NoPasswords {
		return wrong("People log in with no password here.")
	}
	name := strings.TrimSpace(v.PostFormValue("name"))
	user := i.c.Accounts.Full(name)
	if !strings.HasPrefix(name, "@") {
		user = i.c.Accounts.Full(strings.ToLower(name))
	}
	if of, err := named(name); err == nil {
		if user, err = i.c.Accounts.ByContact(v.Context(), of); err != nil && !errors.Is(err, contact.ErrUnknown) {
			return err
		}
	}
	err := i.c.Accounts.CheckPassword(v.Context(), user, v.PostFormValue("password"))
	switch {
	case errors.Is(err, account.ErrPassword), errors.Is(err, account.ErrDeactivated):
		return v.loginPage(http.StatusForbidden, name, "The name or the password is wrong.")
	case err != nil:
		return err
	}
	if err := v.enter(user); err != nil {
		return err
	}
	v.to(local(v.PostFormValue("next")))
	return nil
}

// toProvider sends the browser to log in elsewhere, and to fromProvider afterwards. The state binds both to the browser.
func (i *Issuer) toProvider(v *visit) error {
	for n, p := range i.c.Providers {
		if v.PathValue("n") != string(rune('0'+n)) {
			continue
		}
		state := rand.Text()
		http.SetCookie(v.w, i.cookie(stateCookie, state, 15*time.Minute))
		back := i.at("account/provided?" + url.Values{"state": {state}, "next": {local(v.FormValue("next"))}}.Encode())
		v.to(p.URL, "redirectUrl", back)
		return nil
	}
	return &page.Problem{Status: http.StatusNotFound, Text: "There is no such way to log in."}
}

func (i *Issuer) fromProvider(v *visit) error {
	state := v.sent(stateCookie)
	http.SetCookie(v.w, i.cookie(stateCookie, "", -time.Second))
	if state == "" || subtle.ConstantTimeCompare([]byte(state), []byte(v.FormValue("state"))) != 1 {
		return wrong("This login was not begun in this browser. Log in again.")
	}
	user, err := i.c.Accounts.UseLoginToken(v.Context(), v.FormValue("loginToken"))
	if errors.Is(err, account.ErrToken) || errors.Is(err, account.ErrDeactivated) {
		return wrong("The login took too long. Log in again.")
	}
	if err != nil {
		return err
	}
	if err := v.enter(user); err != nil {
		return err
	}
	v.to(local(v.FormValue("next")))
	return nil
}

func (v *visit) showRegister(status int, problem string) error {
	_, lacks, err := v.registering()
	if lacks != "" {
		return v.showAddress(status, lacks, problem)
	}
	if err != nil {
		return tooLate(err)
	}
	return v.render(status, "register", map[string]any{
		"Next": local(v.FormValue("next")), "Name": v.PostFormValue("name"), "Problem": problem, "Token": v.i.c.NeedInvitation, "Terms": v.i.c.Terms, "Shown": v.shown(),
	})
}

func (i *Issuer) register(v *visit) error {
	n := account.NewUser{Name: strings.ToLower(strings.TrimSpace(v.PostFormValue("name"))), Password: v.PostFormValue("password")}
	switch {
	case n.Password == "":
		return v.showRegister(http.StatusBadRequest, "A password is missing.")
	case n.Password != v.PostFormValue("again"):
		return v.showRegister(http.StatusBadRequest, "These are two passwords.")
	case len(i.c.Terms) > 0 && v.PostFormValue("accept") != "yes":
		return v.showRegister(http.StatusBadRequest, "The terms must be accepted.")
	}
	if i.c.NeedInvitation {
		if n.Invitation = strings.TrimSpace(v.PostFormValue("token")); n.Invitation == "" {
			return v.showRegister(http.StatusBadRequest, "A registration token is missing.")
		}
	}
	var err error
	if n.Proofs, _, err = v.registering(); err != nil {
		return tooLate(err)
	}
	u, err := i.c.Accounts.Make(v.Context(), n)
	for kind, text := range map[error]string{
		account.ErrTaken: "This name is taken.", account.ErrInvitation: "The registration token does not count.", contact.ErrInUse: "This address is in an account already.",
		account.ErrName: "A name has only the letters a to z, 0 to 9 and . _ = - / +",
	} {
		if errors.Is(err, kind) {
			return v.showRegister(http.StatusBadRequest, text)
		}
	}
	if err != nil {
		return err
	}
	if err := v.enter(u.ID); err != nil {
		return err
	}
	v.to(local(v.PostFormValue("next")))
	return nil
}

// manage is the page of an account, or what an action of it asks for.
func (i *Issuer) manage(v *visit) error {
	data := map[string]any{"Device": v.FormValue("device_id")}
	switch v.FormValue("action") {
	case actionReset:
		return v.render(http.StatusOK, "reset", data)
	case actionDeactivate:
		return v.showDeactivate(http.StatusOK, "")
	}
	return v.showAccount(http.StatusOK, "")
}

func (v *visit) showAccount(status int, problem string) error {
	all, err := v.i.c.Accounts.Devices(v.Context(), v.user)
	if err != nil {
		return err
	}
	u, err := v.i.c.Accounts.User(v.Context(), v.user)
	if err != nil {
		return err
	}
	type device struct {
		store.Device

		Shown, When string
		Chosen      bool
	}
	var devices []device
	for _, d := range all {
		shown := d.Name
		if shown == "" {
			shown = d.ID
		}
		devices = append(devices, device{d, shown, time.UnixMilli(d.Seen).UTC().Format("2006-01-02 15:04 UTC"), d.ID == v.FormValue("device_id")})
	}
	contacts, err := v.i.c.Accounts.Contacts(v.Context(), v.user)
	if err != nil {
		return err
	}
	return v.render(status, "account", map[string]any{"Contacts": contacts, "Asked": v.sends(), "Devices": devices, "Password": u.Password != "", "Problem": problem})
}

func (i *Issuer) deleteDevice(v *visit) error {
	if err := i.c.LogOut(v.Context(), v.user, v.PostFormValue("device_id")); err != nil {
		return err
	}
	v.to("/account/")
	return nil
}

// proves is nil if the user has sent their password; one who has none must have logged in just now.
func (v *visit) proves() error {
	u, err := v.i.c.Accounts.User(v.Context(), v.user)
	if err != nil {
		return err
	}
	if u.Password == "" {
		if !v.fresh() {
			return &page.Problem{Status: http.StatusForbidden, Text: "For this, log out here and log in again."}
		}
		return nil
	}
	err = v.i.c.Accounts.CheckPassword(v.Context(), v.user, v.PostFormValue("password"))
	if errors.Is(err, account.ErrPassword) {
		err = &page.Problem{Status: http.StatusForbidden, Text: "The password is wrong."}
	}
	return err
}

func (i *Issuer) changePassword(v *visit) error {
	err := v.proves()
	switch {
	case err != nil:
	case v.PostFormValue("new") == "":
		err = wrong("The new password is missing.")
	case v.PostFormValue("new") != v.PostFormValue("again"):
		err = wrong("These are two new passwords.")
	}
	if p, ok := errors.AsType[*page.Problem](err); ok {
		return v.showAccount(p.Status, p.Text)
	}
	if err != nil {
		return err
	}
	if err := i.c.Accounts.SetPassword(v.Context(), v.user, v.PostFormValue("new")); err != nil {
		return err
	}
	if err := v.enter(v.user); err != nil { // the other browsers are logged out
		return err
	}
	return v.done("Your password was changed. Your devices stay logged in.")
}

func (v *visit) showDeactivate(status int, problem string) error {
	u, err := v.i.c.Accounts.User(v.Context(), v.user)
	if err != nil {
		return err
	}
	return v.render(status, "deactivate", map[string]any{"Password": u.Password != "", "Problem": problem})
}

func (i *Issuer) deactivate(v *visit) error {
	err := v.proves()
	if p, ok := errors.AsType[*page.Problem](err); ok {
		return v.showDeactivate(p.Status, p.Text)
	}
	if err != nil {
		return err
	}
	if err := i.c.Deactivate(v.Context(), v.user, v.PostFormValue("erase") == "yes"); err != nil {
		return err
	}
	v.user = ""
	return v.done("Your account was ended.")
}

// showLink asks for the code of a device, and with one whether its user may let it in.
func (i *Issuer) showLink(v *visit) error {
	code := v.FormValue("user_code")
	if code == "" {
		return v.render(http.StatusOK, "link", map[string]any{})
	}
	l, ok, err := i.link(v.Context(), code)
	if err != nil {
		return err
	}
	if !ok && i.wrongCode(v.user) {
		return &page.Problem{Status: http.StatusTooManyRequests, Text: "These were too many wrong codes. Try again in a quarter of an hour."}
	}
	if !ok {
		return v.render(http.StatusNotFound, "link", map[string]any{"Problem": "The code is not known, or too old."})
	}
	c, err := i.client(v.Context(), l.Client)
	if err != nil {
		return err
	}
	s, err := readScope(l.Scope)
	if err != nil {
		return err
	}
	return v.render(http.StatusOK, "allow", map[string]any{"Code": l.UserCode, "Client": c.shown(), "Host": c.host(), "Device": s.device})
}

func (i *Issuer) decideLink(v *visit) error {
	l, ok, err := i.link(v.Context(), v.PostFormValue("user_code"))
	if err != nil {
		return err
	}
	if !ok {
		return wrong("The code is not known, or too old.")
	}
	allow := v.PostFormValue("decision") == "allow"
	if err := i.decide(v.Context(), l.Hash, v.user, allow); err != nil {
		return err
	}
	if !allow {
		return v.done("The device was not let in.")
	}
	return v.done("The device is let in. Go back to it.")
}

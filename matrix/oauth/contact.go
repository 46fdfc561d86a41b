package oauth

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/contact/mail"
	"orrery/matrix/contact/validation"
	"orrery/matrix/page"
)

// contactPages are those about addresses of mail, and what is done by them.
func (i *Issuer) contactPages() {
	i.mux.Handle("POST /account/address", i.in(i.askAddress))
	i.mux.Handle("GET /account/address", i.in(i.addAddress))
	i.mux.Handle("POST /account/address/remove", i.in(i.removeAddress))
	if i.c.NoPasswords {
		return
	}
	i.mux.Handle("GET /account/forgotten", i.page(func(v *visit) error { return v.showForgotten(http.StatusOK, "") }))
	i.mux.Handle("POST /account/forgotten", i.page(i.forgotten))
	i.mux.Handle("GET /account/new-password", i.page(func(v *visit) error { return v.showNewPassword(http.StatusOK, "") }))
	i.mux.Handle("POST /account/new-password", i.page(i.newPassword))
	if i.c.Register {
		i.mux.Handle("POST /account/register/address", i.page(i.askRegister))
	}
}

// mailed sends a mail whose link leads to a page of this server, which is given the session and its secret, and says so; what is wrong with the address is
// shown by a function.
func (v *visit) mailed(p contact.Purpose, user, address, path string, wrong func(status int, problem string) error) error {
	of, err := contact.Parse(contact.Email, address)
	if err != nil {
		return wrong(http.StatusBadRequest, "This is no address of mail.")
	}
	// The session's id is not known before the mail is sent: the page finds it again by the secret.
	secret := rand.Text()
	next := v.i.at(strings.TrimPrefix(path, "/") + "?" + url.Values{"address": {of.Text}, "secret": {secret}, "next": {local(v.FormValue("next"))}}.Encode())
	_, err = v.i.c.Validations.Ask(v.Context(), validation.Wanted{
		Purpose: p, Address: of, User: user, Secret: secret, Attempt: 1, NextLink: next, From: v.i.c.Address(v.Request),
	})
	var many *validation.TooMany
	switch {
	case errors.As(err, &many):
		return wrong(http.StatusTooManyRequests, "Too many mails were sent. Try again later.")
	case errors.Is(err, mail.ErrRefused):
		return wrong(http.StatusBadRequest, "No mail can be sent to this address.")
	case errors.Is(err, contact.ErrInUse):
		return wrong(http.StatusBadRequest, "This address is in an account already.")
	case errors.Is(err, contact.ErrUnknown):
		return wrong(http.StatusBadRequest, "This address is in no account.")
	case errors.Is(err, validation.ErrNoMail):
		return &page.Problem{Status: http.StatusNotFound, Text: "This server sends no mail."}
	case errors.Is(err, validation.ErrSending):
		return wrong(http.StatusBadGateway, "The mail could not be sent. Try again later.")
	case err != nil:
		return err
	}
	return v.render(http.StatusOK, "sent", map[string]any{"Address": of.Text})
}

// proof is that with which the browser came from the link of a mail.
func (v *visit) proof(p contact.Purpose) (validation.Proof, error) {
	of, err := contact.Parse(contact.Email, v.FormValue("address"))
	if err != nil {
		return validation.Proof{}, contact.ErrSession
	}
	return v.i.c.Validations.Find(v.Context(), p, of, v.user, v.FormValue("secret"))
}

// tooLate is what a page says of a link that does not count any more.
func tooLate(err error) error {
	for _, kind := range []error{contact.ErrSession, contact.ErrExpired, contact.ErrNotYet, contact.ErrUnknown} {
		if errors.Is(err, kind) {
			return wrong("This link was used, or is too old. Begin again.")
		}
	}
	return err
}

// askAddress sends a mail to an address that the user wants to add.
func (i *Issuer) askAddress(v *visit) error {
	err := v.proves()
	if p, ok := errors.AsType[*page.Problem](err); ok {
		return v.showAccount(p.Status, p.Text)
	}
	if err != nil {
		return err
	}
	return v.mailed(contact.Add, v.user, v.PostFormValue("address"), "/account/address", v.showAccount)
}

// addAddress adds it, once the user has followed the link of the mail. Only who asked for it can.
func (i *Issuer) addAddress(v *visit) error {
	p, err := v.proof(contact.Add)
	if err == nil {
		err = i.c.Accounts.AddContact(v.Context(), v.user, p)
	}
	switch {
	case errors.Is(err, contact.ErrInUse):
		return wrong("This address is in another account.")
	case errors.Is(err, account.ErrContacts):
		return wrong("Your account has too many addresses. Remove one.")
	case err != nil:
		return tooLate(err)
	}
	v.to("/account/")
	return nil
}

func (i *Issuer) removeAddress(v *visit) error {
	of := contact.Address{Medium: v.PostFormValue("medium"), Text: v.PostFormValue("address")}
	if err := i.c.Accounts.RemoveContact(v.Context(), v.user, of); err != nil && !errors.Is(err, contact.ErrUnknown) {
		return err
	}
	v.to("/account/")
	return nil
}

func (v *visit) showForgotten(status int, problem string) error {
	if !v.i.c.Validations.Sends() {
		return &page.Problem{Status: http.StatusNotFound, Text: "This server sends no mail. Ask whoever runs it for a new password."}
	}
	return v.render(status, "forgotten", map[string]any{"Problem": problem, "Next": local(v.FormValue("next"))})
}

func (i *Issuer) forgotten(v *visit) error {
	return v.mailed(contact.Reset, "", v.PostFormValue("address"), "/account/new-password", v.showForgotten)
}

func (v *visit) showNewPassword(status int, problem string) error {
	v.user = ""
	if _, err := v.proof(contact.Reset); err != nil {
		return tooLate(err)
	}
	return v.render(status, "newpassword", map[string]any{
		"Problem": problem, "Address": v.FormValue("address"), "Secret": v.FormValue("secret"), "Next": local(v.FormValue("next")),
	})
}

func (i *Issuer) newPassword(v *visit) error {
	v.user = ""
	switch password := v.PostFormValue("new"); {
	case password == "":
		return v.showNewPassword(http.StatusBadRequest, "The new password is missing.")
	case password != v.PostFormValue("again"):
		return v.showNewPassword(http.StatusBadRequest, "These are two new passwords.")
	}
	p, err := v.proof(contact.Reset)
	if err != nil {
		return tooLate(err)
	}
	user, err := i.c.Accounts.ResetPassword(v.Context(), p, v.PostFormValue("new"))
	if err != nil {
		return tooLate(err)
	}
	if v.PostFormValue("logout") == "yes" {
		if err := i.c.LogOutAll(v.Context(), user); err != nil {
			return err
		}
	}
	v.to("/account/login", "next", local(v.PostFormValue("next")))
	return nil
}

// askRegister sends a mail to whoever wants to make an account, where that takes an address.
func (i *Issuer) askRegister(v *visit) error {
	return v.mailed(contact.Register, "", v.PostFormValue("address"), "/account/register", v.showRegister)
}

// registering is the proof of the address with which an account is made; nil if none was given, which must not be where one is needed.
func (v *visit) registering() (*validation.Proof, error) {
	if v.FormValue("secret") == "" {
		if v.i.c.NeedEmail {
			return nil, contact.ErrSession
		}
		return nil, nil //nolint:nilnil // none is needed
	}
	user := v.user
	v.user = ""
	p, err := v.proof(contact.Register)
	v.user = user
	return &p, err
}

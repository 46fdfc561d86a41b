package oauth

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"orrery/matrix/account"
	"orrery/matrix/contact"
	"orrery/matrix/contact/mail"
	"orrery/matrix/contact/validation"
	"orrery/matrix/page"
)

// contactPages are those about addresses of mail and numbers of telephones, and what is done by them.
func (i *Issuer) contactPages() {
	i.mux.Handle("POST /account/address", i.in(i.askAddress))
	i.mux.Handle("GET /account/address", i.in(i.addAddress))
	i.mux.Handle("POST /account/address/remove", i.in(i.removeAddress))
	i.mux.Handle("POST /account/code", i.page(i.takeCode))
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

// sends is what people can be asked for: the names of media, one after another; "" if nothing is sent to any.
func (v *visit) sends() string {
	var all []string
	for _, medium := range []string{contact.Email, contact.MSISDN} {
		if v.i.c.Validations.Sends(medium) {
			all = append(all, medium)
		}
	}
	return strings.Join(all, " ")
}

// named is an address in place of a user's name: of mail, or a number that begins with a plus, since names may be of digits.
func named(text string) (contact.Address, error) {
	if strings.HasPrefix(text, "+") {
		return contact.Parse(contact.MSISDN, text)
	}
	return contact.Parse(contact.Email, text)
}

// noAddress is what pages say of what is no address to which something is sent, of those that can be asked for.
var noAddress = map[string]string{
	contact.Email:                        "This is no address of mail.",
	contact.MSISDN:                       "This is no number of a telephone with the code of its country, as in +44 7700 900001.",
	contact.Email + " " + contact.MSISDN: "This is neither an address of mail nor the number of a telephone with the code of its country, as in +44 7700 900001.",
}

// places are where people go on who have shown that an address is theirs.
var places = map[contact.Purpose]string{contact.Add: "/account/address", contact.Reset: "/account/new-password", contact.Register: "/account/register"}

// fields are those in which the forms and links for a new account say which address was shown, and by which secret; all others have the first for any.
var fields = map[string][2]string{contact.Email: {"address", "secret"}, contact.MSISDN: {"number", "number_secret"}}

// on is what the next page is told of an address that is shown to be somebody's, besides what this one was told.
func (v *visit) on(p contact.Purpose, of contact.Address, secret string) url.Values {
	names := fields[contact.Email]
	if p == contact.Register {
		names = fields[of.Medium]
	}
	values := url.Values{"next": {local(v.FormValue("next"))}}
	for name, value := range v.shown() {
		values.Set(name, value)
	}
	values.Set(names[0], of.Text)
	values.Set(names[1], secret)
	return values
}

// shown is what the request says of addresses that were shown to be of whoever makes an account.
func (v *visit) shown() map[string]string {
	all := map[string]string{}
	for _, names := range fields {
		if v.FormValue(names[1]) != "" {
			all[names[0]], all[names[1]] = v.FormValue(names[0]), v.FormValue(names[1])
		}
	}
	return all
}

// ask sends a mail whose link leads to a page of this server, which is given the session and its secret, or a message, and asks for its code; what is wrong with
// the address is shown by a function. What can be asked for are the names of media.
func (v *visit) ask(p contact.Purpose, user, address, asked string, wrong func(status int, problem string) error) error {
	of, err := contact.Any(address)
	if err != nil || !slices.Contains(strings.Fields(asked), of.Medium) {
		return wrong(http.StatusBadRequest, noAddress[asked])
	}
	// The session's id is not known before the mail is sent: the page finds it again by the secret.
	secret := rand.Text()
	next := v.i.at(strings.TrimPrefix(places[p], "/") + "?" + v.on(p, of, secret).Encode())
	id, err := v.i.c.Validations.Ask(v.Context(), validation.Wanted{
		Purpose: p, Address: of, User: user, Secret: secret, Attempt: 1, NextLink: next, From: v.i.c.Address(v.Request),
	})
	var many *validation.TooMany
	switch {
	case errors.As(err, &many):
		return wrong(http.StatusTooManyRequests, "Too many mails or messages were sent. Try again later.")
	case errors.Is(err, mail.ErrRefused):
		return wrong(http.StatusBadRequest, "No mail can be sent to this address.")
	case errors.Is(err, validation.ErrElsewhere):
		return wrong(http.StatusBadRequest, "This server sends nothing to telephones of this country.")
	case errors.Is(err, contact.ErrInUse):
		return wrong(http.StatusBadRequest, "This address is in an account already.")
	case errors.Is(err, contact.ErrUnknown):
		return wrong(http.StatusBadRequest, "This address is in no account.")
	case errors.Is(err, validation.ErrNoMail), errors.Is(err, validation.ErrNoMessages):
		return &page.Problem{Status: http.StatusNotFound, Text: "This server sends nothing there."}
	case errors.Is(err, validation.ErrSending):
		return wrong(http.StatusBadGateway, "Nothing could be sent to this address. Try again later.")
	case err != nil:
		return err
	}
	if of.Medium == contact.MSISDN {
		return v.showCode(http.StatusOK, "", id, secret, of.Text)
	}
	return v.render(http.StatusOK, "sent", map[string]any{"Address": of.Text})
}

// showCode asks for the code of a message.
func (v *visit) showCode(status int, problem, id, secret, number string) error {
	return v.render(status, "code", map[string]any{
		"Problem": problem, "Sid": id, "Code": secret, "To": number, "Next": local(v.FormValue("next")), "Shown": v.shown(),
	})
}

// takeCode takes the code, and goes on to what the number is for.
func (i *Issuer) takeCode(v *visit) error {
	id, secret := v.PostFormValue("sid"), v.PostFormValue("code_secret")
	s, err := i.c.Validations.SubmitCode(v.Context(), id, secret, v.PostFormValue("code"))
	if said := validation.Said(err); said != "" {
		return v.showCode(http.StatusForbidden, said, id, secret, v.PostFormValue("to"))
	}
	if err != nil {
		return err
	}
	http.Redirect(v.w, v.Request, places[s.Purpose]+"?"+v.on(s.Purpose, s.Address, secret).Encode(), http.StatusSeeOther)
	return nil
}

// proof is that with which the browser came from the link of a mail, or after it had sent a code.
func (v *visit) proof(p contact.Purpose) (validation.Proof, error) {
	return v.find(p, v.user, v.FormValue("address"), v.FormValue("secret"))
}

func (v *visit) find(p contact.Purpose, user, address, secret string) (validation.Proof, error) {
	of, err := contact.Any(address)
	if err != nil {
		return validation.Proof{}, contact.ErrSession
	}
	return v.i.c.Validations.Find(v.Context(), p, of, user, secret)
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
	return v.ask(contact.Add, v.user, v.PostFormValue("address"), v.sends(), v.showAccount)
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
	if v.sends() == "" {
		return &page.Problem{Status: http.StatusNotFound, Text: "This server sends no mail, and nothing to telephones. Ask whoever runs it for a new password."}
	}
	return v.render(status, "forgotten", map[string]any{"Problem": problem, "Asked": v.sends(), "Next": local(v.FormValue("next"))})
}

func (i *Issuer) forgotten(v *visit) error {
	return v.ask(contact.Reset, "", v.PostFormValue("address"), v.sends(), v.showForgotten)
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

// askRegister sends a mail or a message to whoever wants to make an account, where that takes an address.
func (i *Issuer) askRegister(v *visit) error {
	medium := v.PostFormValue("medium")
	if _, ok := fields[medium]; !ok {
		return wrong("Begin again.")
	}
	return v.ask(contact.Register, "", v.PostFormValue("asked"), medium, func(status int, problem string) error { return v.showAddress(status, medium, problem) })
}

// showAddress asks for an address of a medium.
func (v *visit) showAddress(status int, medium, problem string) error {
	return v.render(status, "address", map[string]any{"Problem": problem, "Asked": medium, "Shown": v.shown(), "Next": local(v.FormValue("next"))})
}

// registering are the proofs of the addresses with which an account is made. lacks is a medium of which one is needed and none was shown: then there is an error,
// too.
func (v *visit) registering() (all []validation.Proof, lacks string, err error) {
	for _, medium := range []string{contact.Email, contact.MSISDN} {
		needed := medium == contact.Email && v.i.c.NeedEmail || medium == contact.MSISDN && v.i.c.NeedNumber
		address, secret := v.FormValue(fields[medium][0]), v.FormValue(fields[medium][1])
		if secret == "" && !needed {
			continue
		}
		p, wrong := v.find(contact.Register, "", address, secret)
		if of, _ := contact.Any(address); wrong == nil && of.Medium != medium {
			wrong = contact.ErrSession
		}
		if wrong != nil && needed && lacks == "" {
			lacks = medium
		}
		err = errors.Join(err, wrong)
		all = append(all, p)
	}
	return all, lacks, err
}

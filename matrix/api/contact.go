package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"

	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/contact/validation"
)

// Stages in which users show that an address of mail, or the number of a telephone, is theirs.
const (
	stageEmail  = "m.login.email.identity"
	stageNumber = "m.login.msisdn"
)

// mediumOf is of which medium the addresses of a stage are; "" if it is about none.
func mediumOf(stage string) string {
	switch stage {
	case stageEmail:
		return contact.Email
	case stageNumber:
		return contact.MSISDN
	}
	return ""
}

// contactRoutes are requests about addresses by which users are reached outside (clause client-server API, adding account administrative contact
// information).
func (a *API) contactRoutes() {
	a.in("GET account/3pid", a.listContacts)
	a.in("POST account/3pid/add", a.addContact)
	a.in("POST account/3pid/delete", a.deleteContact)
	a.validateRoutes()
	a.fallbackRoutes()
	a.identityRoutes()
	for path, p := range map[string]contact.Purpose{"register": contact.Register, "account/password": contact.Reset, "account/3pid": contact.Add} {
		for _, medium := range []string{contact.Email, contact.MSISDN} {
			a.limited("POST "+path+"/"+medium+"/requestToken", func(q *request) (any, error) { return a.requestToken(q, p, medium) })
		}
	}
	a.limited("POST "+validation.CodePath, a.submitCode)
}

func (a *API) listContacts(q *request) (any, error) {
	views, err := a.viewContacts(q.Context(), q.login.User)
	return map[string]any{"threepids": views}, err
}

// requestToken sends a mail with a link or a message with a code (clause client-server API, POST /register/email/requestToken and /register/msisdn/requestToken).
func (a *API) requestToken(q *request, p contact.Purpose, medium string) (any, error) {
	switch {
	case p == contact.Register && (!a.OpenRegistration || a.NoPasswords):
		return nil, fail(http.StatusForbidden, "M_THREEPID_DENIED", "this server makes no accounts for everybody")
	case p == contact.Reset && a.NoPasswords:
		return nil, fail(http.StatusForbidden, "M_THREEPID_DENIED", "users have no passwords here")
	case medium == contact.MSISDN && !a.Validations.Sends(medium): // whatever the number is
		return nil, validation.ErrNoMessages
	}
	w, err := wantedToken(q, p, medium)
	if err != nil {
		return nil, err
	}
	w.From = a.address(q.Request)
	id, err := a.Validations.Ask(q.Context(), w)
	if err != nil {
		return nil, err
	}
	answer := map[string]string{"sid": id}
	if at := a.Validations.SubmitURL(medium); at != "" {
		answer["submit_url"] = at
	}
	return answer, nil
}

// wantedToken is what a request for a token says.
func wantedToken(q *request, p contact.Purpose, medium string) (w validation.Wanted, err error) {
	var in struct {
		Secret   string `json:"client_secret"`
		Email    string `json:"email"`
		Country  string `json:"country"`
		Number   string `json:"phone_number"`
		Attempt  int64  `json:"send_attempt"`
		NextLink string `json:"next_link"`
	}
	if err := q.into(&in); err != nil {
		return w, err
	}
	names := []string{"client_secret", "email", "send_attempt"}
	if medium == contact.MSISDN {
		names = []string{"client_secret", "country", "phone_number", "send_attempt"}
	}
	for _, name := range names {
		if _, ok := q.body.Find(name); !ok {
			return w, missing(name)
		}
	}
	w = validation.Wanted{Purpose: p, Secret: in.Secret, Attempt: in.Attempt, NextLink: in.NextLink}
	if medium == contact.MSISDN {
		w.Address, err = contact.Dialled(in.Country, in.Number)
	} else {
		w.Address, err = contact.Parse(medium, in.Email)
	}
	switch {
	case err != nil:
		return w, err
	case in.NextLink != "" && nextLink(in.NextLink) == nil:
		return w, invalidParam("next_link is not https://HOST/...")
	case in.Attempt < 1:
		return w, invalidParam("send_attempt counts from 1")
	}
	return w, nil
}

// submitCode takes the code of a message (clause client-server API, submit_url; identity service API, POST /validate/msisdn/submitToken).
func (a *API) submitCode(q *request) (any, error) {
	for _, name := range []string{"sid", "client_secret", "token"} {
		if q.body.Get(name).String() == "" {
			return nil, missing(name)
		}
	}
	_, err := a.Validations.SubmitCode(q.Context(), q.body.Get("sid").String(), q.body.Get("client_secret").String(), q.body.Get("token").String())
	switch {
	case errors.Is(err, contact.ErrToken):
		err = fail(http.StatusBadRequest, "M_TOKEN_INCORRECT", "this is not the code of the newest message")
	case errors.Is(err, contact.ErrExpired), errors.Is(err, contact.ErrTries):
		err = fail(http.StatusBadRequest, "M_SESSION_EXPIRED", err.Error())
	case errors.Is(err, contact.ErrSession):
		err = invalidParam(err.Error())
	}
	return map[string]bool{"success": err == nil}, err
}

// proof is what the body, or a part of it, says of a session in which an address was validated.
func proof(v canonical.Value, p contact.Purpose, user string) (validation.Proof, error) {
	out := validation.Proof{Purpose: p, User: user, ID: v.Get("sid").String(), Secret: v.Get("client_secret").String()}
	switch {
	case out.ID == "":
		return out, missing("sid")
	case out.Secret == "":
		return out, missing("client_secret")
	}
	return out, nil
}

// addContact adds an address to the user's account (clause client-server API, POST /account/3pid/add).
func (a *API) addContact(q *request) (any, error) {
	p, err := proof(q.body, contact.Add, q.login.User)
	if err != nil {
		return nil, err
	}
	if err := a.confirm(q); err != nil {
		return nil, err
	}
	return empty, a.Accounts.AddContact(q.Context(), q.login.User, p)
}

// deleteContact takes an address from the user's account (clause client-server API, POST /account/3pid/delete).
func (a *API) deleteContact(q *request) (any, error) {
	of, err := address3PID(q.body)
	if err != nil {
		return nil, err
	}
	if err := a.Accounts.RemoveContact(q.Context(), q.login.User, of); err != nil {
		return nil, err
	}
	result, _ := a.unbind(q.Context(), q.login.User, q.body.Get("id_server").String(), func(one contact.Address) bool { return one == of }, &of) // it need not succeed
	return map[string]string{"id_server_unbind_result": result}, nil
}

// address3PID is the address that a body is about.
func address3PID(v canonical.Value) (contact.Address, error) {
	for _, name := range []string{"medium", "address"} {
		if v.Get(name).String() == "" {
			return contact.Address{}, missing(name)
		}
	}
	return contact.Parse(v.Get("medium").String(), v.Get("address").String())
}

// contactStages are the stages in which users can show that an address is theirs, for something that is done with it; the session of each is in the notes
// afterwards.
func (a *API) contactStages(p contact.Purpose) map[string]stage {
	all := map[string]stage{}
	for _, name := range []string{stageEmail, stageNumber} {
		if a.Validations.Sends(mediumOf(name)) {
			all[name] = a.contactStage(name, p)
		}
	}
	return all
}

func (a *API) contactStage(name string, p contact.Purpose) stage {
	return stage{check: func(q *request, sent canonical.Value) error {
		creds, ok := sent.Find("threepid_creds")
		if !ok {
			creds = sent.Get("threepidCreds") // of clients of before the specification had a name for it
		}
		proof, err := proof(creds, p, "")
		if err != nil {
			return err
		}
		of, err := a.Validations.Proved(q.Context(), proof)
		if err == nil && of.Medium != mediumOf(name) {
			err = contact.ErrSession
		}
		if err != nil {
			return err
		}
		q.notes[name], q.notes[name+noteSecret] = proof.ID, proof.Secret
		return nil
	}}
}

// noteSecret is what the note with the secret of a session is called, after the stage.
const noteSecret = " secret"

// noted are the proofs of the contactStages that were passed.
func noted(notes map[string]string, p contact.Purpose) (all []validation.Proof) {
	for _, name := range []string{stageEmail, stageNumber} {
		if notes[name] != "" {
			all = append(all, validation.Proof{Purpose: p, ID: notes[name], Secret: notes[name+noteSecret]})
		}
	}
	return all
}

// forgottenPassword gives a user a new password who shows that an address of their account is theirs (clause client-server API, POST /account/password).
func (a *API) forgottenPassword(q *request) (any, error) {
	stages := a.contactStages(contact.Reset)
	if len(stages) == 0 || a.NoPasswords {
		return nil, fail(http.StatusUnauthorized, "M_MISSING_TOKEN", "the request has no access token")
	}
	password, err := newPassword(q)
	if err != nil {
		return nil, err
	}
	var flows [][]string
	for _, name := range slices.Sorted(maps.Keys(stages)) {
		flows = append(flows, []string{name})
	}
	notes, err := a.auth.check(q, flows, stages)
	if err != nil {
		return nil, err
	}
	user, err := a.Accounts.ResetPassword(q.Context(), noted(notes, contact.Reset)[0], password)
	if err != nil {
		return nil, err
	}
	if !q.body.Get("logout_devices").IsFalse() {
		err = a.logOutAll(q.Context(), user)
	}
	return empty, err
}

// logOutAll removes all devices of a user's, and tells others whose list of devices changed.
func (a *API) logOutAll(ctx context.Context, user string) error {
	err := a.Accounts.LogoutAll(ctx, user, "")
	a.Syncer.WakeSharing(ctx, user)
	return err
}

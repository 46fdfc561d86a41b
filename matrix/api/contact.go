package api

import (
	"context"
	"net/http"

	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/contact/validation"
)

// stageEmail is the stage in which a user shows that an address of mail is theirs.
const stageEmail = "m.login.email.identity"

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
		a.limited("POST "+path+"/email/requestToken", func(q *request) (any, error) { return a.requestToken(q, p) })
		a.limited("POST "+path+"/msisdn/requestToken", func(*request) (any, error) {
			return nil, fail(http.StatusBadRequest, "M_THREEPID_MEDIUM_NOT_SUPPORTED", "this server sends nothing to telephones")
		})
	}
}

func (a *API) listContacts(q *request) (any, error) {
	views, err := a.viewContacts(q.Context(), q.login.User)
	return map[string]any{"threepids": views}, err
}

// requestToken sends a mail with a link (clause client-server API, POST /register/email/requestToken). It says nothing of a submit_url: the link is enough.
func (a *API) requestToken(q *request, p contact.Purpose) (any, error) {
	switch {
	case p == contact.Register && (!a.OpenRegistration || a.NoPasswords):
		return nil, fail(http.StatusForbidden, "M_THREEPID_DENIED", "this server makes no accounts for everybody")
	case p == contact.Reset && a.NoPasswords:
		return nil, fail(http.StatusForbidden, "M_THREEPID_DENIED", "users have no passwords here")
	}
	var in struct {
		Secret   string `json:"client_secret"`
		Email    string `json:"email"`
		Attempt  int64  `json:"send_attempt"`
		NextLink string `json:"next_link"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	for _, name := range []string{"client_secret", "email", "send_attempt"} {
		if _, ok := q.body.Find(name); !ok {
			return nil, missing(name)
		}
	}
	of, err := contact.Parse(contact.Email, in.Email)
	if err != nil {
		return nil, err
	}
	if in.NextLink != "" && nextLink(in.NextLink) == nil {
		return nil, invalidParam("next_link is not https://HOST/...")
	}
	if in.Attempt < 1 {
		return nil, invalidParam("send_attempt counts from 1")
	}
	id, err := a.Validations.Ask(q.Context(), validation.Wanted{
		Purpose: p, Address: of, Secret: in.Secret, Attempt: in.Attempt, NextLink: in.NextLink, From: a.address(q.Request),
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{"sid": id}, nil
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

// emailStage is the stage in which a user shows that an address is theirs, for something that is done with it; the session of it is in the notes afterwards.
func (a *API) emailStage(p contact.Purpose) stage {
	return stage{check: func(q *request, sent canonical.Value) error {
		creds, ok := sent.Find("threepid_creds")
		if !ok {
			creds = sent.Get("threepidCreds") // of clients of before the specification had a name for it
		}
		proof, err := proof(creds, p, "")
		if err != nil {
			return err
		}
		if _, err := a.Validations.Proved(q.Context(), proof); err != nil {
			return err
		}
		q.notes[stageEmail], q.notes[noteSecret] = proof.ID, proof.Secret
		return nil
	}}
}

// noteSecret is the note with the secret of the session of emailStage.
const noteSecret = stageEmail + " secret"

// noted is the proof of an emailStage that was passed; nil if none was.
func noted(notes map[string]string, p contact.Purpose) *validation.Proof {
	if notes[stageEmail] == "" {
		return nil
	}
	return &validation.Proof{Purpose: p, ID: notes[stageEmail], Secret: notes[noteSecret]}
}

// forgottenPassword gives a user a new password who shows that an address of their account is theirs (clause client-server API, POST /account/password).
func (a *API) forgottenPassword(q *request) (any, error) {
	if !a.Validations.Sends() || a.NoPasswords {
		return nil, fail(http.StatusUnauthorized, "M_MISSING_TOKEN", "the request has no access token")
	}
	password, err := newPassword(q)
	if err != nil {
		return nil, err
	}
	notes, err := a.auth.check(q, [][]string{{stageEmail}}, map[string]stage{stageEmail: a.emailStage(contact.Reset)})
	if err != nil {
		return nil, err
	}
	user, err := a.Accounts.ResetPassword(q.Context(), *noted(notes, contact.Reset), password)
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

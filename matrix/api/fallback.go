package api

import (
	"crypto/rand"
	"maps"
	"net/http"
	"slices"
	"strings"

	"orrery/matrix/canonical"
	"orrery/matrix/contact"
	"orrery/matrix/contact/validation"
	webpage "orrery/matrix/page"
)

// fallbackRoutes are pages on which people pass the stages that their client does not know (clause client-server API, fallback). That of single sign-on is
// among its own.
func (a *API) fallbackRoutes() {
	for _, name := range []string{stageTerms, stageInvitation, stageEmail, stageNumber, stageDummy, stagePassword} {
		path := "auth/" + name + "/fallback/web"
		a.route("GET "+path, a.webPage(func(w http.ResponseWriter, r *http.Request) error {
			if _, _, err := a.waiting(r, name); err != nil {
				return err
			}
			return a.showStage(w, r, name, http.StatusOK, nil)
		}))
		a.route("POST "+path, a.webPage(func(w http.ResponseWriter, r *http.Request) error {
			if err := a.take(a.limits.logins, a.address(r)); err != nil {
				return err
			}
			return a.passStage(w, r, name)
		}))
	}
}

// waiting is the stage that a session waits for, and whose session it is: "" of somebody who is not logged in.
func (a *API) waiting(r *http.Request, name string) (s stage, user string, err error) {
	what := a.auth.what(r.FormValue("session"))
	user, path, _ := strings.Cut(what, " ")
	_, path, _ = strings.Cut(path, " ")
	var stages map[string]stage
	switch {
	case what == "":
	case user == "" && strings.HasSuffix(path, "/register"):
		_, stages = a.registerStages()
	case user == "" && strings.HasSuffix(path, "/account/password"):
		stages = a.contactStages(contact.Reset)
	case user != "":
		stages = map[string]stage{stagePassword: {check: func(q *request, sent canonical.Value) error {
			return a.Accounts.CheckPassword(q.Context(), user, sent.Get("password").String())
		}}}
	}
	s, ok := stages[name]
	if !ok {
		err = &webpage.Problem{Status: http.StatusNotFound, Text: "This page is too old, or was not asked for. Go back to your app, and begin again."}
	}
	return s, user, err
}

func (a *API) showStage(w http.ResponseWriter, r *http.Request, name string, status int, more map[string]any) error {
	data := map[string]any{
		"Session": r.FormValue("session"), "Terms": name == stageTerms, "Token": name == stageInvitation, "Email": name == stageEmail, "Number": name == stageNumber, "Password": name == stagePassword,
		"Policies": a.Terms, "Wanted": wanted(a.auth.what(r.FormValue("session"))),
	}
	maps.Copy(data, more)
	return a.show(w, status, "stage", data)
}

// passStage passes a stage by what a form says.
func (a *API) passStage(w http.ResponseWriter, r *http.Request, name string) error {
	s, user, err := a.waiting(r, name)
	if err != nil {
		return err
	}
	if medium := mediumOf(name); medium != "" && r.PostFormValue("sid") == "" {
		return a.sendStage(w, r, name, medium)
	}
	text := func(field string) canonical.Value { return canonical.Text(r.PostFormValue(field)) }
	creds := canonical.Of(canonical.Member{Name: "sid", Value: text("sid")}, canonical.Member{Name: "client_secret", Value: text("secret")})
	sent := canonical.Of(canonical.Member{Name: "token", Value: text("token")}, canonical.Member{Name: "password", Value: text("password")},
		canonical.Member{Name: "threepid_creds", Value: creds})
	q := &request{Request: r, w: w, notes: map[string]string{}}
	q.login.User = user
	if name == stageNumber {
		_, err = a.Validations.SubmitCode(r.Context(), r.PostFormValue("sid"), r.PostFormValue("secret"), r.PostFormValue("code"))
	}
	if err == nil {
		err = s.check(q, sent)
	}
	if err != nil {
		said := validation.Said(err)
		if e, fault := toError(err); said == "" && fault {
			return err
		} else if name != stageNumber || said == "" {
			said = sentence(e.Text)
		}
		return a.showStage(w, r, name, http.StatusForbidden, map[string]any{"Problem": said, "Sid": r.PostFormValue("sid"), "Secret": r.PostFormValue("secret")})
	}
	a.auth.passWith(r.FormValue("session"), name, q.notes)
	return a.show(w, http.StatusOK, "passed", map[string]any{})
}

// sendStage sends the mail or the message by which an address is shown to be somebody's, who goes on here afterwards.
func (a *API) sendStage(w http.ResponseWriter, r *http.Request, name, medium string) error {
	purpose, secret := contact.Register, rand.Text()
	if strings.HasSuffix(a.auth.what(r.FormValue("session")), "/account/password") {
		purpose = contact.Reset
	}
	of, err := contact.Parse(medium, r.PostFormValue("address"))
	var sid string
	if err == nil {
		sid, err = a.Validations.Ask(r.Context(), validation.Wanted{Purpose: purpose, Address: of, Secret: secret, Attempt: 1, From: a.address(r)})
	}
	if err != nil {
		e, fault := toError(err)
		if fault {
			return err
		}
		return a.showStage(w, r, name, e.Status, map[string]any{"Problem": sentence(e.Text)})
	}
	return a.showStage(w, r, name, http.StatusOK, map[string]any{"Sid": sid, "Secret": secret, "Address": of.Text})
}

// passWith is pass with what the stage keeps for when all are done.
func (u uia) passWith(id, stage string, notes map[string]string) {
	u.Lock()
	defer u.Unlock()
	s := u.sessions[id]
	if s == nil || u.now().Sub(s.begun) > uiaLifetime || slices.Contains(s.done, stage) {
		return
	}
	s.done = append(s.done, stage)
	maps.Copy(s.notes, notes)
}

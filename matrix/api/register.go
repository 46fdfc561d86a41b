package api

import (
	"crypto/rand"
	"maps"
	"net/http"
	"slices"
	"strings"

	"orrery/matrix/account"
	"orrery/matrix/canonical"
	"orrery/matrix/contact"
)

// Stages of authentication (clause client-server API, authentication types).
const (
	stageDummy      = "m.login.dummy"
	stagePassword   = "m.login.password"
	stageInvitation = "m.login.registration_token"
	stageTerms      = "m.login.terms"
)

// Policy is a document that whoever makes an account must accept.
type Policy struct {
	ID, Version, Language, Title, URL string
}

func (a *API) registerRoutes() {
	a.limited("POST register", a.register)
	a.open("GET register/available", func(q *request) (any, error) {
		err := a.Accounts.Free(q.Context(), q.URL.Query().Get("username"))
		return map[string]bool{"available": true}, err
	})
	a.open("GET register/"+stageInvitation+"/validity", func(q *request) (any, error) {
		err := a.Accounts.Invited(q.Context(), q.URL.Query().Get("token"))
		if _, fault := toError(err); err != nil && fault {
			return nil, err
		}
		return map[string]bool{"valid": err == nil}, nil
	})
}

// register makes an account (clause client-server API, POST /register).
func (a *API) register(q *request) (any, error) {
	switch q.URL.Query().Get("kind") {
	case "", "user":
	case "guest":
		return a.registerGuest(q)
	default:
		return nil, invalidParam("kind is neither user nor guest")
	}
	if isService(q.body) {
		return a.registerService(q)
	}
	if !a.OpenRegistration || a.NoPasswords {
		return nil, forbidden("this server makes no accounts for everybody (ask whoever runs it)")
	}
	var in struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	if err := q.into(&in); err != nil {
		return nil, err
	}
	if in.Username = strings.ToLower(in.Username); in.Username != "" {
		if err := a.Accounts.Free(q.Context(), in.Username); err != nil {
			return nil, err
		}
	} else {
		in.Username = strings.ToLower(rand.Text()[:12])
	}
	flows, stages := a.registerStages()
	notes, err := a.auth.check(q, flows, stages)
	if err != nil {
		return nil, err
	}
	if in.Password == "" {
		return nil, missing("password")
	}
	u, err := a.Accounts.Make(q.Context(), account.NewUser{Name: in.Username, Password: in.Password, Invitation: notes[stageInvitation], Proofs: noted(notes, contact.Register)})
	if err != nil {
		return nil, err
	}
	if q.body.Get("inhibit_login").IsTrue() {
		return map[string]string{"user_id": u.ID}, nil
	}
	return a.tokens(q, u.ID)
}

// registerStages is what an account needs: a token and that policies are accepted, where the server wants that, or nothing; and an address of mail and the number of a telephone,
// which whoever has them may show where they are not needed.
func (a *API) registerStages() (flows [][]string, stages map[string]stage) {
	stages = map[string]stage{}
	var flow []string
	if a.NeedInvitation {
		flow = append(flow, stageInvitation)
		stages[stageInvitation] = stage{check: func(q *request, sent canonical.Value) error {
			return a.noteInvitation(q, sent.Get("token").String())
		}}
	}
	if len(a.Terms) > 0 {
		flow = append(flow, stageTerms)
		policies := map[string]any{}
		for _, p := range a.Terms {
			policies[p.ID] = map[string]any{"version": p.Version, p.Language: map[string]string{"name": p.Title, "url": p.URL}}
		}
		stages[stageTerms] = stage{params: map[string]any{"policies": policies}, check: pass}
	}
	shown := a.contactStages(contact.Register)
	maps.Copy(stages, shown)
	for _, more := range a.shownFlows(shown) {
		flows = append(flows, append(slices.Clone(flow), more...))
	}
	if a.NeedEmail || a.NeedNumber {
		return flows, stages
	}
	if len(shown) > 0 || len(flow) == 0 { // the dummy tells that no address follows (clause client-server API, dummy auth)
		flow, stages[stageDummy] = append(flow, stageDummy), stage{check: pass}
	}
	return append(flows, flow), stages
}

// shownFlows are which addresses somebody shows who makes an account, of those that they can: what is needed is in each of them.
func (a *API) shownFlows(can map[string]stage) (flows [][]string) {
	for _, flow := range [][]string{{stageEmail}, {stageNumber}, {stageNumber, stageEmail}} {
		email, number := slices.Contains(flow, stageEmail), slices.Contains(flow, stageNumber)
		_, canEmail := can[stageEmail]
		_, canNumber := can[stageNumber]
		if (!email || canEmail) && (!number || canNumber) && (email || !a.NeedEmail) && (number || !a.NeedNumber) {
			flows = append(flows, flow)
		}
	}
	return flows
}

func pass(*request, canonical.Value) error { return nil }

// noteInvitation keeps a registration token that counts for when the account is made.
func (a *API) noteInvitation(q *request, token string) error {
	if err := a.Accounts.Invited(q.Context(), token); err != nil {
		return err
	}
	q.notes[stageInvitation] = token
	return nil
}

func (a *API) registerGuest(q *request) (any, error) {
	if !a.Guests {
		return nil, fail(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "guests are not let in here")
	}
	u, err := a.Accounts.Create(q.Context(), "guest-"+strings.ToLower(rand.Text()[:12]), "", false, true)
	if err != nil {
		return nil, err
	}
	// A guest is on one device, which has the id that the server gives it (clause client-server API, POST /register).
	q.body = q.body.Without("device_id")
	return a.tokens(q, u.ID)
}

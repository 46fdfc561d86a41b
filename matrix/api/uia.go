package api

import (
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"orrery/matrix/canonical"
)

// How long a user has to complete the stages of an authentication, and how many may be under way.
const (
	uiaLifetime = 15 * time.Minute
	maxUIA      = 10_000
)

// uia is user-interactive authentication (clause client-server API, user-interactive authentication API): a request that needs it is answered with
// what is missing, and made again with that.
type uia struct {
	*sync.Mutex

	now      func() time.Time
	sessions map[string]*uiaSession
}

type uiaSession struct {
	begun time.Time
	what  string // the request that it is for
	done  []string
	notes map[string]string // what stages keep for when all are done
}

// errOther says that somebody authenticated who is not the one whose request it is: there is nothing to try again.
var errOther error = forbidden("this is another user's login")

func newUIA(now func() time.Time) uia { return uia{new(sync.Mutex), now, map[string]*uiaSession{}} }

// stage is what a client has to pass. Its check is nil if what the client sent does; it may keep something in the request's notes.
type stage struct {
	check  func(q *request, sent canonical.Value) error
	params any // that the client needs for it; nil: none
}

// check is the notes of the stages, and no error, if a request has passed all stages of one of the flows.
func (u uia) check(q *request, flows [][]string, stages map[string]stage) (map[string]string, error) {
	sent, given := q.body.Find("auth")
	id, what := sent.Get("session").String(), q.login.User+" "+q.Method+" "+q.URL.Path
	session, known := u.progress(id, what)
	done, kind := session.done, sent.Get("type").String()
	q.notes = session.notes
	var problem *Error
	switch check := stages[kind].check; {
	case !given:
	case id != "" && !known:
		problem = forbidden("the authentication's session is not known, or too old")
	case kind == "":
	case check == nil:
		problem = fail(http.StatusUnauthorized, "M_UNRECOGNIZED", "there is no stage "+kind)
	default:
		if err := check(q, sent); err != nil {
			e, fault := toError(err)
			if fault || errors.Is(err, errOther) {
				return nil, err
			}
			problem = fail(http.StatusUnauthorized, e.Code, e.Text)
		} else {
			done = append(done, kind)
		}
	}
	for _, f := range flows {
		if problem == nil && given && !slices.ContainsFunc(f, func(s string) bool { return !slices.Contains(done, s) }) {
			u.end(id)
			return q.notes, nil
		}
	}
	session.what, session.done = what, done
	return nil, u.missing(id, known, session, flows, stages, problem)
}

// progress is how far a session for a request has come; a new one if there is none.
func (u uia) progress(id, what string) (uiaSession, bool) {
	u.Lock()
	defer u.Unlock()
	s := u.sessions[id]
	if s == nil || u.now().Sub(s.begun) > uiaLifetime || s.what != what {
		return uiaSession{begun: u.now(), notes: map[string]string{}}, false
	}
	return uiaSession{begun: s.begun, done: slices.Clone(s.done), notes: maps.Clone(s.notes)}, true
}

func (u uia) end(id string) {
	u.Lock()
	defer u.Unlock()
	delete(u.sessions, id)
}

// missing is the answer that says what is missing.
func (u uia) missing(id string, known bool, session uiaSession, flows [][]string, stages map[string]stage, problem *Error) error {
	u.Lock()
	defer u.Unlock()
	if !known {
		for other, s := range u.sessions {
			if len(u.sessions) >= maxUIA || u.now().Sub(s.begun) > uiaLifetime {
				delete(u.sessions, other)
			}
		}
		id = rand.Text()
	} else if now := u.sessions[id]; now != nil { // a page may have come between
		for _, s := range now.done {
			if !slices.Contains(session.done, s) {
				session.done = append(session.done, s)
			}
		}
		maps.Copy(session.notes, now.notes)
	}
	u.sessions[id] = &session
	type flow struct {
		Stages []string `json:"stages"`
	}
	var all []flow
	for _, f := range flows {
		all = append(all, flow{f})
	}
	params := map[string]any{}
	for name, s := range stages {
		if s.params != nil {
			params[name] = s.params
		}
	}
	more := map[string]any{"flows": all, "params": params, "session": id}
	if len(session.done) > 0 {
		more["completed"] = session.done
	}
	e := &Error{Status: http.StatusUnauthorized, More: more}
	if problem != nil {
		e.Code, e.Text = problem.Code, problem.Text
	}
	return e
}

// pass marks a stage of a session as passed, on a page.
func (u uia) pass(id, stage string) {
	u.Lock()
	defer u.Unlock()
	if s := u.sessions[id]; s != nil && u.now().Sub(s.begun) <= uiaLifetime && !slices.Contains(s.done, stage) {
		s.done = append(s.done, stage)
	}
}

// passUser is pass for a user, whose session it must be.
func (u uia) passUser(id, stage, user string) bool {
	if who, _, _ := strings.Cut(u.what(id), " "); who != user {
		return false
	}
	u.pass(id, stage)
	return true
}

// what is the user and the request that a session is for; "" if there is none.
func (u uia) what(id string) string {
	u.Lock()
	defer u.Unlock()
	if s := u.sessions[id]; s != nil && u.now().Sub(s.begun) <= uiaLifetime {
		return s.what
	}
	return ""
}

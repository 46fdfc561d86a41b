package api

import (
	"crypto/rand"
	"net/http"
	"slices"
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
	done  []string
}

func newUIA(now func() time.Time) uia { return uia{new(sync.Mutex), now, map[string]*uiaSession{}} }

// stage is a check by name; it is nil if what the client sent passes.
type stage func(q *request, sent canonical.Value) error

// check is nil if a request has passed all stages of one of the flows.
func (u uia) check(q *request, flows [][]string, stages map[string]stage) error {
	sent, given := q.body.Find("auth")
	id := sent.Get("session").String()
	done, known := u.progress(id)
	kind := sent.Get("type").String()
	var problem *Error
	switch check := stages[kind]; {
	case !given:
	case id != "" && !known:
		problem = forbidden("the authentication's session is not known, or too old")
	case kind == "":
	case check == nil:
		problem = fail(http.StatusUnauthorized, "M_UNRECOGNIZED", "there is no stage "+kind)
	default:
		if err := check(q, sent); err != nil {
			e, fault := toError(err)
			if fault {
				return err
			}
			problem = fail(http.StatusUnauthorized, e.Code, e.Text)
		} else {
			done = append(done, kind)
		}
	}
	for _, f := range flows {
		if problem == nil && given && !slices.ContainsFunc(f, func(s string) bool { return !slices.Contains(done, s) }) {
			u.end(id)
			return nil
		}
	}
	return u.missing(id, known, done, flows, problem)
}

func (u uia) progress(id string) ([]string, bool) {
	u.Lock()
	defer u.Unlock()
	s := u.sessions[id]
	if s == nil || u.now().Sub(s.begun) > uiaLifetime {
		return nil, false
	}
	return slices.Clone(s.done), true
}

func (u uia) end(id string) {
	u.Lock()
	defer u.Unlock()
	delete(u.sessions, id)
}

// missing is the answer that says what is missing.
func (u uia) missing(id string, known bool, done []string, flows [][]string, problem *Error) error {
	u.Lock()
	defer u.Unlock()
	if !known {
		for other, s := range u.sessions {
			if len(u.sessions) >= maxUIA || u.now().Sub(s.begun) > uiaLifetime {
				delete(u.sessions, other)
			}
		}
		id = rand.Text()
		u.sessions[id] = &uiaSession{begun: u.now()}
	}
	u.sessions[id].done = done
	type flow struct {
		Stages []string `json:"stages"`
	}
	var all []flow
	for _, f := range flows {
		all = append(all, flow{f})
	}
	more := map[string]any{"flows": all, "params": map[string]any{}, "session": id}
	if len(done) > 0 {
		more["completed"] = done
	}
	e := &Error{Status: http.StatusUnauthorized, More: more}
	if problem != nil {
		e.Code, e.Text = problem.Code, problem.Text
	}
	return e
}

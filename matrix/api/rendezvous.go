package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"orrery/matrix/rendezvous"
)

// rendezvousPath is where devices meet, by the proposal's name for it: it is the only one that clients know.
const rendezvousPath = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous"

// meets says whether devices can log in by showing each other a picture. The new one gets its tokens by OAuth.
func (a *API) meets() bool { return a.BaseURL != "" && (a.Issuer || a.Delegate != nil) }

// rendezvousRoutes are those by which a device that shows a picture and one that reads it speak with each other (MSC4108, insecure rendezvous session). Their
// bodies are no JSON, and nobody has to be logged in: "trust is established at the secure channel layer".
func (a *API) rendezvousRoutes() {
	if !a.meets() {
		return
	}
	for route, h := range map[string]handler{
		"POST " + rendezvousPath: a.openSession, "GET " + rendezvousPath + "/{id}": a.readSession, "PUT " + rendezvousPath + "/{id}": a.writeSession, "DELETE " + rendezvousPath + "/{id}": a.closeSession,
	} {
		a.mux.Handle(route, a.plain(func(q *request) (any, error) {
			q.w.Header().Set("Access-Control-Expose-Headers", "ETag")
			if err := a.admitOpen(q); err != nil {
				return nil, err
			}
			return h(q)
		}))
	}
}

func (a *API) openSession(q *request) (any, error) {
	if err := a.take(a.limits.logins, a.address(q.Request)); err != nil {
		return nil, err
	}
	payload, err := q.payload()
	if err != nil {
		return nil, err
	}
	id, s, err := a.sessions.Open(payload, a.Now())
	if err != nil {
		return nil, err
	}
	tell(q.w.Header(), s)
	q.status = http.StatusCreated
	return map[string]string{"url": strings.TrimSuffix(a.BaseURL, "/") + rendezvousPath + "/" + id}, nil
}

func (a *API) readSession(q *request) (any, error) {
	s, err := a.sessions.Get(q.PathValue("id"), a.Now())
	if err != nil {
		return nil, err
	}
	q.w.Header().Set("X-Content-Type-Options", "nosniff") // it is anybody's
	q.w.Header().Set("Content-Security-Policy", "sandbox")
	tell(q.w.Header(), s)
	if q.Header.Get("If-None-Match") == quoted(s.Tag) {
		q.w.WriteHeader(http.StatusNotModified)
		return nil, nil
	}
	q.w.Header().Set("Content-Type", "text/plain") // clients compare all of it
	_, _ = q.w.Write(s.Payload)
	return nil, nil
}

func (a *API) writeSession(q *request) (any, error) {
	payload, err := q.payload()
	if err != nil {
		return nil, err
	}
	match := q.Header.Get("If-Match")
	tag := strings.Trim(match, `"`)
	switch {
	case match == "":
		return nil, missing("the header If-Match")
	case match != quoted(tag) || strings.ContainsAny(tag, `", `): // "we only accept strong, single-valued ETag values"
		return nil, invalidParam("If-Match is not one strong ETag")
	}
	s, err := a.sessions.Put(q.PathValue("id"), tag, payload, a.Now())
	if err == nil || errors.Is(err, rendezvous.ErrChanged) {
		tell(q.w.Header(), s)
	}
	q.status = http.StatusAccepted
	return empty, err
}

func (a *API) closeSession(q *request) (any, error) {
	if err := a.sessions.Close(q.PathValue("id"), a.Now()); err != nil {
		return nil, err
	}
	q.w.WriteHeader(http.StatusNoContent)
	return nil, nil
}

// payload is what a device says.
func (q *request) payload() ([]byte, error) {
	kind := q.Header.Get("Content-Type")
	switch t, _, err := mime.ParseMediaType(kind); {
	case kind == "":
		return nil, missing("the header Content-Type")
	case q.ContentLength < 0:
		return nil, missing("the header Content-Length")
	case err != nil || t != "text/plain":
		return nil, invalidParam("Content-Type is not text/plain")
	}
	return io.ReadAll(http.MaxBytesReader(q.w, q.Body, rendezvous.MaxPayload))
}

// tell sets the headers of all answers about a session.
func tell(h http.Header, s rendezvous.Session) {
	h.Set("ETag", quoted(s.Tag))
	h.Set("Last-Modified", s.Changed.UTC().Format(http.TimeFormat))
	h.Set("Expires", s.Expires.UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
}

func quoted(tag string) string { return `"` + tag + `"` }

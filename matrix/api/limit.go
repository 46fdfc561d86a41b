package api

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"

	"orrery/matrix/rate"
)

// Limits are how often clients may ask (clause client-server API, rate limiting).
type Limits struct {
	Logins rate.Limit // by address: whatever lets somebody in, or tells whether a password or a name is right
	Writes rate.Limit // by user: whatever changes something; by address for those who are not logged in
	Reads  rate.Limit // by user: the rest; by address for those who are not logged in
}

type limiters struct{ logins, writes, reads *rate.Limiter }

func newLimiters(l Limits) limiters {
	return limiters{rate.New(l.Logins), rate.New(l.Writes), rate.New(l.Reads)}
}

// admit refuses a request if its user, or for "" its address, asks too often.
func (a *API) admit(q *request, user string) error {
	l := a.limits.reads
	if q.Method != http.MethodGet {
		l = a.limits.writes
	}
	if user == "" {
		user = "from " + a.address(q.Request)
	}
	return a.take(l, user)
}

func (a *API) take(l *rate.Limiter, name string) error {
	wait := l.Take(name, a.Now())
	if wait == 0 {
		return nil
	}
	e := fail(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "too many requests")
	e.After = wait
	return e
}

// limited registers an open request that lets somebody in, or tells whether something secret is right.
func (a *API) limited(route string, h handler) {
	a.route(route, a.handler(func(q *request) (any, error) {
		if _, err := a.service(q); err == nil && isService(q.body) { // its own user is not limited
			return h(q)
		}
		if err := a.take(a.limits.logins, a.address(q.Request)); err != nil {
			return nil, err
		}
		return h(q)
	}))
}

// retryAfter tells when to try again, in the header, too.
func retryAfter(h http.Header, e *Error) {
	if e.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.After.Seconds()))))
	}
}

// address is where the client is: as the proxy says it, if there is one.
func (a *API) address(r *http.Request) string {
	if a.BehindProxy {
		all := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		if last := strings.TrimSpace(all[len(all)-1]); last != "" { // the proxy's own; those before it are the client's word
			return last
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

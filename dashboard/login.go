package dashboard

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	linkLife  = 5 * time.Minute
	visitLife = 12 * time.Hour
	maxLinks  = 64
	maxVisits = 256
	// cookiePrefix is followed by something of each handler's own: browsers give the cookies of one
	// address to all its ports, and several nodes may run on one machine.
	cookiePrefix = "orrery_dashboard_"
)

// digest of a secret, so that a comparison takes no time that depends on the secret and a dump of
// memory does not hold it.
type digest [sha256.Size]byte

// door lets those in who hold a one-time link or the cookie that it was exchanged for.
type door struct {
	mu     sync.Mutex
	links  map[digest]time.Time // until when
	visits map[digest]time.Time
}

func newDoor() *door {
	return &door{links: map[digest]time.Time{}, visits: map[digest]time.Time{}}
}

func secret() (text string, sum digest) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	text = base64.RawURLEncoding.EncodeToString(raw[:])
	return text, sha256.Sum256([]byte(text))
}

// issue returns a new secret that is valid until then, and forgets old ones.
func issue(into map[digest]time.Time, most int, now, until time.Time) string {
	for d, end := range into {
		if !now.Before(end) {
			delete(into, d)
		}
	}
	for len(into) >= most {
		var oldest digest
		var at time.Time
		for d, end := range into {
			if at.IsZero() || end.Before(at) {
				oldest, at = d, end
			}
		}
		delete(into, oldest)
	}
	text, sum := secret()
	into[sum] = until
	return text
}

func (d *door) link(now time.Time) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return issue(d.links, maxLinks, now, now.Add(linkLife))
}

// exchange uses up a link's token for a cookie's.
func (d *door) exchange(token string, now time.Time) (cookie string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := digest(sha256.Sum256([]byte(token)))
	until, ok := d.links[sum]
	delete(d.links, sum)
	if !ok || !now.Before(until) {
		return "", false
	}
	return issue(d.visits, maxVisits, now, now.Add(visitLife)), true
}

// admits says whether a cookie's value is valid.
func (d *door) admits(cookie string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.visits[sha256.Sum256([]byte(cookie))]
	return ok && now.Before(until)
}

// loopback says whether a request's Host names this machine by a name that only this machine answers to. A page
// elsewhere whose name was made to point here (DNS rebinding) carries its own.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

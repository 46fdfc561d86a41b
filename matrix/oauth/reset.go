package oauth

import (
	"maps"
	"sync"
	"time"
)

// resetLifetime is how long a user may replace the identity of their keys after they allowed it.
const resetLifetime = 10 * time.Minute

// Resets are the users who allowed that the identity of their keys is replaced (clause client-server API, OAuth authentication), each once and for a while.
type Resets struct {
	now func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // by user
}

// NewResets is nobody.
func NewResets(now func() time.Time) *Resets { return &Resets{now: now, until: map[string]time.Time{}} }

// Allow notes that a user allows it.
func (r *Resets) Allow(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	maps.DeleteFunc(r.until, func(_ string, until time.Time) bool { return now.After(until) })
	r.until[user] = now.Add(resetLifetime)
}

// Take says whether a user allowed it just now, once.
func (r *Resets) Take(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.until[user]
	delete(r.until, user)
	return ok && r.now().Before(until)
}

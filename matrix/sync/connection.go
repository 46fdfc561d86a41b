package sync

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"orrery/matrix/sync/window"
)

// ErrUnknownPos says that a connection of sliding sync is not known, or not any more: the client begins anew (MSC4186, "the server may decide to
// expire connections": M_UNKNOWN_POS).
var ErrUnknownPos = errors.New("position is not known")

// Limits of connections, which are in memory only: a client whose connection is gone begins anew.
const (
	maxConnections = 8 // of a device
	idleConnection = 7 * 24 * time.Hour
	sweepEvery     = 1000 // new connections
)

// connections are those of clients that use sliding sync.
type connections struct {
	mu   sync.Mutex
	all  map[device]map[string]*connection // by device and conn_id
	made int
}

type device struct{ user, id string }

// connection is what a client was told. What it has confirmed is kept beside what it may not have received: until it asks from there, it may ask
// again from before (MSC4186, connections).
type connection struct {
	id       string
	used     time.Time
	made     int64
	had, got *snapshot // what it confirmed, and what it was told last
}

// snapshot is what a client was told up to a position. It never changes.
type snapshot struct {
	number   int64
	position int64
	rooms    map[string]*told
	data     int64 // global account data up to here
	devices  int64 // lists of devices up to here; 0: it never asked
	threads  int64 // subscriptions to threads up to here
}

// told is what a client was told of a room. It never changes.
type told struct {
	upTo       int64
	state      int64 // the room's state as it was told
	membership string
	member     int64 // order of the event that gave it
	oldest     int64 // it has all events from here on
	config     window.Config
	members    map[string]bool // whose member events it has, where they are told lazily
	direct     bool
	unread     unread

	data, receipts, typing int64 // up to where extensions told of it; 0: not yet
}

// open is a connection, and what the client was told: nothing on a new one, which takes the place of the one with its name.
func (c *connections) open(d device, name, pos string, now time.Time) (*connection, *snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pos == "" {
		made := &connection{id: rand.Text()[:12], used: now, had: &snapshot{}}
		c.put(d, name, made, now)
		return made, made.had, nil
	}
	found := c.all[d][name]
	_, rest, _ := strings.Cut(pos, "_")
	id, digits, _ := strings.Cut(rest, ".")
	number, err := strconv.ParseInt(digits, 10, 64)
	if found == nil || found.id != id || err != nil {
		return nil, nil, fmt.Errorf("%w: %.60q", ErrUnknownPos, pos)
	}
	if found.got != nil && found.got.number == number {
		found.had, found.got = found.got, nil
	}
	if found.had.number != number || number == 0 {
		return nil, nil, fmt.Errorf("%w: %.60q is none of the last ones", ErrUnknownPos, pos)
	}
	found.used = now
	return found, found.had, nil
}

func (c *connections) put(d device, name string, made *connection, now time.Time) {
	if c.made++; c.made%sweepEvery == 0 {
		for other, of := range c.all {
			maps.DeleteFunc(of, func(_ string, x *connection) bool { return now.Sub(x.used) > idleConnection })
			if len(of) == 0 {
				delete(c.all, other)
			}
		}
	}
	if c.all == nil {
		c.all = map[device]map[string]*connection{}
	}
	if c.all[d] == nil {
		c.all[d] = map[string]*connection{}
	}
	of := c.all[d]
	if of[name] == nil && len(of) >= maxConnections {
		oldest := ""
		for other, x := range of {
			if oldest == "" || x.used.Before(of[oldest].used) {
				oldest = other
			}
		}
		delete(of, oldest)
	}
	of[name] = made
}

// tell notes what a client is told, and is the position by which it confirms that.
func (c *connections) tell(x *connection, s snapshot) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.made++
	s.number = x.made
	x.got = &s
	return fmt.Sprintf("s%d_%s.%d", s.position, x.id, s.number)
}

package auth

import (
	"math"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
)

// Infinite is the power level of creators, which is above every other one (clause room version 12).
const Infinite int64 = math.MaxInt64

// Level is a power level for people.
func Level(n int64) string {
	if n == Infinite {
		return "infinite"
	}
	return strconv.FormatInt(n, 10)
}

// Levels are the power levels of a room at one point of its history.
type Levels struct {
	version *matrix.Version
	create  *event.Event
	content canonical.Value // of kind None where the room has no power levels event
}

// ReadLevels is the levels that a power levels event sets, or those of a room without one if it is nil.
func ReadLevels(version *matrix.Version, create, powerLevels *event.Event) Levels {
	l := Levels{version: version, create: create}
	if powerLevels != nil {
		l.content = powerLevels.Content()
	}
	return l
}

// Creator is the user who made a room.
func Creator(version *matrix.Version, create *event.Event) string {
	if version.CreatorField {
		return create.Content().Get("creator").String()
	}
	return create.Sender()
}

// isCreator says whether a user's power is infinite.
func (l Levels) isCreator(user string) bool {
	if !l.version.CreateIsRoom || l.create == nil {
		return false
	}
	if user == l.create.Sender() {
		return true
	}
	for c := range l.create.Content().Get("additional_creators").Elements {
		if c.String() == user {
			return true
		}
	}
	return false
}

// User is a user's power level.
func (l Levels) User(user string) int64 {
	if l.isCreator(user) {
		return Infinite
	}
	if l.content.Kind() == canonical.None {
		if l.create != nil && user == Creator(l.version, l.create) {
			return 100
		}
		return 0
	}
	if n, ok := l.level(l.content.Get("users", user)); ok {
		return n
	}
	return l.or("users_default", 0)
}

// Event is the level that is required to send events of a type.
func (l Levels) Event(kind string, isState bool) int64 {
	if n, ok := l.level(l.content.Get("events", kind)); ok {
		return n
	}
	if !isState {
		return l.or("events_default", 0)
	}
	if l.content.Kind() == canonical.None {
		return 0
	}
	return l.or("state_default", 50)
}

// Invite is the level that is required to invite.
func (l Levels) Invite() int64 { return l.or("invite", 0) }

// Kick is the level that is required to kick.
func (l Levels) Kick() int64 { return l.or("kick", 50) }

// Ban is the level that is required to ban.
func (l Levels) Ban() int64 { return l.or("ban", 50) }

// Redact is the level that is required to redact events of others.
func (l Levels) Redact() int64 { return l.or("redact", 50) }

// Notification is the level that is required to notify in a way, as "room" does.
func (l Levels) Notification(name string) int64 {
	if n, ok := l.level(l.content.Get("notifications", name)); ok {
		return n
	}
	return 50
}

func (l Levels) or(name string, n int64) int64 {
	if given, ok := l.level(l.content.Get(name)); ok {
		return given
	}
	return n
}

func (l Levels) level(v canonical.Value) (int64, bool) { return readLevel(l.version, v) }

// readLevel reads a power level: an integer, and in rooms before version 10 a string with an integer or any number, which is cut off at its point
// (clause room version 1, deprecated event content schemas).
func readLevel(version *matrix.Version, v canonical.Value) (int64, bool) {
	if n, ok := v.Int(); ok || version.IntegerLevels {
		return n, ok
	}
	if v.Kind() == canonical.String {
		n, err := strconv.ParseInt(strings.TrimSpace(v.String()), 10, 64)
		return min(n, Infinite-1), err == nil
	}
	f, err := strconv.ParseFloat(v.Digits(), 64)
	if v.Kind() != canonical.Number || err != nil {
		return 0, false
	}
	return int64(max(min(f, canonical.MaxInteger), canonical.MinInteger)), true
}

// Package matrix is the contract of a Matrix homeserver: identifiers, room versions, and the errors that everything else returns.
//
// An event is a signed JSON object in a room's graph. A Key (type and state key) names a piece of a room's state; the state maps each key to an
// event. A Version says by which rules a room's events are formed, hashed, redacted, authorised, and their states resolved. "Clause" in comments
// means a clause of the Matrix specification, v1.19.
//
// The parts: canonical (JSON in its canonical form), event (formats, hashes, signatures, redaction), auth (who may send what), resolve (one state out
// of several); all of them are pure.
package matrix

import "errors"

var (
	// ErrMalformed says that bytes are not what the specification says they must be.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge says that an event, an identifier or a request is larger than the specification allows.
	ErrTooLarge = errors.New("too large")
	// ErrSignature says that a signature is missing, or does not fit.
	ErrSignature = errors.New("bad signature")
	// ErrForbidden says that a room's rules do not allow an event.
	ErrForbidden = errors.New("forbidden")
	// ErrVersion says that a room's version is not one of Versions.
	ErrVersion = errors.New("unknown room version")
)

// Limits of an event (clause client-server API, size limits).
const (
	MaxEvent      = 65536 // bytes of its canonical JSON, as it is sent between servers
	MaxIdentifier = 255   // bytes of a user, room or event id, a type, a state key
)

// Key names a piece of a room's state.
type Key struct {
	Type     string
	StateKey string
}

// Types of events that the rules of rooms know.
const (
	TypeCreate            = "m.room.create"
	TypeMember            = "m.room.member"
	TypePowerLevels       = "m.room.power_levels"
	TypeJoinRules         = "m.room.join_rules"
	TypeThirdPartyInvite  = "m.room.third_party_invite"
	TypeHistoryVisibility = "m.room.history_visibility"
	TypeAliases           = "m.room.aliases"
	TypeRedaction         = "m.room.redaction"
	TypeServerACL         = "m.room.server_acl"
)

// Values of a member's membership.
const (
	Join   = "join"
	Invite = "invite"
	Leave  = "leave"
	Ban    = "ban"
	Knock  = "knock"
)

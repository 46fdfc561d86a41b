// Package event reads, makes, hashes, signs and redacts events of every room version.
//
// An Event never changes. Its JSON is canonical, and without unsigned, which is not part of what its sender said. What an event is called (its id) is
// its reference hash from room version 3 on, so that an Event's id can be trusted.
package event

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/signature"
)

// Event is an event of a room (a PDU).
type Event struct {
	version   *matrix.Version
	value     canonical.Value
	size      int
	id        string
	room      string
	kind      string
	sender    string
	stateKey  string
	isState   bool
	timestamp int64
	depth     int64
	prev      []string
	auth      []string
}

// Ref is how an event is referred to by later ones.
type Ref struct {
	ID   string
	Hash string // its reference hash in unpadded base64; room versions 1 and 2 say it beside the id
}

// alphabet turns URL-safe base64 into the other one.
var alphabet = strings.NewReplacer("-", "+", "_", "/")

// Version is the room version whose rules the event follows.
func (e *Event) Version() *matrix.Version { return e.version }

// Value is the event as JSON, without unsigned.
func (e *Event) Value() canonical.Value { return e.value }

// JSON is the event as canonical JSON, without unsigned.
func (e *Event) JSON() []byte { return e.value.Append(make([]byte, 0, e.size)) }

// ID is the event's id.
func (e *Event) ID() string { return e.id }

// RoomID is the room's id; for a create event of room version 12 and later it is made of the event's own.
func (e *Event) RoomID() string { return e.room }

// Type is the event's type.
func (e *Event) Type() string { return e.kind }

// Sender is the user id of who sent it.
func (e *Event) Sender() string { return e.sender }

// StateKey is the event's state key, and whether it has one; only state events have.
func (e *Event) StateKey() (string, bool) { return e.stateKey, e.isState }

// Key is the piece of state that a state event sets.
func (e *Event) Key() matrix.Key { return matrix.Key{Type: e.kind, StateKey: e.stateKey} }

// Is says whether this is a state event with a type and a state key.
func (e *Event) Is(kind, stateKey string) bool {
	return e.isState && e.kind == kind && e.stateKey == stateKey
}

// Timestamp is when the sender's server says it was sent, in milliseconds since 1970. Anybody may lie.
func (e *Event) Timestamp() int64 { return e.timestamp }

// Depth is one more than the largest depth before it, as its server says. Anybody may lie.
func (e *Event) Depth() int64 { return e.depth }

// Prev are the ids of the events right before it. The caller must not change them.
func (e *Event) Prev() []string { return e.prev }

// Auth are the ids of the events that allow it. The caller must not change them.
func (e *Event) Auth() []string { return e.auth }

// Content is what it says.
func (e *Event) Content() canonical.Value { return e.value.Get("content") }

// Redacts is the id of the event that a redaction redacts; "" if it names none.
func (e *Event) Redacts() string {
	if e.version.RedactsInContent {
		return e.Content().Get("redacts").String()
	}
	return e.value.Get("redacts").String()
}

// Membership is the membership that a member event gives to its state key; "" for other events.
func (e *Event) Membership() string {
	if e.kind != matrix.TypeMember {
		return ""
	}
	return e.Content().Get("membership").String()
}

// Ref is how later events refer to this one.
func (e *Event) Ref() Ref {
	if e.version.IDs != matrix.IDGiven { // the id is the hash, and only its alphabet may be another one
		return Ref{ID: e.id, Hash: alphabet.Replace(e.id[1:])}
	}
	hash := referenceHash(e.version, e.value)
	return Ref{ID: e.id, Hash: signature.Encode(hash[:])}
}

// Redacted is the event with only what its room version keeps.
func (e *Event) Redacted() *Event {
	r := *e
	r.value = Redact(e.version, e.value)
	return &r
}

// HashFits says whether the content hash is that of the event; if not, the event was changed, or was redacted before it came, and only its redacted
// form counts (clause server-server API, validating hashes and signatures).
func (e *Event) HashFits() bool {
	given, err := signature.Decode(e.value.Get("hashes", "sha256").String())
	hash := ContentHash(e.value)
	return err == nil && string(given) == string(hash[:])
}

// ContentHash is the SHA-256 of an event without unsigned, signatures and hashes (clause server-server API, calculating the content hash).
func ContentHash(v canonical.Value) [sha256.Size]byte {
	return sha256.Sum256(v.Without("unsigned", "signatures", "hashes").JSON())
}

// essence is a redacted event without unsigned and signatures: what is signed, and what the reference hash is of.
func essence(version *matrix.Version, v canonical.Value) []byte {
	return Redact(version, v).Without("unsigned", "signatures").JSON()
}

// referenceHash is the SHA-256 of a redacted event without unsigned and signatures (clause server-server API, calculating the reference hash).
func referenceHash(version *matrix.Version, v canonical.Value) [sha256.Size]byte {
	return sha256.Sum256(essence(version, v))
}

// idOf is an event's id by its version's rules; its essence is computed if it is nil.
func idOf(version *matrix.Version, v canonical.Value, known []byte) string {
	if version.IDs == matrix.IDGiven {
		return v.Get("event_id").String()
	}
	if known == nil {
		known = essence(version, v)
	}
	hash := sha256.Sum256(known)
	if version.IDs == matrix.IDHash {
		return "$" + signature.Encode(hash[:])
	}
	return "$" + base64.RawURLEncoding.EncodeToString(hash[:])
}

// Signers are the servers that must have signed the event: its sender's, in room versions 1 and 2 the one in its id, and that of the user by whose
// authority somebody joins a restricted room (clause server-server API, validating hashes and signatures; clause room version 8, rule 4.2). An
// invitation by a third party may come from another server than its sender's.
func (e *Event) Signers() []string {
	var all []string
	add := func(server string) {
		if slices.Contains(all, server) {
			return
		}
		all = append(all, server)
	}
	if third := e.Content().Get("third_party_invite"); e.Membership() != matrix.Invite || third.Kind() == canonical.None {
		add(matrix.Domain(e.sender))
	}
	if e.version.IDs == matrix.IDGiven {
		add(matrix.Domain(e.id))
	}
	if by := e.Content().Get("join_authorised_via_users_server").String(); e.version.Restricted && e.Membership() == matrix.Join && by != "" {
		add(matrix.Domain(by))
	}
	return all
}

// CheckSignatures checks the signatures of all Signers by the keys of servers. The error is matrix.ErrSignature.
func (e *Event) CheckSignatures(keys signature.Keys) error {
	redacted := Redact(e.version, e.value)
	for _, server := range e.Signers() {
		if err := signature.Check(redacted, server, keys); err != nil {
			return fmt.Errorf("event %s: %w", e.id, err)
		}
	}
	return nil
}

// Signed is the event with a further server's signature.
func (e *Event) Signed(server string, key signature.Key) *Event {
	s := *e
	s.value = sign(e.value, essence(e.version, e.value), server, key)
	s.size = len(s.value.JSON())
	return &s
}

// sign adds a signature of an event's essence.
func sign(v canonical.Value, essence []byte, server string, key signature.Key) canonical.Value {
	return v.With("signatures", signature.Add(v.Get("signatures"), essence, server, key))
}

package event

import (
	"fmt"
	"strconv"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
)

// How many events one may refer to (clause room versions, event format).
const (
	maxPrev = 20
	maxAuth = 10
)

// Parse reads an event as it comes from another server or from storage. The error is matrix.ErrMalformed or matrix.ErrTooLarge, and names the field.
// Hashes and signatures are not checked: see HashFits and CheckSignatures.
func Parse(version *matrix.Version, text []byte) (*Event, error) {
	rules := canonical.Lax
	if version.StrictJSON {
		rules = canonical.Strict
	}
	if len(text) > 4*matrix.MaxEvent { // however it is written; the limit itself is one of canonical JSON
		return nil, fmt.Errorf("an event of %d bytes is %w", len(text), matrix.ErrTooLarge)
	}
	v, err := canonical.Parse(text, rules)
	if err != nil {
		return nil, err
	}
	return Of(version, v)
}

// Of is an event made of a JSON object; the errors are those of Parse.
func Of(version *matrix.Version, v canonical.Value) (*Event, error) { return of(version, v, nil) }

// of is Of with the essence of an event of which it is known.
func of(version *matrix.Version, v canonical.Value, essence []byte) (*Event, error) {
	if v.Kind() != canonical.Object {
		return nil, fmt.Errorf("an event is %w: not an object", matrix.ErrMalformed)
	}
	if _, ok := v.Find("unsigned"); ok {
		v = v.Without("unsigned")
	}
	e := &Event{version: version, value: v, size: len(v.JSON())}
	if e.size > matrix.MaxEvent {
		return nil, fmt.Errorf("an event of %d bytes is %w (at most %d)", e.size, matrix.ErrTooLarge, matrix.MaxEvent)
	}
	f := fields{e: e}
	e.kind = f.text("type", true)
	e.sender = f.text("sender", true)
	e.stateKey, e.isState = f.optional("state_key")
	e.timestamp = f.integer("origin_server_ts")
	e.depth = f.integer("depth")
	f.object("content", true)
	f.object("hashes", false)
	f.object("signatures", false)
	e.prev = f.refs("prev_events", maxPrev)
	e.auth = f.refs("auth_events", maxAuth)
	f.ids(essence)
	if f.err != nil {
		return nil, f.err
	}
	return e, nil
}

// fields reads an event's fields, until one fails.
type fields struct {
	e   *Event
	err error
}

func (f *fields) fail(kind error, name, why string) {
	if f.err == nil {
		f.err = fmt.Errorf("an event's %s is %w: %s", name, kind, why)
	}
}

func (f *fields) optional(name string) (string, bool) {
	v, ok := f.e.value.Find(name)
	if ok && v.Kind() != canonical.String {
		f.fail(matrix.ErrMalformed, name, "not a string")
	}
	if s := v.String(); len(s) > matrix.MaxIdentifier {
		f.fail(matrix.ErrTooLarge, name, fmt.Sprintf("%d bytes (at most %d)", len(s), matrix.MaxIdentifier))
	}
	return v.String(), ok
}

func (f *fields) text(name string, required bool) string {
	s, ok := f.optional(name)
	if !ok && required {
		f.fail(matrix.ErrMalformed, name, "missing")
	}
	return s
}

func (f *fields) integer(name string) int64 {
	v := f.e.value.Get(name)
	n, ok := v.Int()
	if !ok && !f.e.version.StrictJSON { // old rooms have depths of 63 bits
		var err error
		n, err = strconv.ParseInt(v.Digits(), 10, 64)
		ok = err == nil
	}
	if !ok || n < 0 && name == "depth" {
		f.fail(matrix.ErrMalformed, name, "not an integer in its range")
	}
	return n
}

func (f *fields) object(name string, required bool) {
	v, ok := f.e.value.Find(name)
	if ok && v.Kind() != canonical.Object || !ok && required {
		f.fail(matrix.ErrMalformed, name, "not an object")
	}
}

func (f *fields) refs(name string, limit int) []string {
	v := f.e.value.Get(name)
	if v.Kind() != canonical.Array {
		f.fail(matrix.ErrMalformed, name, "not a list")
		return nil
	}
	if v.Len() > limit {
		f.fail(matrix.ErrTooLarge, name, fmt.Sprintf("%d events (at most %d)", v.Len(), limit))
		return nil
	}
	all := make([]string, 0, v.Len())
	for r := range v.Elements {
		id := r
		if f.e.version.IDs == matrix.IDGiven { // [id, {"sha256": hash}]
			id = canonical.Value{}
			for first := range r.Elements {
				id = first
				break
			}
		}
		if !strings.HasPrefix(id.String(), "$") || len(id.String()) > matrix.MaxIdentifier {
			f.fail(matrix.ErrMalformed, name, "not all are ids of events")
		}
		all = append(all, id.String())
	}
	return all
}

// ids checks the sender and finds the ids of the event and of its room.
func (f *fields) ids(essence []byte) {
	if f.err != nil {
		return
	}
	e := f.e
	if f.err = matrix.ValidUser(e.sender); f.err != nil {
		return
	}
	if e.version.IDs == matrix.IDGiven {
		if id := f.text("event_id", true); !strings.HasPrefix(id, "$") || matrix.Domain(id) == "" {
			f.fail(matrix.ErrMalformed, "event_id", "not $opaque:server")
		}
	}
	e.id = idOf(e.version, e.value, essence)
	if room, ok := f.optional("room_id"); ok || !e.version.CreateIsRoom || !e.Is(matrix.TypeCreate, "") {
		e.room = room
		if !strings.HasPrefix(room, "!") {
			f.fail(matrix.ErrMalformed, "room_id", "missing or without !")
		} else if !e.version.CreateIsRoom && matrix.ValidServer(matrix.Domain(room)) != nil {
			f.fail(matrix.ErrMalformed, "room_id", "without the name of a server")
		}
		return
	}
	e.room = "!" + strings.TrimPrefix(e.id, "$")
}

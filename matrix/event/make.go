package event

import (
	"fmt"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/signature"
)

// Draft is an event that a server is about to send.
type Draft struct {
	ID        string // of room versions 1 and 2, which have no id by hash
	RoomID    string // "" for a create event of room version 12 and later
	Type      string
	StateKey  *string // nil unless it is a state event
	Sender    string
	Content   canonical.Value
	Redacts   string // of a redaction; where it is written depends on the room version
	Timestamp int64  // milliseconds since 1970
	Depth     int64
	Prev      []Ref
	Auth      []Ref
}

// Make hashes and signs a draft with its server's key (clause server-server API, adding hashes and signatures). The errors are those of Parse.
func Make(version *matrix.Version, d Draft, server string, key signature.Key) (*Event, error) {
	content := d.Content
	if d.Redacts != "" && version.RedactsInContent {
		content = content.With("redacts", canonical.Text(d.Redacts))
	}
	if version.StrictJSON {
		if err := content.Integers(); err != nil {
			return nil, fmt.Errorf("content is %w", err)
		}
	}
	v := canonical.Of(members(version, d, content)...)
	hash := ContentHash(v)
	v = v.With("hashes", canonical.Of(canonical.Member{Name: "sha256", Value: canonical.Text(signature.Encode(hash[:]))}))
	what := essence(version, v)
	return of(version, sign(v, what, server, key), what)
}

// members are those of the event but hashes and signatures.
func members(version *matrix.Version, d Draft, content canonical.Value) []canonical.Member {
	all := append(make([]canonical.Member, 0, 12),
		canonical.Member{Name: "auth_events", Value: refs(version, d.Auth)},
		canonical.Member{Name: "content", Value: content},
		canonical.Member{Name: "depth", Value: canonical.Int(min(d.Depth, version.MaxDepth()))},
		canonical.Member{Name: "origin_server_ts", Value: canonical.Int(d.Timestamp)},
		canonical.Member{Name: "prev_events", Value: refs(version, d.Prev)},
		canonical.Member{Name: "sender", Value: canonical.Text(d.Sender)},
		canonical.Member{Name: "type", Value: canonical.Text(d.Type)},
	)
	text := func(name, s string, has bool) {
		if has {
			all = append(all, canonical.Member{Name: name, Value: canonical.Text(s)})
		}
	}
	text("event_id", d.ID, d.ID != "")
	text("redacts", d.Redacts, d.Redacts != "" && !version.RedactsInContent)
	text("room_id", d.RoomID, d.RoomID != "")
	if d.StateKey != nil {
		text("state_key", *d.StateKey, true)
	}
	return all
}

func refs(version *matrix.Version, all []Ref) canonical.Value {
	values := make([]canonical.Value, len(all))
	for i, r := range all {
		values[i] = canonical.Text(r.ID)
		if version.IDs == matrix.IDGiven {
			values[i] = canonical.List(values[i], canonical.Of(canonical.Member{Name: "sha256", Value: canonical.Text(r.Hash)}))
		}
	}
	return canonical.List(values...)
}

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
	v := canonical.Of(
		canonical.Member{Name: "type", Value: canonical.Text(d.Type)},
		canonical.Member{Name: "sender", Value: canonical.Text(d.Sender)},
		canonical.Member{Name: "origin_server_ts", Value: canonical.Int(d.Timestamp)},
		canonical.Member{Name: "depth", Value: canonical.Int(min(d.Depth, version.MaxDepth()))},
		canonical.Member{Name: "prev_events", Value: refs(version, d.Prev)},
		canonical.Member{Name: "auth_events", Value: refs(version, d.Auth)},
	)
	content := d.Content
	if d.Redacts != "" && version.RedactsInContent {
		content = content.With("redacts", canonical.Text(d.Redacts))
	} else if d.Redacts != "" {
		v = v.With("redacts", canonical.Text(d.Redacts))
	}
	v = v.With("content", content)
	for name, s := range map[string]string{"event_id": d.ID, "room_id": d.RoomID} {
		if s != "" {
			v = v.With(name, canonical.Text(s))
		}
	}
	if d.StateKey != nil {
		v = v.With("state_key", canonical.Text(*d.StateKey))
	}
	if version.StrictJSON {
		if err := integers(content); err != nil {
			return nil, err
		}
	}
	hash := ContentHash(v)
	v = v.With("hashes", canonical.Of(canonical.Member{Name: "sha256", Value: canonical.Text(signature.Encode(hash[:]))}))
	return Of(version, sign(version, v, server, key))
}

// integers says whether all numbers are such as canonical JSON has; content that was read by lax rules may have others.
func integers(v canonical.Value) error {
	if v.Kind() == canonical.Number {
		if _, ok := v.Int(); !ok {
			return fmt.Errorf("content is %w: number %.40s is not an integer of 53 bits", matrix.ErrMalformed, v.Digits())
		}
	}
	for e := range v.Elements {
		if err := integers(e); err != nil {
			return err
		}
	}
	for _, m := range v.Members {
		if err := integers(m); err != nil {
			return err
		}
	}
	return nil
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

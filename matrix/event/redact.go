package event

import (
	"slices"

	"orrery/matrix"
	"orrery/matrix/canonical"
)

// top are the fields that every redacted event keeps; older are those that it kept before room version 11.
var (
	top   = []string{"event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures", "depth", "prev_events", "auth_events", "origin_server_ts"}
	older = []string{"prev_state", "origin", "membership"}
)

// kept are the fields of content that redacted events keep, by type, with the list that brought them (clauses room version 1, 6, 8, 9, 11, redactions).
var kept = map[string][]struct {
	name  string
	since matrix.Redaction
}{
	matrix.TypeMember:    {{"membership", 0}, {"join_authorised_via_users_server", matrix.RedactionV9}},
	matrix.TypeCreate:    {{"creator", 0}},
	matrix.TypeJoinRules: {{"join_rule", 0}, {"allow", matrix.RedactionV8}},
	matrix.TypePowerLevels: {
		{"ban", 0},
		{"events", 0},
		{"events_default", 0},
		{"kick", 0},
		{"redact", 0},
		{"state_default", 0},
		{"users", 0},
		{"users_default", 0},
		{"invite", matrix.RedactionV11},
	},
	matrix.TypeHistoryVisibility: {{"history_visibility", 0}},
	matrix.TypeRedaction:         {{"redacts", matrix.RedactionV11}},
}

// Redact is what of an event stays when it is redacted in a room of a version. Of something that is not an event it keeps what an event would.
func Redact(version *matrix.Version, v canonical.Value) canonical.Value {
	out := v.Only(func(name string) bool {
		return slices.Contains(top, name) || version.Redaction < matrix.RedactionV11 && slices.Contains(older, name)
	})
	content, ok := v.Find("content")
	if !ok {
		return out
	}
	return out.With("content", redactContent(version.Redaction, v.Get("type").String(), content))
}

func redactContent(list matrix.Redaction, kind string, content canonical.Value) canonical.Value {
	if list >= matrix.RedactionV11 && kind == matrix.TypeCreate {
		return content
	}
	out := content.Only(func(name string) bool {
		if kind == matrix.TypeAliases {
			return name == "aliases" && list < matrix.RedactionV6
		}
		for _, k := range kept[kind] {
			if k.name == name {
				return k.since <= list
			}
		}
		return false
	})
	if list >= matrix.RedactionV11 && kind == matrix.TypeMember {
		if signed, ok := content.Get("third_party_invite").Find("signed"); ok {
			out = out.With("third_party_invite", canonical.Of(canonical.Member{Name: "signed", Value: signed}))
		}
	}
	return out
}

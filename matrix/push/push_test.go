package push_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/matrixtest"
	"orrery/matrix/push"
)

const me = "@me:a"

func read(t *testing.T, text string) *event.Event {
	t.Helper()
	v, err := canonical.Parse([]byte(`{"sender":"@you:a","room_id":"!r:a","origin_server_ts":1,"depth":1,"prev_events":[],"auth_events":[]}`), canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	more, err := canonical.Parse([]byte(text), canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range more.Members {
		v = v.With(name, value)
	}
	e, err := event.Of(matrix.Versions[10], v)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestDefaults(t *testing.T) {
	m := push.Compile(me, push.Defaults(me))
	may := push.Facts{Members: 5, MayNotify: func(key string) bool { return key == "room" }}
	for _, c := range []struct {
		event             string
		facts             push.Facts
		rule              string
		notify, highlight bool
	}{
		{`{"type":"m.room.message","content":{"body":"hi"}}`, push.Facts{Members: 5}, "message", true, false},
		{`{"type":"m.room.message","content":{"body":"hi"}}`, push.Facts{Members: 2}, "room_one_to_one", true, false},
		{`{"type":"m.room.message","content":{"body":"hi","msgtype":"m.notice"}}`, push.Facts{Members: 2}, "suppress_notices", false, false},
		{`{"type":"m.room.message","content":{"m.mentions":{"user_ids":["@x:a","@me:a"]}}}`, push.Facts{Members: 5}, "is_user_mention", true, true},
		{`{"type":"m.room.message","content":{"m.mentions":{"room":true}}}`, may, "is_room_mention", true, true},
		{`{"type":"m.room.message","content":{"m.mentions":{"room":true}}}`, push.Facts{Members: 5}, "message", true, false},
		{`{"type":"m.room.message","content":{"m.mentions":{"room":"true"}}}`, may, "message", true, false},
		{`{"type":"m.room.message","content":{"body":"* hi","m.relates_to":{"rel_type":"m.replace"}}}`, push.Facts{Members: 5}, "suppress_edits", false, false},
		{`{"type":"m.reaction","content":{}}`, push.Facts{}, "reaction", false, false},
		{`{"type":"m.room.member","state_key":"@me:a","content":{"membership":"invite"}}`, push.Facts{}, "invite_for_me", true, false},
		{`{"type":"m.room.member","state_key":"@x:a","content":{"membership":"invite"}}`, push.Facts{}, "member_event", false, false},
		{`{"type":"m.room.tombstone","state_key":"","content":{}}`, push.Facts{}, "tombstone", true, true},
		{`{"type":"m.room.tombstone","content":{}}`, push.Facts{}, "", false, false},
		{`{"type":"m.room.encrypted","content":{}}`, push.Facts{Members: 9}, "encrypted", true, false},
		{`{"type":"m.call.invite","content":{}}`, push.Facts{}, "call", true, false},
		{`{"type":"m.room.message","sender":"@me:a","content":{"body":"hi"}}`, push.Facts{}, "", false, false},
	} {
		got := m.Match(read(t, c.event), c.facts)
		if strings.TrimPrefix(got.Rule, ".m.rule.") != c.rule || got.Notify != c.notify || got.Highlight != c.highlight {
			t.Errorf("%s: %+v", c.event, got)
		}
	}
}

// TestPatterns has the examples of the clause.
func TestPatterns(t *testing.T) {
	hit := func(key, pattern, text string) bool {
		rules := push.Rules{push.Override: {{ID: "x", Enabled: true, Conditions: []push.Condition{{Kind: "event_match", Key: key, Pattern: &pattern}}}}}
		return push.Compile(me, rules).Match(read(t, text), push.Facts{}).Rule == "x"
	}
	for text, want := range map[string]bool{`"Lunch plans"`: true, `"LUNCH"`: true, `" lunch"`: false, `"lunc"`: false, `null`: false, `5`: false} {
		if got := hit("content.topic", "lunc?*", `{"type":"m.room.topic","content":{"topic":`+text+`}}`); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	for text, want := range map[string]bool{`"An example event."`: true, `"exple"`: true, `"An exciting triple-whammy"`: true, `"examplez"`: false, `"_example"`: false, `"éxample"`: false, `"a\nexample\nb"`: true} {
		if got := hit("content.body", "ex*ple", `{"type":"m.room.message","content":{"body":`+text+`}}`); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	if hit("content.missing", "*", `{"type":"x","content":{}}`) {
		t.Error("a property that is not there")
	}
	if !hit(`content.a\.b\\.c`, "x", `{"type":"x","content":{"a.b\\":{"c":"x"}}}`) {
		t.Error("a path with dots")
	}
	if hit("content.body", "a.c", `{"type":"x","content":{"body":"abc"}}`) {
		t.Error("a dot is no pattern")
	}
}

func TestConditions(t *testing.T) {
	hit := func(c push.Condition, f push.Facts) bool {
		rules := push.Rules{push.Underride: {{ID: "x", Enabled: true, Conditions: []push.Condition{c}}}}
		return push.Compile(me, rules).Match(read(t, `{"type":"m.room.message","content":{"body":"hello Me!","n":1}}`), f).Rule == "x"
	}
	for is, want := range map[string]bool{"3": true, "==3": true, "<3": false, "<=3": true, ">2": true, ">=4": false, "": false, "=3": false, "x": false} {
		if got := hit(push.Condition{Kind: "room_member_count", Is: is}, push.Facts{Members: 3}); got != want {
			t.Errorf("%q: %t", is, got)
		}
	}
	for name, want := range map[string]bool{"me": true, "hell": false, "": false} {
		if got := hit(push.Condition{Kind: "contains_display_name"}, push.Facts{Name: name}); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	for value, want := range map[string]bool{"1": true, `"1"`: false, "true": false, "[1]": false, "": false} {
		if got := hit(push.Condition{Kind: "event_property_is", Key: "content.n", Value: json.RawMessage(value)}, push.Facts{}); got != want {
			t.Errorf("%s: %t", value, got)
		}
	}
	if hit(push.Condition{Kind: "org.example.new"}, push.Facts{}) {
		t.Error("a condition that is not known holds")
	}
}

func ids(all []push.Rule) (found []string) {
	for _, r := range all {
		if !r.Default {
			found = append(found, r.ID)
		}
	}
	return found
}

func TestOrder(t *testing.T) {
	rs := push.Defaults(me)
	put := func(id, before, after string) {
		t.Helper()
		if err := rs.Put(push.Override, push.Rule{ID: id}, before, after); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "", "")
	put("b", "", "")
	put("c", "", "a")
	put("d", "c", "")
	put("b", "", "c")
	put("a", "", "") // it stays where it is
	if got := ids(rs[push.Override]); !slices.Equal(got, []string{"a", "d", "c", "b"}) {
		t.Error(got)
	}
	if rs[push.Override][0].ID != ".m.rule.master" {
		t.Error("something is before the master rule")
	}
	if err := rs.Put(push.Override, push.Rule{ID: "e"}, "nobody", ""); !errors.Is(err, push.ErrNotFound) {
		t.Error(err)
	}
	if err := rs.Put(push.Override, push.Rule{ID: ".e"}, "", ""); !errors.Is(err, matrix.ErrMalformed) {
		t.Error(err)
	}
	if err := rs.Remove(push.Override, ".m.rule.master"); !errors.Is(err, push.ErrNotFound) {
		t.Error(err)
	}
	if err := errors.Join(rs.Remove(push.Override, "d"), rs.Change(push.Override, ".m.rule.master", func(r *push.Rule) { r.Enabled = true })); err != nil {
		t.Error(err)
	}
	// what is kept and read again is the same
	text, err := json.Marshal(rs)
	if err != nil {
		t.Fatal(err)
	}
	var kept push.Rules
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	again := push.With(push.Defaults(me), kept)
	if got := ids(again[push.Override]); !slices.Equal(got, []string{"a", "c", "b"}) || !again[push.Override][0].Enabled {
		t.Error(got)
	}
	if got := push.Compile(me, again).Match(read(t, `{"type":"m.room.message","content":{}}`), push.Facts{}); got.Notify {
		t.Errorf("with the master rule: %+v", got)
	}
}

func TestRoomAndSender(t *testing.T) {
	rs := push.Defaults(me)
	mute := push.Rule{ID: "!r:a", Actions: []json.RawMessage{json.RawMessage(`"dont_notify"`)}}
	if err := rs.Put(push.Room, mute, "", ""); err != nil {
		t.Fatal(err)
	}
	if got := push.Compile(me, rs).Match(read(t, `{"type":"m.room.message","content":{}}`), push.Facts{}); got.Rule != "!r:a" || got.Notify {
		t.Errorf("%+v", got)
	}
	pattern := "cake"
	if err := rs.Put(push.Content, push.Rule{ID: "cake", Pattern: &pattern, Actions: []json.RawMessage{json.RawMessage(`"notify"`)}}, "", ""); err != nil {
		t.Fatal(err)
	}
	if got := push.Compile(me, rs).Match(read(t, `{"type":"m.room.message","content":{"body":"The Cake!"}}`), push.Facts{}); got.Rule != "cake" || !got.Notify {
		t.Errorf("%+v", got)
	}
}

func BenchmarkMatch(b *testing.B) {
	r := matrixtest.New(b, matrix.Versions[11], 1, 2)
	m := push.Compile("@other:a", push.Defaults("@other:a"))
	for b.Loop() {
		m.Match(r.All[len(r.All)-1], push.Facts{Members: 50})
	}
}

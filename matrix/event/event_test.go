package event_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/matrixtest"
	"orrery/matrix/signature"
)

func parse(t *testing.T, text string) canonical.Value {
	t.Helper()
	v, err := canonical.Parse([]byte(text), canonical.Lax)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVectors has the examples of the clause on event signing.
func TestVectors(t *testing.T) {
	seed, err := signature.Decode("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
	if err != nil {
		t.Fatal(err)
	}
	key := signature.Key{ID: "ed25519:1", Private: ed25519.NewKeyFromSeed(seed)}
	for _, c := range []struct{ text, hash, sig string }{
		{
			`{"room_id":"!x:domain","sender":"@a:domain","origin":"domain","origin_server_ts":1000000,"signatures":{},"hashes":{},"type":"X","content":{},"prev_events":[],"auth_events":[],"depth":3,"unsigned":{"age_ts":1000000}}`,
			"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
			"KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
		},
		{
			`{"content":{"body":"Here is the message content"},"event_id":"$0:domain","origin":"domain","origin_server_ts":1000000,"type":"m.room.message","room_id":"!r:domain","sender":"@u:domain","signatures":{},"unsigned":{"age_ts":1000000}}`,
			"onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
			"Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
		},
	} {
		v := parse(t, c.text)
		hash := event.ContentHash(v)
		if got := signature.Encode(hash[:]); got != c.hash {
			t.Errorf("hash %s", got)
		}
		v = v.With("hashes", matrixtest.Object("sha256", c.hash))
		signed := signature.Sign(event.Redact(matrix.Versions[0], v), "domain", key)
		if got := signed.Get("signatures", "domain", "ed25519:1").String(); got != c.sig {
			t.Errorf("signature %s", got)
		}
	}
}

// TestRedact says for each change of the list in which versions a field stays.
func TestRedact(t *testing.T) {
	all := func(int) bool { return true }
	none := func(int) bool { return false }
	since := func(n int) func(int) bool { return func(v int) bool { return v >= n } }
	before := func(n int) func(int) bool { return func(v int) bool { return v < n } }
	for _, c := range []struct {
		kind, path string
		stays      func(version int) bool
	}{
		{"m.room.member", "membership", all},
		{"m.room.member", "displayname", none},
		{"m.room.member", "join_authorised_via_users_server", since(9)},
		{"m.room.member", "third_party_invite", since(11)},
		{"m.room.create", "creator", all},
		{"m.room.create", "room_version", since(11)},
		{"m.room.join_rules", "join_rule", all},
		{"m.room.join_rules", "allow", since(8)},
		{"m.room.power_levels", "users", all},
		{"m.room.power_levels", "notifications", none},
		{"m.room.power_levels", "invite", since(11)},
		{"m.room.aliases", "aliases", before(6)},
		{"m.room.history_visibility", "history_visibility", all},
		{"m.room.redaction", "redacts", since(11)},
		{"m.room.message", "body", none},
		{"", "origin", before(11)},
		{"", "membership", before(11)},
		{"", "prev_state", before(11)},
		{"", "origin_server_ts", all},
		{"", "redacts", none},
		{"", "unsigned", none},
	} {
		value := matrixtest.Object("x", "y")
		if c.path == "third_party_invite" {
			value = value.With("signed", matrixtest.Object("token", "t")).With("display_name", canonical.Text("bob"))
		}
		v := canonical.Of().With("type", canonical.Text(c.kind)).With("content", canonical.Of())
		path := []string{c.path}
		if c.kind == "" {
			v = v.With(c.path, value)
		} else {
			v = v.With("content", canonical.Of().With(c.path, value))
			path = []string{"content", c.path}
		}
		for i, version := range matrix.Versions {
			got := event.Redact(version, v).Get(path...)
			if stays := got.Kind() != canonical.None; stays != c.stays(i+1) {
				t.Errorf("version %s: %s %v stays: %t", version.ID, c.kind, path, stays)
			} else if stays && c.path == "third_party_invite" && string(got.JSON()) != `{"signed":{"token":"t"}}` {
				t.Errorf("version %s keeps %s", version.ID, got.JSON())
			}
		}
	}
}

// TestMade: an event that was made is read back the same, with its hash and signature, in every version.
func TestMade(t *testing.T) {
	public, _ := matrixtest.Key.Private.Public().(ed25519.PublicKey)
	keys := func(server, id string) (ed25519.PublicKey, bool) {
		return public, server == matrixtest.Server && id == matrixtest.Key.ID
	}
	for _, version := range matrix.Versions {
		r := matrixtest.New(t, version, 1, 3)
		r.Grow(20)
		for _, e := range r.All {
			again, err := event.Parse(version, e.JSON())
			if err != nil {
				t.Fatal(err)
			}
			if again.ID() != e.ID() || again.RoomID() != r.ID || !slices.Equal(again.Prev(), e.Prev()) || !again.HashFits() {
				t.Errorf("version %s: %s", version.ID, e.JSON())
			}
			if err := again.CheckSignatures(keys); err != nil {
				t.Error(err)
			}
			hash := sha256.Sum256(event.Redact(version, e.Value()).Without("unsigned", "signatures").JSON())
			if ref := e.Ref(); ref.ID != e.ID() || ref.Hash != signature.Encode(hash[:]) {
				t.Errorf("version %s: %v", version.ID, ref)
			}
			redacted := e.Redacted()
			if err := redacted.CheckSignatures(keys); err != nil || redacted.ID() != e.ID() {
				t.Errorf("redacted: %v", err)
			}
			forged, err := event.Of(version, e.Value().With("depth", canonical.Int(e.Depth()+1)))
			if err != nil || forged.HashFits() || !errors.Is(forged.CheckSignatures(keys), matrix.ErrSignature) {
				t.Error("a change of depth is not seen", err)
			}
			changed, err := event.Of(version, e.Value().With("extra", canonical.Int(1)))
			if err != nil || changed.HashFits() || changed.CheckSignatures(keys) != nil {
				t.Error("a change of what redaction strips", err)
			}
		}
	}
}

func TestSigners(t *testing.T) {
	v11, v1 := matrix.Versions[10], matrix.Versions[0]
	user := "@u:a.example"
	draft := event.Draft{RoomID: "!r:a.example", Type: matrix.TypeMember, Sender: user, StateKey: &user, Content: matrixtest.Object("membership", "join", "join_authorised_via_users_server", "@v:b.example")}
	e, err := event.Make(v11, draft, "a.example", matrixtest.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Signers(); !slices.Equal(got, []string{"a.example", "b.example"}) {
		t.Error(got)
	}
	if got := e.Signed("b.example", matrixtest.Key); got.ID() != e.ID() || got.Value().Get("signatures").Len() != 2 {
		t.Errorf("%s", got.JSON())
	}
	draft.ID = "$e:c.example"
	if e, err = event.Make(v1, draft, "a.example", matrixtest.Key); err != nil {
		t.Fatal(err)
	}
	if got := e.Signers(); !slices.Equal(got, []string{"a.example", "c.example"}) {
		t.Error(got)
	}
	draft.Content = matrixtest.Object("membership", "invite").With("third_party_invite", canonical.Of())
	if e, err = event.Make(v11, draft, "a.example", matrixtest.Key); err != nil || len(e.Signers()) != 0 {
		t.Error(e.Signers(), err)
	}
}

func TestRedacts(t *testing.T) {
	for _, version := range matrix.Versions {
		e, err := event.Make(version, event.Draft{ID: "$x:a", RoomID: "!r:a", Type: matrix.TypeRedaction, Sender: "@u:a", Redacts: "$other", Content: canonical.Of()}, "a", matrixtest.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, top := e.Value().Find("redacts"); e.Redacts() != "$other" || top == version.RedactsInContent {
			t.Errorf("version %s: %s", version.ID, e.JSON())
		}
	}
}

// TestRefused: each event is a good one with something changed.
func TestRefused(t *testing.T) {
	const good = `{"type":"m.room.message","sender":"@u:a","room_id":"!r:a","content":{},"origin_server_ts":1,"depth":1,"prev_events":["$p"],"auth_events":["$a"],"hashes":{},"signatures":{}}`
	v11 := matrix.Versions[10]
	if _, err := event.Parse(v11, []byte(good)); err != nil {
		t.Fatal(err)
	}
	long := `"` + strings.Repeat("x", 256) + `"`
	for _, c := range []struct {
		field, value string
		kind         error
		why          string
	}{
		{"type", "", matrix.ErrMalformed, "type"},
		{"type", "5", matrix.ErrMalformed, "not a string"},
		{"type", long, matrix.ErrTooLarge, "type"},
		{"state_key", long, matrix.ErrTooLarge, "state_key"},
		{"state_key", "null", matrix.ErrMalformed, "state_key"},
		{"sender", `"u:a"`, matrix.ErrMalformed, "@localpart:server"},
		{"sender", `"@u:"`, matrix.ErrMalformed, "server name"},
		{"sender", `"@u:a b"`, matrix.ErrMalformed, "character"},
		{"room_id", "", matrix.ErrMalformed, "room_id"},
		{"room_id", `"!r"`, matrix.ErrMalformed, "room_id"},
		{"content", "[]", matrix.ErrMalformed, "content"},
		{"content", "", matrix.ErrMalformed, "content"},
		{"content", `{"a":1.5}`, matrix.ErrMalformed, "53 bits"},
		{"content", `{"a":"` + strings.Repeat("x", 65536) + `"}`, matrix.ErrTooLarge, "65536"},
		{"origin_server_ts", `"1"`, matrix.ErrMalformed, "origin_server_ts"},
		{"depth", "-1", matrix.ErrMalformed, "depth"},
		{"prev_events", `{}`, matrix.ErrMalformed, "prev_events"},
		{"prev_events", `[["$p",{}]]`, matrix.ErrMalformed, "ids of events"},
		{"prev_events", "[" + strings.Repeat(`"$p",`, 20) + `"$p"]`, matrix.ErrTooLarge, "21 events"},
		{"auth_events", "[" + strings.Repeat(`"$p",`, 10) + `"$p"]`, matrix.ErrTooLarge, "11 events"},
		{"hashes", "1", matrix.ErrMalformed, "hashes"},
		{"signatures", "[]", matrix.ErrMalformed, "signatures"},
	} {
		v := parse(t, good)
		if c.value == "" {
			v = v.Without(c.field)
		} else {
			v = v.With(c.field, parse(t, c.value))
		}
		_, err := event.Parse(v11, v.JSON())
		if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s %.40s: %v", c.field, c.value, err)
		}
	}
	if _, err := event.Make(v11, event.Draft{RoomID: "!r:a", Type: "x", Sender: "@u:a", Content: parse(t, `{"a":[{"b":1.5}]}`)}, "a", matrixtest.Key); !errors.Is(err, matrix.ErrMalformed) {
		t.Error(err)
	}
}

func TestDepthOfOldRooms(t *testing.T) {
	text := `{"event_id":"$e:a","type":"x","sender":"@u:a","room_id":"!r:a","content":{"a":1.5},"origin_server_ts":1,"depth":%s,"prev_events":[],"auth_events":[]}`
	for depth, ok := range map[string]bool{"9223372036854775807": true, "9223372036854775808": false, "1.5": false} {
		if _, err := event.Parse(matrix.Versions[0], fmt.Appendf(nil, text, depth)); (err == nil) != ok {
			t.Errorf("%s: %v", depth, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, version := range matrix.Versions {
		r := matrixtest.New(f, version, 1, 2)
		for _, e := range r.All {
			f.Add(version.ID, e.JSON())
		}
	}
	f.Fuzz(func(t *testing.T, id string, text []byte) {
		version, err := matrix.FindVersion(id)
		if err != nil {
			return
		}
		e, err := event.Parse(version, text)
		if err != nil {
			return
		}
		again, err := event.Parse(version, e.JSON())
		if err != nil || again.ID() != e.ID() {
			t.Fatalf("%s is not read back: %v", e.JSON(), err)
		}
		if r := e.Redacted(); string(r.Redacted().JSON()) != string(r.JSON()) {
			t.Fatal("redacted twice is not redacted once")
		}
		e.Signers()
		e.HashFits()
	})
}

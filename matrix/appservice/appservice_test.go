package appservice

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const good = `
id: irc
url: http://127.0.0.1:1234/
as_token: as1
hs_token: hs1
sender_localpart: _irc_bot
rate_limited: false
receive_ephemeral: true
namespaces:
  users: [{exclusive: true, regex: "@_irc_.*"}]
  aliases: [{exclusive: false, regex: "#_irc_.*"}]
  rooms: [{exclusive: false, regex: "!fixed:.*"}]
protocols: [irc]
com.example.more: {x: 1}
`

func read(t *testing.T, file, text string) *Registration {
	t.Helper()
	r, err := Read(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegistration(t *testing.T) {
	r := read(t, "irc.yaml", good)
	if r.ID != "irc" || r.URL != "http://127.0.0.1:1234" || r.Token != "as1" || r.ServerToken != "hs1" || r.Sender != "_irc_bot" || r.RateLimited || !r.Ephemeral || r.Proposed || r.Encryption ||
		len(r.Protocols) != 1 || len(r.Users) != 1 || !r.Users[0].Exclusive || r.Aliases[0].Exclusive {
		t.Errorf("%+v", r)
	}
	if r := read(t, "x", strings.Replace(good, "http://127.0.0.1:1234/", "null", 1)); r.URL != "" {
		t.Errorf("%+v", r)
	}
	if r := read(t, "x", strings.NewReplacer("receive_ephemeral", "de.sorunome.msc2409.push_ephemeral", "rate_limited: false", "org.matrix.msc3202: true").Replace(good)); !r.Ephemeral || !r.Proposed || !r.RateLimited || !r.Encryption {
		t.Errorf("%+v", r)
	}
}

// TestWrongRegistration: what is wrong is named by file and field.
func TestWrongRegistration(t *testing.T) {
	for _, c := range [][3]string{
		{"id: irc", "id: null", "id:"},
		{"id: irc", "", "id: it is missing"},
		{"id: irc", "id: [a]", "id:"},
		{"as_token: as1", "as_token: ''", "as_token:"},
		{"url: http://127.0.0.1:1234/", "", "url: it is missing"},
		{"url: http://127.0.0.1:1234/", "url: ftp://x", "url:"},
		{"url: http://127.0.0.1:1234/", "url: {}", "url:"},
		{"rate_limited: false", "rate_limited: perhaps", "rate_limited:"},
		{`"@_irc_.*"`, `"@_irc_(.*"`, "namespaces.users[0].regex: error parsing"},
		{`"@_irc_.*"`, `"@(?!irc)"`, "namespaces.users[0].regex:"},
		{`{exclusive: true, regex: "@_irc_.*"}`, `{exclusive: true}`, "namespaces.users[0].regex: it is not a text"},
		{`{exclusive: true, regex: "@_irc_.*"}`, `word`, "namespaces.users[0]: it is no mapping"},
		{`[{exclusive: true, regex: "@_irc_.*"}]`, `word`, "namespaces.users: it is no list"},
		{"exclusive: true", "exclusive: 3", "namespaces.users[0].exclusive:"},
		{"protocols: [irc]", "protocols: irc", "protocols: it is no list"},
		{"protocols: [irc]", "protocols: [{}]", "protocols[0]:"},
		{"as_token: as1", "as_token: as1\nas_token: as2", "as_token: it is there twice"},
	} {
		_, err := Read("irc.yaml", []byte(strings.Replace(good, c[0], c[1], 1)))
		if !errors.Is(err, ErrRegistration) || !strings.Contains(err.Error(), "irc.yaml: "+c[2]) {
			t.Errorf("%s: %v", c[1], err)
		}
	}
	for _, text := range []string{"", "- a", "\t", "a: [", "3"} {
		if _, err := Read("irc.yaml", []byte(text)); !errors.Is(err, ErrRegistration) {
			t.Errorf("%q: %v", text, err)
		}
	}
	_, err := Read("irc.yaml", []byte("namespaces: {}"))
	if n := strings.Count(err.Error(), "irc.yaml"); n != 5 {
		t.Errorf("%d fields: %v", n, err)
	}
}

// TestTogether: registrations of one server must not claim the same.
func TestTogether(t *testing.T) {
	other := strings.NewReplacer("id: irc", "id: xmpp", "as1", "as2", "hs1", "hs2", "_irc_bot", "_xmpp_bot", "@_irc_.*", "@_xmpp_.*", "#_irc_", "#_xmpp_").Replace(good)
	services, err := New("orrery.test", []*Registration{read(t, "irc.yaml", good), read(t, "xmpp.yaml", other)})
	if err != nil {
		t.Fatal(err)
	}
	if services.ByToken("as2").ID != "xmpp" || services.ByToken("as3") != nil || services.ByToken("") != nil || services.ByID("irc").SenderID != "@_irc_bot:orrery.test" || services.ByID("x") != nil {
		t.Error("services are not found")
	}
	for _, c := range [][3]string{
		{"id: xmpp", "id: irc", `id: "irc" is that of irc.yaml`},
		{"as2", "as1", "as_token: it is that of irc.yaml"},
		{"hs2", "hs1", "hs_token: it is that of irc.yaml"},
		{"sender_localpart: _xmpp_bot", "sender_localpart: _irc_bot", `sender_localpart: "_irc_bot" is that of irc.yaml`},
		{"sender_localpart: _xmpp_bot", "sender_localpart: _irc_anne", "is in an exclusive namespace of irc.yaml"},
		{"sender_localpart: _xmpp_bot", "sender_localpart: '@bot:x'", "is not the name of a user"},
		{"@_xmpp_.*", "@_[iu]rc_bob.*", `both have "@_irc_bob"`},
		{"@_xmpp_.*", "@_irc_bot", "who is the sender of irc.yaml"},
	} {
		_, err := New("orrery.test", []*Registration{read(t, "irc.yaml", good), read(t, "xmpp.yaml", strings.Replace(other, c[0], c[1], 1))})
		if !errors.Is(err, ErrRegistration) || !strings.Contains(err.Error(), "xmpp.yaml: ") || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: %v", c[1], err)
		}
	}
	var none *Services
	if none.ByToken("x") != nil || none.UserOwner("@_irc_x:orrery.test") != nil || none.AliasOwner("#x:y") != nil || len(none.All()) != 0 || none.ByID("x") != nil {
		t.Error("no services are some")
	}
}

func TestInterest(t *testing.T) {
	services, err := New("orrery.test", []*Registration{read(t, "irc.yaml", good)})
	if err != nil {
		t.Fatal(err)
	}
	s := services.All()[0]
	for user, want := range map[string][2]bool{
		"@_irc_anne:orrery.test": {true, true}, "@_irc_bot:orrery.test": {true, true}, "@_irc_anne:elsewhere.test": {}, "@anne:orrery.test": {}, "x@_irc_anne:orrery.test": {}, "": {},
	} {
		for range 2 { // the second time it is remembered
			if in, exclusive := s.user(user); in != want[0] || exclusive != want[1] {
				t.Errorf("%s: %t %t", user, in, exclusive)
			}
		}
	}
	if services.UserOwner("@_irc_x:orrery.test") != s || services.UserOwner("@x:orrery.test") != nil || services.AliasOwner("#_irc_x:orrery.test") != nil {
		t.Error("owners")
	}
	if !s.HasAlias("#_irc_x:orrery.test") || s.HasAlias("#x:orrery.test") || !s.HasRoom("!fixed:x", nil) || !s.HasRoom("!r", []string{"#a:b", "#_irc_b:c"}) || s.HasRoom("!r", []string{"#a:b"}) {
		t.Error("rooms")
	}
}

func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"@_irc_.*", "@_irc_.*", true},
		{"@_irc_.*", "@_xmpp_.*", false},
		{"^@telegrambot:x$", "^@telegrambot:x2.*$", false},
		{"^@telegrambot:x$", "^@telegram.*:x$", true},
		{"^@telegrambot:x$", "^@telegram_.*:x$", false},
		{"@telegram", "@telegrambot:x$", true}, // the first goes on as it likes
		{"@whatsapp_.*", "@whatsapp2_.*", false},
		{"@.*_irc:x", "@irc_.*", true},
		{"@(a|b)+:x$", "@[b-d]{3}:x$", true},
		{"@(a|b)+:x$", "@[c-d]{3}:x$", false},
		{`@\d+:x`, `@[^0-9]+:x`, false},
		{"@(?i:IRC)_.*", "@irc_.*", true},
		{"(", "@a", false},
	} {
		for _, two := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			example, got := overlap(two[0], two[1])
			if got != c.want {
				t.Errorf("%q and %q: %t %q", two[0], two[1], got, example)
			}
			if got && (!regexp.MustCompile("^(?:"+c.a+")").MatchString(example) || !regexp.MustCompile("^(?:"+c.b+")").MatchString(example)) {
				t.Errorf("%q and %q do not both have %q", c.a, c.b, example)
			}
		}
	}
}

// TestOverlapOfAnything: whatever text two expressions have in common is found to be one; and what is found is one.
func TestOverlapOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		expression := rapid.StringMatching(`\^?(a|b|\.|\.\*|\[ab\]|c\?|a\+|\(a\|bc\)){1,5}\$?`)
		a, b, text := expression.Draw(t, "a"), expression.Draw(t, "b"), rapid.StringMatching(`[abc]{0,6}`).Draw(t, "text")
		x, y := regexp.MustCompile("^(?:"+a+")"), regexp.MustCompile("^(?:"+b+")")
		example, both := overlap(a, b)
		if x.MatchString(text) && y.MatchString(text) && !both {
			t.Errorf("%q and %q have %q in common", a, b, text)
		}
		if both && (!x.MatchString(example) || !y.MatchString(example)) {
			t.Errorf("%q and %q do not have %q in common", a, b, example)
		}
	})
}

func TestBackoff(t *testing.T) {
	var b Backoff
	if b.Failing() {
		t.Error("it fails before it is tried")
	}
	var all []time.Duration
	for range 12 {
		all = append(all, b.Fail())
	}
	if all[0] != FirstWait || all[1] != 2*FirstWait || all[11] != MostWait || !b.Failing() {
		t.Error(all)
	}
	if b.Reset(); b.Failing() || b.Fail() != FirstWait {
		t.Error("failures are not forgotten")
	}
}

func TestBody(t *testing.T) {
	s := &Service{}
	tx := &Transaction{}
	body := func() string {
		text, err := tx.Body(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if !tx.Empty() || body() != `{"events":[]}` {
		t.Error(body())
	}
	tx.Ephemeral, tx.ToDevice = append(tx.Ephemeral, []byte(`{"e":1}`)), append(tx.ToDevice, []byte(`{"d":1}`))
	tx.Lists.Changed = []string{"@a:b"}
	tx.Counts = map[string]map[string]map[string]int{"@a:b": {"D": {"signed_curve25519": 3}}}
	tx.Fallbacks = map[string]map[string][]string{"@a:b": {"D": {}}}
	if tx.Empty() || body() != `{"events":[]}` { // the service did not ask for any of it
		t.Error(body())
	}
	s.Ephemeral, s.Encryption = true, true
	if want := `{"de.sorunome.msc2409.to_device":[{"d":1}],"ephemeral":[{"e":1}],"events":[],"org.matrix.msc3202.device_lists":{"changed":["@a:b"]},` +
		`"org.matrix.msc3202.device_one_time_keys_count":{"@a:b":{"D":{"signed_curve25519":3}}},"org.matrix.msc3202.device_unused_fallback_key_types":{"@a:b":{"D":[]}}}`; body() != want {
		t.Error(body())
	}
	s.Proposed = true
	if !strings.Contains(body(), `"de.sorunome.msc2409.ephemeral":[`) {
		t.Error(body())
	}
}

func FuzzRegistration(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a: &x [*x]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Read("x.yaml", text)
		if err == nil {
			_, _ = New("orrery.test", []*Registration{r, r})
		}
	})
}

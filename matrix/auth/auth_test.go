package auth_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/matrixtest"
	"orrery/matrix/signature"
)

const (
	founder = "@founder:a"
	member  = "@member:a"
	other   = "@other:b"
)

// world is a room of a version: its create event and the state that a case asks for.
type world struct {
	t       *testing.T
	version *matrix.Version
	create  *event.Event
	state   []*event.Event
}

func parse(t *testing.T, text string) canonical.Value {
	t.Helper()
	v, err := canonical.Parse([]byte(text), canonical.Lax)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newWorld(t *testing.T, number int, create string) *world {
	t.Helper()
	w := &world{t: t, version: matrix.Versions[number-1]}
	content := parse(t, create).With("room_version", canonical.Text(w.version.ID))
	if w.version.CreatorField {
		content = content.With("creator", canonical.Text(founder))
	}
	w.create = w.make(matrix.TypeCreate, founder, "", content)
	w.state = append(w.state, w.create)
	return w
}

func (w *world) make(kind, sender, stateKey string, content canonical.Value) *event.Event {
	d := event.Draft{ID: "$" + strconv.Itoa(len(w.state)) + kind + ":a", RoomID: "!r:a", Type: kind, Sender: sender, StateKey: &stateKey, Content: content}
	if stateKey == "none" {
		d.StateKey = nil
	}
	if w.version.CreateIsRoom {
		d.RoomID = ""
		if w.create != nil {
			d.RoomID = w.create.RoomID()
		}
	}
	if w.create != nil {
		d.Prev = []event.Ref{{ID: "$other:a"}}
	}
	e, err := event.Make(w.version, d, "a", matrixtest.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// set adds to the state what a line says: type, sender, state key and content.
func (w *world) set(line string) {
	if line != "" {
		w.state = append(w.state, w.read(line))
	}
}

func (w *world) read(line string) *event.Event {
	w.t.Helper()
	f := strings.SplitN(line, " ", 4)
	if f[2] == "-" {
		f[2] = ""
	}
	return w.make(f[0], f[1], f[2], parse(w.t, f[3]))
}

func (w *world) rule(e *event.Event) string {
	w.t.Helper()
	err := auth.Check(e, auth.List(w.state...))
	if err == nil {
		return "allowed"
	}
	var r *auth.Rejection
	if !errors.As(err, &r) || !errors.Is(err, matrix.ErrForbidden) || r.Version != w.version.ID || r.Event != e.ID() {
		w.t.Fatalf("%v", err)
	}
	return r.Rule
}

const (
	in     = `{"membership":"join"}`
	joined = "m.room.member " + founder + " " + founder + " " + in
	both   = joined + "\nm.room.member " + member + " " + member + " " + in
	levels = "m.room.power_levels " + founder + ` - {"users":{"@founder:a":100,"@member:a":50},"ban":60,"events":{"x":70}}`
	noPL12 = "m.room.power_levels " + founder + ` - {"users":{"@member:a":50},"ban":60,"events":{"x":70}}`
)

// others is a line that gives other a membership.
func others(is string) string {
	return fmt.Sprintf("\nm.room.member %s %s {\"membership\":%q}", other, other, is)
}

func rules(rule string) string {
	return "\nm.room.join_rules " + founder + ` - {"join_rule":"` + rule + `"}`
}

// TestRules has at least one event for every rule. The numbers are those of the clauses of room versions 1 and 12; "-" where a version has no such rule.
func TestRules(t *testing.T) {
	for _, c := range []struct{ name, state, event, v1, v12 string }{
		{"server that may not", "", "m.room.member " + other + " " + other + " " + in, "5.2.6", "5.3.7"},
		{"aliases without state key", both, "m.room.aliases " + member + " none {}", "4.1", "allowed"},
		{"aliases of another server", both, "m.room.aliases " + member + " b {}", "4.2", "allowed"},
		{"aliases", both, "m.room.aliases " + member + " a {}", "allowed", "allowed"},
		{"member without state key", both, "m.room.member " + member + " none " + in, "5.1", "5.1"},
		{"member without membership", both, "m.room.member " + member + " " + member + " {}", "5.1", "5.1"},
		{"unknown membership", both, "m.room.member " + member + " " + member + ` {"membership":"sit"}`, "5.6", "5.8"},

		{"join of another", both, "m.room.member " + member + " " + other + " " + in, "5.2.2", "5.3.2"},
		{"join of a banned", both + others("ban") + rules("public"), "m.room.member " + other + " " + other + " " + in, "5.2.3", "5.3.3"},
		{"join of an invited", both + others("invite") + rules("invite"), "m.room.member " + other + " " + other + " " + in, "allowed", "allowed"},
		{"join of an invited where people knock", both + others("invite") + rules("knock"), "m.room.member " + other + " " + other + " " + in, "5.2.6", "allowed"},
		{"join again", both + rules("invite"), "m.room.member " + member + " " + member + " " + in, "allowed", "allowed"},
		{"join without rule", both, "m.room.member " + other + " " + other + " " + in, "5.2.6", "5.3.7"},
		{"public join", both + rules("public"), "m.room.member " + other + " " + other + " " + in, "allowed", "allowed"},
		{"private join", both + rules("private"), "m.room.member " + other + " " + other + " " + in, "5.2.6", "5.3.7"},
		{"restricted join", both + rules("restricted"), "m.room.member " + other + " " + other + ` {"membership":"join","join_authorised_via_users_server":"@member:a"}`, "5.2.6", "allowed"},
		{"restricted join by nobody", both + rules("restricted"), "m.room.member " + other + " " + other + " " + in, "5.2.6", "5.3.5.2"},
		{"restricted join by a stranger", both + rules("knock_restricted"), "m.room.member " + other + " " + other + ` {"membership":"join","join_authorised_via_users_server":"@x:a"}`, "5.2.6", "5.3.5.2"},
		{"restricted join by one who may not invite", both + rules("restricted") + "\nm.room.power_levels " + founder + ` - {"invite":50}`, "m.room.member " + other + " " + other + ` {"membership":"join","join_authorised_via_users_server":"@member:a"}`, "5.2.6", "5.3.5.2"},

		{"invitation", both, "m.room.member " + member + " " + other + ` {"membership":"invite"}`, "allowed", "allowed"},
		{"invitation by a stranger", both, "m.room.member " + other + ` @x:b {"membership":"invite"}`, "5.3.2", "5.4.2"},
		{"invitation of a member", both, "m.room.member " + founder + " " + member + ` {"membership":"invite"}`, "5.3.3", "5.4.3"},
		{"invitation of a banned", both + others("ban"), "m.room.member " + founder + " " + other + ` {"membership":"invite"}`, "5.3.3", "5.4.3"},
		{"invitation by one who may not", both + "\nm.room.power_levels " + founder + ` - {"invite":1}`, "m.room.member " + member + " " + other + ` {"membership":"invite"}`, "5.3.5", "5.4.5"},

		{"third party's without signed", both, "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{}}`, "5.3.1.2", "5.4.1.2"},
		{"third party's for a banned", both + others("ban"), "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{}}`, "5.3.1.1", "5.4.1.1"},
		{"third party's without token", both, "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{"signed":{"mxid":"@other:b"}}}`, "5.3.1.3", "5.4.1.3"},
		{"third party's for somebody else", both, "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{"signed":{"mxid":"@x:b","token":"t"}}}`, "5.3.1.4", "5.4.1.4"},
		{"third party's that nobody issued", both, "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{"signed":{"mxid":"@other:b","token":"t"}}}`, "5.3.1.5", "5.4.1.5"},
		{"third party's of somebody else", both + "\nm.room.third_party_invite " + founder + " t {}", "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{"signed":{"mxid":"@other:b","token":"t"}}}`, "5.3.1.6", "5.4.1.6"},
		{"third party's without signature", both + "\nm.room.third_party_invite " + member + " t {}", "m.room.member " + member + " " + other + ` {"membership":"invite","third_party_invite":{"signed":{"mxid":"@other:b","token":"t"}}}`, "5.3.1.8", "5.4.1.8"},

		{"leave", both, "m.room.member " + member + " " + member + ` {"membership":"leave"}`, "allowed", "allowed"},
		{"leave of a stranger", both, "m.room.member " + other + " " + other + ` {"membership":"leave"}`, "5.4.1", "5.5.1"},
		{"leave of one who knocked", both + others("knock"), "m.room.member " + other + " " + other + ` {"membership":"leave"}`, "5.4.1", "allowed"},
		{"kick by a stranger", both, "m.room.member " + other + " " + member + ` {"membership":"leave"}`, "5.4.2", "5.5.2"},
		{"kick by one who may not", both, "m.room.member " + member + " " + founder + ` {"membership":"leave"}`, "5.4.5", "5.5.5"},
		{"kick", both, "m.room.member " + founder + " " + member + ` {"membership":"leave"}`, "allowed", "allowed"},
		{"ban lifted by one who may only kick", both + others("ban") + "\n{levels}", "m.room.member " + member + " " + other + ` {"membership":"leave"}`, "5.4.3", "5.5.3"},

		{"ban by a stranger", both, "m.room.member " + other + " " + member + ` {"membership":"ban"}`, "5.5.1", "5.6.1"},
		{"ban by one who may not", both + "\n{levels}", "m.room.member " + member + " " + other + ` {"membership":"ban"}`, "5.5.3", "5.6.3"},
		{"ban", both + "\n{levels}", "m.room.member " + founder + " " + member + ` {"membership":"ban"}`, "allowed", "allowed"},

		{"knock at a closed door", both + rules("invite"), "m.room.member " + other + " " + other + ` {"membership":"knock"}`, "5.6", "5.7.1"},
		{"knock for another", both + rules("knock"), "m.room.member " + other + ` @x:b {"membership":"knock"}`, "5.6", "5.7.2"},
		{"knock of a member", both + rules("knock"), "m.room.member " + member + " " + member + ` {"membership":"knock"}`, "5.6", "5.7.4"},
		{"knock", both + rules("knock_restricted"), "m.room.member " + other + " " + other + ` {"membership":"knock"}`, "5.6", "allowed"},

		{"message of a stranger", both, "m.room.message " + other + " none {}", "6", "6"},
		{"message", both, "m.room.message " + member + " none {}", "allowed", "allowed"},
		{"third party's invitation", both + "\nm.room.power_levels " + founder + ` - {"invite":1}`, "m.room.third_party_invite " + member + " t {}", "7.1", "7.1"},
		{"event above", both + "\n{levels}", "x " + member + " none {}", "8", "8"},
		{"state above", both + "\nm.room.power_levels " + founder + ` - {}`, "m.room.topic " + member + " - {}", "8", "8"},
		{"another's key", both + "\n{levels}", "y " + member + " " + other + " {}", "9", "9"},
		{"own key", both + "\n{levels}", "y " + member + " " + member + " {}", "allowed", "allowed"},

		{"users that are none", both, "m.room.power_levels " + founder + ` - {"users":{"x":1}}`, "10.1", "10.3"},
		{"users' levels that are none", both, "m.room.power_levels " + founder + ` - {"users":{"@x:a":"one"}}`, "10.1", "10.3"},
		{"users' levels in a string", both, "m.room.power_levels " + founder + ` - {"users":{"@x:a":" +0010 "}}`, "allowed", "10.3"},
		{"level in a string", both, "m.room.power_levels " + founder + ` - {"ban":"1"}`, "allowed", "10.1"},
		{"events in a list", both, "m.room.power_levels " + founder + ` - {"events":[]}`, "allowed", "10.2"},
		{"event's level in a string", both, "m.room.power_levels " + founder + ` - {"events":{"x":"1"}}`, "allowed", "10.2"},
		{"creator's level", both, "m.room.power_levels " + founder + ` - {"users":{"@founder:a":100}}`, "allowed", "10.4"},
		{"level from above", both + "\n{mine}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50},"state_default":0,"events":{"x":70}}`, "10.3.1", "10.6.1"},
		{"level to above", both + "\n{mine}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50},"ban":60,"state_default":0,"kick":51,"events":{"x":70}}`, "10.3.2", "10.6.2"},
		{"event's level from above", both + "\n{mine}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50},"ban":60,"state_default":0}`, "10.4.1", "10.7.1"},
		{"event's level to above", both + "\n{mine}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50},"ban":60,"state_default":0,"events":{"x":70,"y":51}}`, "10.5.1", "10.8.1"},
		{"notification's level to above", both + "\n{mine}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50},"ban":60,"state_default":0,"events":{"x":70},"notifications":{"room":51}}`, "allowed", "10.8.1"},
		{"equal's level", both + "\n{equal}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50},"state_default":0}`, "10.6.1", "10.9.1"},
		{"own level down", both + "\n{equal}", "m.room.power_levels " + member + ` - {"users":{"@member:a":10,"@x:a":50},"state_default":0}`, "allowed", "allowed"},
		{"user's level to above", both + "\n{equal}", "m.room.power_levels " + member + ` - {"users":{"@member:a":50,"@x:a":50,"@y:a":51},"state_default":0}`, "10.7.1", "10.10.1"},

		{"redaction of another server's", both, "m.room.redaction " + member + ` none {}`, "11.3", "allowed"},
	} {
		for number, want := range map[int]string{1: c.v1, 12: c.v12} {
			w := newWorld(t, number, `{}`)
			powers := map[string]string{
				"{levels}": levels, "{mine}": "m.room.power_levels " + founder + ` - {"users":{"@member:a":50},"ban":60,"state_default":0,"events":{"x":70}}`,
				"{equal}": "m.room.power_levels " + founder + ` - {"users":{"@member:a":50,"@x:a":50},"state_default":0}`,
			}
			if number == 12 {
				powers["{levels}"] = noPL12
			}
			for line := range strings.SplitSeq(c.state, "\n") {
				if p, ok := powers[line]; ok {
					line = p
				}
				w.set(line)
			}
			if got := w.rule(w.read(c.event)); got != want {
				t.Errorf("%s, version %d: %s, not %s", c.name, number, got, want)
			}
		}
	}
}

// TestNumbers: the numbers of rules that moved, in every version.
func TestNumbers(t *testing.T) {
	for i, want := range []string{"5 5.6", "5 5.6", "5 5.6", "5 5.6", "5 5.6", "4 4.6", "4 4.7", "4 4.8", "4 4.8", "4 4.8", "4 4.8", "5 5.8"} {
		w := newWorld(t, i+1, `{}`)
		w.set(joined)
		got := w.rule(w.read("m.room.member " + founder + " " + founder + ` {"membership":"?"}`))
		if number, _, _ := strings.Cut(want, " "); number+" "+got != want {
			t.Errorf("version %d: %s, not %s", i+1, got, want)
		}
	}
	for i, want := range []string{"10.5.1", "10.5.1", "10.5.1", "10.5.1", "10.5.1", "9.5.1", "9.5.1", "9.5.1", "9.5.1", "9.7.1", "9.7.1", "10.8.1"} {
		w := newWorld(t, i+1, `{}`)
		w.set(joined)
		w.set("m.room.member " + member + " " + member + " " + in)
		w.set("m.room.power_levels " + founder + ` - {"users":{"@member:a":50},"state_default":0}`)
		if got := w.rule(w.read("m.room.power_levels " + member + ` - {"users":{"@member:a":50},"state_default":0,"events":{"x":51}}`)); got != want {
			t.Errorf("version %d: %s, not %s", i+1, got, want)
		}
	}
}

func TestCreate(t *testing.T) {
	for number := 1; number <= 12; number++ {
		w := newWorld(t, number, `{}`)
		if got := w.rule(w.create); got != "allowed" {
			t.Errorf("version %d: %s", number, got)
		}
		v := w.create.Value()
		change := func(v canonical.Value) string {
			e, err := event.Of(w.version, v)
			if err != nil {
				t.Fatal(err)
			}
			return w.rule(e)
		}
		if got := change(v.With("prev_events", w.make("x", founder, "", canonical.Of()).Value().Get("prev_events"))); got != "1.1" {
			t.Errorf("version %d, events before: %s", number, got)
		}
		if got := change(v.With("room_id", canonical.Text("!r:elsewhere"))); got != "1.2" {
			t.Errorf("version %d, another's room: %s", number, got)
		}
		if got := change(v.With("content", v.Get("content").With("room_version", canonical.Text("99")))); got != "1.3" {
			t.Errorf("version %d, room version: %s", number, got)
		}
		want := map[bool]string{true: "1.4", false: "allowed"}
		if got := change(v.With("content", v.Get("content").Without("creator"))); got != want[number < 11] {
			t.Errorf("version %d, no creator: %s", number, got)
		}
		for _, more := range []string{`"@x:a"`, `["x"]`, `[1]`} {
			if got := change(v.With("content", v.Get("content").With("additional_creators", parse(t, more)))); got != want[number == 12] {
				t.Errorf("version %d, creators %s: %s", number, more, got)
			}
		}
	}
}

// TestRoom: what belongs to a room, and who may take part.
func TestRoom(t *testing.T) {
	for number, want := range map[int]string{1: "2.4", 11: "2.4", 12: "2"} {
		w := newWorld(t, number, `{}`)
		e := w.read(joined)
		w.state = nil
		if got := w.rule(e); got != want {
			t.Errorf("version %d, no create event: %s", number, got)
		}
	}
	for number, want := range map[int]string{1: "3", 11: "3", 12: "4"} {
		w := newWorld(t, number, `{"m.federate":false}`)
		w.set(joined)
		if got := w.rule(w.read("m.room.member " + other + " " + other + " " + in)); got != want {
			t.Errorf("version %d, does not federate: %s", number, got)
		}
	}
}

func TestFirstJoin(t *testing.T) {
	for number := 1; number <= 12; number++ {
		w := newWorld(t, number, `{}`)
		first := func(user string) *event.Event {
			key := user
			d := event.Draft{ID: "$1:a", RoomID: w.create.RoomID(), Type: matrix.TypeMember, Sender: user, StateKey: &key, Content: parse(t, in), Prev: []event.Ref{w.create.Ref()}}
			e, err := event.Make(w.version, d, "a", matrixtest.Key)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		if got := w.rule(first(founder)); got != "allowed" {
			t.Errorf("version %d: %s", number, got)
		}
		if got := w.rule(first(member)); got == "allowed" {
			t.Errorf("version %d: somebody else", number)
		}
	}
}

// TestThirdPartySignature: any signature by any key of the invitation will do.
func TestThirdPartySignature(t *testing.T) {
	public, _ := matrixtest.Key.Private.Public().(ed25519.PublicKey)
	signed := signature.Sign(matrixtest.Object("mxid", other, "token", "t"), "identity.example", signature.Key{ID: "ed25519:0", Private: matrixtest.Key.Private})
	content := canonical.Of().With("membership", canonical.Text("invite")).With("third_party_invite", canonical.Of().With("signed", signed))
	for _, keys := range []string{`{"public_key":"%s"}`, `{"public_key":"AAAA","public_keys":[{"public_key":"x"},{"public_key":"%s"}]}`} {
		w := newWorld(t, 12, `{}`)
		w.set("m.room.third_party_invite " + member + " t " + fmt.Sprintf(keys, signature.Encode(public)))
		if got := w.rule(w.make(matrix.TypeMember, member, other, content)); got != "allowed" {
			t.Errorf("%s: %s", keys, got)
		}
	}
}

func TestSelection(t *testing.T) {
	names := func(keys []matrix.Key) string {
		var all []string
		for _, k := range keys {
			all = append(all, strings.TrimPrefix(k.Type, "m.room.")+"/"+k.StateKey)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	for _, c := range []struct{ line, v1, v12 string }{
		{"m.room.message @a:a none {}", "create/ member/@a:a power_levels/", "member/@a:a power_levels/"},
		{"m.room.member @a:a @a:a " + in, "create/ join_rules/ member/@a:a power_levels/", "join_rules/ member/@a:a power_levels/"},
		{`m.room.member @a:a @b:a {"membership":"leave"}`, "create/ member/@a:a member/@b:a power_levels/", "member/@a:a member/@b:a power_levels/"},
		{`m.room.member @a:a @b:a {"membership":"invite","third_party_invite":{"signed":{"token":"t"}}}`, "create/ join_rules/ member/@a:a member/@b:a power_levels/ third_party_invite/t", "join_rules/ member/@a:a member/@b:a power_levels/ third_party_invite/t"},
		{`m.room.member @a:a @a:a {"membership":"join","join_authorised_via_users_server":"@c:a"}`, "create/ join_rules/ member/@a:a power_levels/", "join_rules/ member/@a:a member/@c:a power_levels/"},
	} {
		for number, want := range map[int]string{1: c.v1, 12: c.v12} {
			w := newWorld(t, number, `{}`)
			if got := names(auth.Selection(w.read(c.line))); got != want {
				t.Errorf("version %d, %s: %s", number, c.line, got)
			}
		}
	}
}

func TestCheckSelection(t *testing.T) {
	none := func(string) bool { return false }
	for _, c := range []struct {
		number int
		extra  string
		drop   bool
		want   string
	}{
		{1, "", false, ""},
		{12, "", false, ""},
		{1, "m.room.member " + founder + ` @founder:a {"membership":"join","twice":1}`, false, "2.1"},
		{12, "m.room.topic " + founder + " - {}", false, "3.2"},
		{1, "m.room.message " + founder + " none {}", false, "2.2"},
		{1, "", true, "2.4"},
	} {
		w := newWorld(t, c.number, `{}`)
		e := w.read("m.room.message " + founder + " none {}")
		w.set(joined)
		w.set(c.extra)
		list := w.state
		if c.drop || w.version.CreateIsRoom {
			list = list[1:]
		}
		err := auth.CheckSelection(e, list, none)
		var r *auth.Rejection
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, &r) || r.Rule != c.want) {
			t.Errorf("version %d with %q: %v, not %s", c.number, c.extra, err, c.want)
		}
	}
	w := newWorld(t, 1, `{}`)
	e := w.read(joined)
	if err := auth.CheckSelection(e, w.state, func(id string) bool { return id == w.create.ID() }); err == nil || !strings.Contains(err.Error(), "rule 2.3") {
		t.Error(err)
	}
	elsewhere, err := event.Of(w.version, w.create.Value().With("room_id", canonical.Text("!other:a")))
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.CheckSelection(e, []*event.Event{elsewhere}, none); err == nil || !strings.Contains(err.Error(), "rule 2.5") {
		t.Error(err)
	}
}

// TestLevels: what counts where nothing is said, and how old rooms wrote levels.
func TestLevels(t *testing.T) {
	w := newWorld(t, 1, `{}`)
	l := auth.ReadLevels(w.version, w.create, nil)
	if l.User(founder) != 100 || l.User(member) != 0 || l.Event("x", true) != 0 || l.Event("x", false) != 0 || l.Ban() != 50 || l.Invite() != 0 {
		t.Error("without power levels")
	}
	l = auth.ReadLevels(w.version, w.create, w.read("m.room.power_levels "+founder+` - {"users":{"@a:a":"00100","@b:a":50.57,"@c:a":"x","@d:a":5.114698E4,"@e:a":" -3 "},"users_default":7}`))
	for user, want := range map[string]int64{"@a:a": 100, "@b:a": 50, "@c:a": 7, "@d:a": 51146, "@e:a": -3, founder: 7} {
		if got := l.User(user); got != want {
			t.Errorf("%s has %d, not %d", user, got, want)
		}
	}
	if l.Event("x", true) != 50 || l.Event("x", false) != 0 || l.Notification("room") != 50 {
		t.Error("with power levels")
	}
	w = newWorld(t, 12, `{"additional_creators":["@second:b"]}`)
	l = auth.ReadLevels(w.version, w.create, w.read("m.room.power_levels "+founder+` - {"users":{"@a:a":100}}`))
	if l.User(founder) != auth.Infinite || l.User("@second:b") != auth.Infinite || l.User("@a:a") != 100 || auth.Level(auth.Infinite) != "infinite" {
		t.Error("creators")
	}
}

package peer

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	gmsl "github.com/matrix-org/gomatrixserverlib"
	"github.com/matrix-org/gomatrixserverlib/spec"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/matrixtest"
	"orrery/matrix/resolve"
	"orrery/matrix/signature"
)

func user(_ spec.RoomID, sender spec.SenderID) (*spec.UserID, error) {
	return spec.NewUserID(string(sender), true)
}

func theirs(t *testing.T, e *event.Event) gmsl.PDU {
	t.Helper()
	p, err := gmsl.MustGetRoomVersion(gmsl.RoomVersion(e.Version().ID)).NewEventFromUntrustedJSON(e.JSON())
	if err != nil {
		t.Fatalf("%s: %v", e.JSON(), err)
	}
	return p
}

// each runs a test for every room version, with a room that has grown.
func each(t *testing.T, seeds uint64, f func(t *testing.T, r *matrixtest.Room)) {
	for _, version := range matrix.Versions {
		t.Run(version.ID, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				f(t, matrixtest.New(t, version, seed, 5))
			}
		})
	}
}

// TestEvents: ids, hashes, signatures and redactions are the same.
func TestEvents(t *testing.T) {
	each(t, 2, func(t *testing.T, r *matrixtest.Room) {
		r.Grow(100)
		rules := gmsl.MustGetRoomVersion(gmsl.RoomVersion(r.Version.ID))
		for _, e := range r.All {
			p := theirs(t, e)
			if p.EventID() != e.ID() || p.RoomID().String() != e.RoomID() || p.Redacted() != !e.HashFits() {
				t.Fatalf("%s in %s, redacted %t: %s", p.EventID(), p.RoomID(), p.Redacted(), e.JSON())
			}
			public, _ := matrixtest.Key.Private.Public().(ed25519.PublicKey)
			redacted, err := rules.RedactEventJSON(e.JSON())
			if err != nil {
				t.Fatal(err)
			}
			if err := gmsl.VerifyJSON(matrixtest.Server, gmsl.KeyID(matrixtest.Key.ID), public, redacted); err != nil {
				t.Error(err)
			}
			if d := cmp.Diff(string(gmsl.CanonicalJSONAssumeValid(redacted)), string(e.Redacted().JSON())); d != "" {
				t.Errorf("redacted %s: %s", e.JSON(), d)
			}
		}
	})
}

// known says why the peer decides otherwise than the specification, where it is known to.
func known(e *event.Event, state auth.State) string {
	target, _ := e.StateKey()
	if e.Membership() == matrix.Leave {
		is := state(matrix.Key{Type: matrix.TypeMember, StateKey: target})
		if is == nil || is.Membership() == matrix.Leave || is.Membership() == matrix.Ban {
			return "lets people leave who are not there, and bans be lifted by equals (rules 5.4.1 and 5.4.4 of version 1)"
		}
	}
	if e.Type() == matrix.TypePowerLevels {
		return "takes a level that is not set for its default, where it changes (rule 10.3 of version 1)"
	}
	return ""
}

// TestAllowed: the same events are allowed, and what they must name as auth events is the same.
func TestAllowed(t *testing.T) {
	each(t, 8, func(t *testing.T, r *matrixtest.Room) {
		r.Each(150, func(e *event.Event, state auth.State) {
			p := theirs(t, e)
			needed := gmsl.StateNeededForAuth([]gmsl.PDU{p})
			provider, _ := gmsl.NewAuthEvents(nil)
			keys := auth.Selection(e)
			for _, tuple := range needed.Tuples() {
				key := matrix.Key{Type: tuple.EventType, StateKey: tuple.StateKey}
				if !slices.Contains(keys, key) && (key.Type != matrix.TypeCreate || !r.Version.CreateIsRoom) {
					t.Errorf("%s needs %v", e.JSON(), key)
				}
				if s := state(key); s != nil {
					_ = provider.AddEvent(theirs(t, s))
				}
			}
			ours, their := auth.Check(e, state), gmsl.Allowed(p, provider, user)
			if (ours == nil) != (their == nil) && known(e, state) == "" {
				t.Errorf("%s\nours: %v\ntheirs: %v", e.JSON(), ours, their)
			}
			if ours != nil && !errors.Is(ours, matrix.ErrForbidden) {
				t.Error(ours)
			}
		})
	})
}

// TestResolve: the same states come out in room version 1. The peer's later algorithms cannot be compared: they test an event against itself where the
// state lacks one of its auth events, and leave out parts of the auth difference. Those are compared with the clauses in package resolve.
func TestResolve(t *testing.T) {
	version := matrix.Versions[0]
	for seed := range uint64(60) {
		r := matrixtest.New(t, version, seed, 5)
		all := map[string]gmsl.PDU{}
		for range 12 {
			r.Grow(8)
			for _, e := range r.All {
				if all[e.ID()] == nil {
					all[e.ID()] = theirs(t, e)
				}
			}
			states := r.States(2 + rand.IntN(2))
			got, err := resolve.Resolve(r.Version, states, r)
			if err != nil {
				t.Fatal(err)
			}
			want := resolveTheirs(t, r, states, all)
			for key := range got { // see known
				if key.Type == matrix.TypeMember && slices.ContainsFunc(states, func(s resolve.State) bool {
					e := r.Event(s[key])
					return e != nil && e.Membership() == matrix.Leave
				}) {
					delete(got, key)
					delete(want, key)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d, %d events: %s", seed, len(r.All), d)
			}
		}
	}
}

func resolveTheirs(t *testing.T, r *matrixtest.Room, states []resolve.State, all map[string]gmsl.PDU) resolve.State {
	t.Helper()
	var sets [][]gmsl.PDU
	ids := map[matrix.Key]map[string]bool{}
	for _, s := range states {
		var set []gmsl.PDU
		for key, id := range s {
			set = append(set, all[id])
			if ids[key] == nil {
				ids[key] = map[string]bool{}
			}
			ids[key][id] = true
		}
		sets = append(sets, set)
	}
	var agreed []gmsl.PDU
	for _, e := range r.All {
		if of := ids[e.Key()]; len(of) == 1 && of[e.ID()] {
			agreed = append(agreed, all[e.ID()])
		}
	}
	out, err := gmsl.ResolveConflictsNew(gmsl.RoomVersion(r.Version.ID), sets, agreed, user, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	state := resolve.State{}
	for _, p := range out {
		state[matrix.Key{Type: p.Type(), StateKey: *p.StateKey()}] = p.EventID()
	}
	return state
}

// TestCanonical: JSON by chance has the same canonical form.
func TestCanonical(t *testing.T) {
	source := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		text := randomJSON(source, 4)
		ours, err := canonical.Parse([]byte(text), canonical.Strict)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		their, err := gmsl.CanonicalJSON([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if string(ours.JSON()) != string(their) {
			t.Fatalf("%s: ours %s, theirs %s", text, ours.JSON(), their)
		}
	}
}

func randomJSON(r *rand.Rand, depth int) string {
	texts := []string{`"a"`, `"é\u00e9"`, `"\n\\\""`, `"\ud83d\ude00"`, `"\u0001/"`, `""`, `"日本"`, `"a\u0000b"`}
	switch n := r.IntN(8); {
	case n < 2 && depth > 0:
		s, seen := "{ ", map[string]bool{}
		for range r.IntN(5) {
			name := fmt.Sprintf(`"%c%d"`, "aAé日z"[0]+byte(r.IntN(26)), r.IntN(50))
			if seen[name] {
				continue
			}
			if seen[name] = true; len(seen) > 1 {
				s += ", "
			}
			s += name + " :" + randomJSON(r, depth-1)
		}
		return s + "}"
	case n < 4 && depth > 0:
		s := "["
		for i := range r.IntN(4) {
			if i > 0 {
				s += " ,"
			}
			s += randomJSON(r, depth-1)
		}
		return s + "]"
	case n < 6:
		return texts[r.IntN(len(texts))]
	case n == 6:
		return fmt.Sprint(r.Int64N(1<<54) - 1<<53 + 1)
	}
	return []string{"true", "false", "null"}[r.IntN(3)]
}

// TestSigned: what one signs the other accepts.
func TestSigned(t *testing.T) {
	public, _ := matrixtest.Key.Private.Public().(ed25519.PublicKey)
	text := []byte(`{"a":[1,{"b":null}],"unsigned":{"x":1}}`)
	their, err := gmsl.SignJSON("s", gmsl.KeyID(matrixtest.Key.ID), matrixtest.Key.Private, text)
	if err != nil {
		t.Fatal(err)
	}
	v, err := canonical.Parse(their, canonical.Strict)
	if err != nil {
		t.Fatal(err)
	}
	if err := signature.Check(v, "s", func(string, string) (ed25519.PublicKey, bool) { return public, true }); err != nil {
		t.Error(err)
	}
	ours := signature.Sign(v.Without("signatures"), "s", matrixtest.Key)
	if err := gmsl.VerifyJSON("s", gmsl.KeyID(matrixtest.Key.ID), public, ours.JSON()); err != nil {
		t.Error(err)
	}
}

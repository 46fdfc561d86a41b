package sync_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/sync"
)

// told is an event as a client gets it.
type told struct {
	ID     string `json:"event_id"`
	Type   string
	Sender string
	Key    *string `json:"state_key"`
}

func read(t *testing.T, all []json.RawMessage) (found []told) {
	t.Helper()
	for _, text := range all {
		var e told
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		found = append(found, e)
	}
	return found
}

// guest is a device that loads members lazily, and what it knew of members when it got each of its tokens: event ids by room and user.
type guest struct {
	who, id string
	filter  *sync.Filter
	after   sync.After
	tokens  []int64
	knew    []map[string]map[string]string
}

// ask asks from one of the last tokens, or anew, and sees to it that whoever sent something is known.
func (h *history) ask(t *testing.T, g *guest) error {
	t.Helper()
	q := &sync.Request{User: g.who, Device: g.id, Initial: true, Filter: g.filter, After: g.after}
	known := map[string]map[string]string{}
	if n := len(g.tokens); n > 0 && h.IntN(20) > 0 {
		from := n - 1
		if h.IntN(3) == 0 { // the last answer was lost
			from = max(0, n-1-h.IntN(3))
		}
		q.Initial, q.Since = false, g.tokens[from]
		for id, members := range g.knew[from] {
			known[id] = maps.Clone(members)
		}
	}
	resp, err := h.syncer.Do(t.Context(), q)
	if err != nil {
		return err
	}
	next, err := h.syncer.ReadSince(resp.NextBatch)
	if err != nil {
		return err
	}
	if g.tokens = append(g.tokens, next); resp.Rooms == nil {
		g.knew = append(g.knew, known)
		return nil
	}
	for id := range resp.Rooms.Leave {
		delete(known, id)
	}
	for id, joined := range resp.Rooms.Join {
		if known[id] == nil {
			known[id] = map[string]string{}
		}
		if err := h.hear(t, g, id, joined, known[id]); err != nil {
			return fmt.Errorf("%s since %d: %w", g.who, q.Since, err)
		}
	}
	g.knew = append(g.knew, known)
	return nil
}

func (h *history) hear(t *testing.T, g *guest, id string, joined *sync.JoinedRoom, known map[string]string) error {
	t.Helper()
	r, err := h.rooms.Find(t.Context(), id)
	if err != nil {
		return err
	}
	state := joined.State
	if g.after == sync.StateAfter {
		state = joined.After
	}
	for _, e := range read(t, state.Events) {
		if e.Type == matrix.TypeMember {
			known[*e.Key] = e.ID
		}
	}
	for _, e := range read(t, joined.Timeline.Events) {
		if g.after != sync.StateAfter && e.Type == matrix.TypeMember {
			known[*e.Key] = e.ID
		}
		entry, err := r.Event(t.Context(), e.ID)
		if err != nil {
			return err
		}
		is, err := r.After(t.Context(), entry, matrix.Key{Type: matrix.TypeMember, StateKey: e.Sender})
		if err != nil {
			return err
		}
		if is == nil || e.Sender == g.who {
			continue
		}
		exact := g.after != sync.StateAfter && g.filter.Room.Timeline.Types == nil // otherwise it may be a later one
		if now := known[e.Sender]; now == "" || exact && now != is.ID() {
			return fmt.Errorf("%s of %s in %s is told, whose member event is known as %q, not %s", e.ID, e.Sender, id, now, is.ID())
		}
	}
	return nil
}

// TestLazyMembers: whatever happens, whichever answers are lost and whenever the server starts again, a client that loads members lazily knows who sent what it is told.
func TestLazyMembers(t *testing.T) {
	for seed := range seeds() {
		h := &history{house: newHouse(t), Rand: rand.New(rand.NewPCG(uint64(seed), 9)), tokens: map[string][]int64{}}
		h.devices()
		for range 3 {
			h.ids = append(h.ids, h.create(pick(h, people)).ID())
		}
		var all []*guest
		for i, who := range people {
			g := &guest{who: who, id: devices[0], filter: &sync.Filter{}, after: []sync.After{sync.StateBefore, sync.StateAfter}[i%2]}
			g.filter.Room.State.LazyLoadMembers = true
			g.filter.Room.Timeline.Limit = new(1 + 2*i)
			if i == 2 {
				g.filter.Room.Timeline.Types = []string{"m.room.message"}
			}
			all = append(all, g)
		}
		for step := range 200 {
			for range 1 + h.IntN(3) {
				who, id := pick(h, people), pick(h, h.ids)
				switch h.IntN(8) {
				case 0:
					h.send(id, member(who, pick(h, []string{matrix.Join, matrix.Join, matrix.Leave})))
				case 1:
					d := member(who, matrix.Join)
					d.Content = d.Content.With("displayname", object("x", fmt.Sprint(step)).Get("x"))
					h.send(id, d)
				case 2:
					if h.IntN(10) == 0 {
						h.start()
					}
				default:
					h.send(id, room.Draft{Type: "m.room.message", Sender: who, Content: object("body", "words")})
				}
			}
			if err := h.ask(t, pick(h, all)); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
	}
}

// TestIntroducedOnce: the member event of who sends something is told once; again if the answer is lost, if it is changed, if the user comes again, and if the client wants
// what is redundant.
func TestIntroducedOnce(t *testing.T) {
	h := newHouse(t)
	anne, bob := people[0], people[1]
	r := h.create(anne)
	h.send(r.ID(), member(bob, matrix.Join))
	lazy, redundant := &sync.Filter{}, &sync.Filter{}
	lazy.Room.State.LazyLoadMembers, lazy.Room.Timeline.Limit = true, new(1)
	*redundant = *lazy
	redundant.Room.State.IncludeRedundantMembers = true
	q := &sync.Request{User: anne, Device: devices[0], Initial: true, Filter: lazy}
	say := func() {
		h.send(r.ID(), room.Draft{Type: "m.room.message", Sender: bob, Content: object("body", "words")})
	}
	ask := func(what string, want int) (next int64) {
		t.Helper()
		resp, err := h.syncer.Do(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		members := 0
		for _, e := range read(t, resp.Rooms.Join[r.ID()].State.Events) {
			if e.Type == matrix.TypeMember && *e.Key == bob {
				members++
			}
		}
		if members != want {
			t.Errorf("%s: bob is introduced %d times, not %d", what, members, want)
		}
		q.Initial = false
		next, _ = h.syncer.ReadSince(resp.NextBatch)
		return next
	}
	h.send(r.ID(), room.Draft{Type: "m.room.message", Sender: anne, Content: object("body", "words")})
	q.Since = ask("at first", 0)
	say()
	ask("who speaks", 1)
	q.Since = ask("the answer was lost", 1)
	say()
	ask("who speaks again", 0)
	q.Since = ask("and that answer was lost", 0)
	q.Filter = redundant
	say()
	ask("what is redundant", 1)
	q.Filter = lazy
	q.Since = ask("again not", 0)
	renamed := member(bob, matrix.Join)
	renamed.Content = renamed.Content.With("displayname", object("x", "bob").Get("x"))
	h.send(r.ID(), renamed)
	say()
	q.Since = ask("whose name is another one", 1)
	h.send(r.ID(), member(anne, matrix.Leave))
	h.send(r.ID(), member(anne, matrix.Join))
	q.Since = ask("who comes again", 0)
	say()
	q.Since = ask("and has forgotten all", 1)
	say()
	first := q.Since
	q.Since = ask("then no more", 0)
	say()
	q.Since = ask("no more", 0)
	q.Since = first
	q.Since = ask("from a token of long ago", 1)
	h.start()
	say()
	ask("the server was started again", 1)
}

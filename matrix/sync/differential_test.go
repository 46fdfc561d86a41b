package sync_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/sync/window"
	"orrery/matrix/table"
)

var (
	people  = []string{"@anne:a.test", "@bob:a.test", "@cora:a.test", "@dan:a.test"}
	devices = []string{"ONE", "TWO"}
)

// history is what happens by chance, and what clients were told of it.
type history struct {
	*house
	*rand.Rand

	ids    []string // of rooms
	events []*room.Entry
	keys   int
	tokens map[string][]int64 // of each user's devices, newest last
	doubt  bool               // something may be committed that nobody knows of
}

func pick[T any](h *history, of []T) T { return of[h.IntN(len(of))] }

// device makes sure that messages find the devices.
func (h *history) devices() {
	if err := h.db.Update(h.t.Context(), func(tx table.Tx) error {
		for _, who := range people {
			for _, d := range devices {
				if err := store.Devices.Put(tx, store.Device{User: who, ID: d}); err != nil {
					return err
				}
			}
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
}

// happen lets something happen.
func (h *history) happen() {
	ctx, who, id := h.t.Context(), pick(h, people), pick(h, h.ids)
	what := h.IntN(24)
	h.lossy.lose = ""
	if h.IntN(30) == 0 {
		h.doubt = true
		if h.lossy.lose = pick(h, []string{"after", "before", "late"}); what < 13 && h.lossy.lose == "late" {
			h.lossy.lose = "after" // a room reads itself again at once
		}
	}
	switch what {
	case 0, 1, 2, 3, 4:
		h.sent(id, room.Draft{Type: "m.room.message", Sender: who, Content: object("body", fmt.Sprint("words ", h.IntN(100))), TxnID: pick(h, devices) + " t"})
	case 5:
		h.sent(id, member(who, pick(h, []string{matrix.Join, matrix.Join, matrix.Leave})))
	case 6:
		d := member(pick(h, people), pick(h, []string{matrix.Invite, matrix.Invite, matrix.Leave, matrix.Ban}))
		d.Sender = who
		h.sent(id, d)
	case 7:
		h.sent(id, state(who, pick(h, []string{"m.room.name", "m.room.topic"}), object("name", fmt.Sprint(h.IntN(9)))))
	case 8:
		h.sent(id, state(who, matrix.TypeHistoryVisibility, object("history_visibility", pick(h, []string{"shared", "joined", "invited", "world_readable"}))))
	case 9:
		if len(h.events) > 0 {
			what := pick(h, h.events)
			h.sent(what.RoomID(), room.Draft{Type: matrix.TypeRedaction, Sender: who, Content: object("redacts", what.ID()), Redacts: what.ID()})
		}
	case 10:
		if len(h.events) > 0 {
			what := pick(h, h.events)
			relates := object("rel_type", pick(h, []string{room.Thread, room.Refer, "m.annotation"}), "event_id", what.ID())
			h.sent(what.RoomID(), room.Draft{Type: "m.room.message", Sender: who, Content: object("body", "more", "m.relates_to", relates)})
		}
	case 11, 12:
		h.receive(who, id)
	case 13:
		h.data(who, pick(h, append(h.ids, "")), pick(h, []string{"m.tag", "own.one", sync.Direct}), fmt.Sprintf(`{"n":%d,"%s":["%s"]}`, h.IntN(9), pick(h, people), id))
	case 14:
		h.data(who, "", sync.Ignored, fmt.Sprintf(`{"ignored_users":{"%s":{}}}`, pick(h, people)))
	case 15:
		h.data(who, "", sync.Invites, fmt.Sprintf(`{"default_action":"%s"}`, pick(h, []string{"block", "allow"})))
	case 16:
		h.data(who, "", sync.PushRules, fmt.Sprintf(`{"global":{"sender":[{"rule_id":"%s","enabled":true,"default":false,"actions":[%s]}]}}`, pick(h, people), pick(h, []string{"", `"notify"`})))
	case 17, 18:
		_ = h.house.keys.Send(ctx, who, "own.message", object(pick(h, people), object(pick(h, append(devices, "*")), object("n", fmt.Sprint(h.IntN(99))))))
	case 19:
		h.upload(who, pick(h, devices))
	case 20:
		_, _, _ = h.house.keys.Claim(ctx, who, pick(h, devices), "signed")
	case 21:
		_ = h.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
			position, err := advance(1)
			if err != nil {
				return err
			}
			return store.SignedUsers.Put(tx, store.SignedUser{Signer: who, User: pick(h, people), Position: position})
		}, nil)
	case 22:
		_ = h.db.Update(ctx, func(tx table.Tx) error {
			return store.Filters.Put(tx, store.Filter{User: who, ID: int64(1 + h.IntN(2)), JSON: fmt.Appendf(nil, `{"room":{"timeline":{"limit":%d}}}`, 1+h.IntN(9))})
		})
	case 23:
		if h.IntN(8) == 0 {
			h.start()
		}
	}
}

func (h *history) sent(id string, d room.Draft) {
	if e := h.send(id, d); e != nil {
		h.events = append(h.events, e)
	}
}

func (h *history) receive(who, id string) {
	of := slices.DeleteFunc(slices.Clone(h.events), func(e *room.Entry) bool { return e.RoomID() != id })
	r, err := h.rooms.Find(h.t.Context(), id)
	if err != nil || len(of) == 0 {
		return
	}
	e := of[len(of)-1-h.IntN(min(len(of), 4))]
	_ = h.syncer.Receive(h.t.Context(), r, store.Receipt{User: who, Type: pick(h, []string{sync.Read, sync.ReadPrivate}), Thread: pick(h, []string{"", "", "main", "$thread"}), EventID: e.ID(), Order: e.Order, Time: 1})
}

func (h *history) upload(who, id string) {
	h.keys++
	own := canonical.Value{}
	if h.IntN(2) == 0 || h.tokens == nil {
		own = object("user_id", who, "device_id", id, "n", fmt.Sprint(h.keys), "algorithms", canonical.List(), "keys", object(), "signatures", object())
	}
	name := fmt.Sprint("signed:", h.keys)
	_ = h.house.keys.Upload(h.t.Context(), who, id, own, object(name, "key"), object(name, "key"))
}

// request is one that a client may make, from a position that it was told some time.
func (h *history) request(who, id string) *sync.Request {
	q := &sync.Request{User: who, Device: id, Initial: true, Filter: &sync.Filter{}}
	if told := h.tokens[who+id]; len(told) > 0 && h.IntN(12) > 0 {
		q.Initial, q.Since = false, told[max(0, len(told)-1-h.IntN(3))]
		if h.IntN(4) > 0 {
			q.Since = told[len(told)-1]
		}
		q.FullState = h.IntN(12) == 0
	}
	q.Filter.Room.Timeline.Limit = pick(h, []*int{nil, new(0), new(1), new(3), new(50)})
	q.Filter.Room.Timeline.CountThreads = h.IntN(2) == 0
	q.Filter.Room.Timeline.Types = pick(h, [][]string{nil, nil, nil, {"m.room.message"}, {"m.room.n*", matrix.TypeMember}, {}})
	q.Filter.Room.Timeline.NotSenders = pick(h, [][]string{nil, nil, nil, {pick(h, people)}})
	q.After = pick(h, []sync.After{sync.StateBefore, sync.StateAfter})
	q.Filter.Room.State.LazyLoadMembers, q.Filter.Room.State.IncludeRedundantMembers = h.IntN(2) == 0, true // what a device was told is in memory alone
	q.Filter.Room.IncludeLeave = h.IntN(2) == 0
	return q
}

// compare compares an answer with one of which nothing was in memory.
func (h *history) compare(seed, step int) {
	h.t.Helper()
	ctx, who, id := h.t.Context(), pick(h, people), pick(h, devices)
	q := h.request(who, id)
	if h.doubt { // the store may have more than is told
		if _, err := h.syncer.Do(ctx, q); err != nil {
			h.t.Fatal(err)
		}
		if h.IntN(2) == 0 {
			return
		}
		h.pass()
	}
	bare := h.fresh()
	got, err := h.syncer.Do(ctx, q)
	if err != nil {
		h.t.Fatal(err)
	}
	want, err := bare.Do(ctx, q)
	if err != nil {
		h.t.Fatal(err)
	}
	if d := diff.Diff(normal(want.AppendJSON(nil)), normal(got.AppendJSON(nil))); d != "" {
		h.t.Fatalf("seed %d, step %d: %+v is answered otherwise than without memory:\n%s", seed, step, *q, d)
	}
	next, _ := h.syncer.ReadSince(got.NextBatch)
	h.tokens[who+id] = append(h.tokens[who+id], next)
	h.compareSliding(seed, step, bare, who, id)
	for number := range int64(3) {
		got, _ := h.syncer.Filter(ctx, who, number)
		want, _ := bare.Filter(ctx, who, number)
		if d := diff.Diff(want, got); d != "" {
			h.t.Fatalf("seed %d, step %d: a filter is another one:\n%s", seed, step, d)
		}
	}
}

// pass lets the stream pass whatever may be committed, so that there is no doubt any more.
func (h *history) pass() {
	h.t.Helper()
	for range 3 {
		if err := h.stream.Update(h.t.Context(), func(_ table.Tx, advance func(int) (int64, error)) error {
			_, err := advance(3)
			return err
		}, nil); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, id := range h.ids {
		if _, err := h.rooms.Find(h.t.Context(), id); err != nil {
			h.t.Fatal(err)
		}
	}
	h.doubt = false
}

func (h *history) compareSliding(seed, step int, bare *sync.Syncer, who, id string) {
	h.t.Helper()
	all := &sync.Scope{}
	q := sync.SlidingRequest{
		User: who, Device: id, Unread: true, Extensions: sync.Extensions{ToDevice: &sync.ToDeviceAsked{Limit: 2}, Encryption: true, AccountData: all, Receipts: all},
		Rooms: window.Request{Lists: map[string]window.List{"all": {Ranges: [][2]int{{0, 9}}, Config: window.Config{Timeline: 3, Required: []window.Required{{Include: []window.Element{{}}}}}}}},
	}
	var texts [2]any
	for i, s := range []*sync.Syncer{bare, h.syncer} {
		answer, err := s.Sliding(h.t.Context(), q)
		if err != nil {
			h.t.Fatal(err)
		}
		answer.Pos = ""
		text, err := json.Marshal(answer)
		if err != nil {
			h.t.Fatal(err)
		}
		texts[i] = normal(text)
	}
	if d := diff.Diff(texts[0], texts[1]); d != "" {
		h.t.Fatalf("seed %d, step %d: sliding sync of %s: is answered otherwise than without memory:\n%s", seed, step, who, d)
	}
}

// normal is JSON in which what has no order has one.
func normal(text []byte) any {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err.Error() + ": " + string(text)
	}
	return sorted("", v)
}

func sorted(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "age") // of an event, which grows
		for name, x := range v {
			if name == "state" || name == "state_after" { // a map of the room, of which no order is told
				if of, ok := x.(map[string]any); ok {
					all, _ := of["events"].([]any)
					slices.SortFunc(all, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
				}
			}
			v[name] = sorted(name, x)
		}
	case []any:
		for i := range v {
			v[i] = sorted(name, v[i])
		}
		if strings.HasPrefix(name, "device_unused") {
			slices.SortFunc(v, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	}
	return v
}

// seeds is how many histories there are: a few, or with ORRERY_TEST_FULL=1 many.
func seeds() int {
	if os.Getenv("ORRERY_TEST_FULL") == "1" {
		return 30
	}
	return 3
}

// TestMemory: whatever happens, also where it is not known whether something was committed and where the server was started again, answers are those that are made
// of the store alone.
func TestMemory(t *testing.T) {
	for seed := range seeds() {
		h := &history{house: newHouse(t), Rand: rand.New(rand.NewPCG(uint64(seed), 7)), tokens: map[string][]int64{}}
		h.devices()
		for range 3 {
			h.ids = append(h.ids, h.create(pick(h, people)).ID())
		}
		for step := range 150 {
			for range 1 + h.IntN(3) {
				h.happen()
			}
			h.lossy.lose = ""
			h.compare(seed, step)
		}
	}
}

// TestDoubt: where it is not known whether something was committed, nothing counts that was in memory before, also if the stream has gone on already.
func TestDoubt(t *testing.T) {
	h := &history{house: newHouse(t), Rand: rand.New(rand.NewPCG(1, 7))}
	h.devices()
	r := h.create(people[0])
	h.send(r.ID(), member(people[1], matrix.Join))
	q := &sync.Request{User: people[0], Device: devices[0], Initial: true, Filter: &sync.Filter{}}
	tell := func() *sync.Response {
		resp, err := h.syncer.Do(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	h.data(people[0], "", "own", `{}`)
	first := tell()
	q.Since, _ = h.syncer.ReadSince(first.NextBatch)
	q.Initial = false
	tell()
	later := make(chan error)
	for what, do := range map[string]func(){
		"a list of devices": func() { h.upload(people[1], devices[0]) },
		"account data":      func() { h.data(people[0], "", "own", `{}`) },
		"a message":         func() { _ = h.house.keys.Send(t.Context(), people[1], "own", object(people[0], object("*", object()))) },
	} {
		q.Since = h.stream.Current()
		tell()
		h.lossy.lose = "after"
		h.lossy.lost = func() {
			given := h.stream.Given()
			go func() {
				later <- h.stream.Update(t.Context(), func(_ table.Tx, advance func(int) (int64, error)) error {
					_, err := advance(1)
					return err
				}, nil)
			}()
			for h.stream.Given() == given {
				runtime.Gosched()
			}
		}
		do()
		if h.lossy.lost = nil; h.lossy.lose != "" {
			t.Fatalf("%s is not written", what)
		}
		if err := <-later; err != nil {
			t.Fatal(err)
		}
		if resp := tell(); resp.DeviceLists == nil && resp.AccountData == nil && resp.ToDevice == nil {
			t.Errorf("%s is not told", what)
		}
		h.pass()
	}
	h.upload(people[0], devices[0])
	counts := tell().KeyCounts["signed"]
	h.lossy.lose = "after"
	h.upload(people[0], devices[0])
	if now := tell().KeyCounts["signed"]; now != counts+1 {
		t.Errorf("the device is told of %d keys after %d and one more", now, counts)
	}
}

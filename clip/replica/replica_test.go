package replica_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orrery/clip"
	"orrery/clip/replica"
)

var epoch = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// machine is a replica with a clock of its own, which may be wrong.
type machine struct {
	*replica.State
	skew time.Duration
}

func (m *machine) change(k replica.Key, now time.Time, change func(*replica.Entry, replica.Stamp)) {
	e, _ := m.Get(k)
	e.Kind, e.Size = clip.Text, 1
	change(&e, m.Next(now.Add(m.skew)))
	m.Put(k, &e)
}

// beyond is what another machine lacks.
func (m *machine) beyond(v replica.Vector) (changes []replica.Change) {
	keys := m.Keys()
	slices.SortFunc(keys, func(a, b replica.Key) int { return slices.Compare(a[:], b[:]) })
	for _, k := range keys {
		e, _ := m.Get(k)
		if d, ok := e.Beyond(v); ok {
			changes = append(changes, replica.Change{Key: k, Entry: d})
		}
	}
	return changes
}

func (m *machine) take(t *rapid.T, changes []replica.Change) {
	for _, c := range changes {
		sent, err := replica.Decode(c.Entry.Append(nil)) // as on the wire
		if err != nil {
			t.Fatal(err)
		}
		e, _ := m.Get(c.Key)
		if e.Merge(&sent) {
			m.Put(c.Key, &e)
		}
	}
}

// view is what people see of a machine's history.
func (m *machine) view() map[replica.Key]string {
	all := map[replica.Key]string{}
	m.All(func(k replica.Key, e *replica.Entry) {
		if e.Live() {
			all[k] = fmt.Sprint(e.Mark(), e.Count(), e.Used())
		}
	})
	return all
}

// TestConverges: machines that change, meet in any order, lose the ends of what they tell each other, and hear things twice, agree once each
// has heard all; by any path, and with wrong clocks.
func TestConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := epoch
		machines := make([]*machine, rapid.IntRange(2, 4).Draw(t, "machines"))
		for i := range machines {
			skew := rapid.SampledFrom([]time.Duration{0, 0, time.Second, -300 * 24 * time.Hour, 20 * 365 * 24 * time.Hour}).Draw(t, "skew")
			machines[i] = &machine{replica.NewState(replica.Device{byte(i + 1)}), skew}
		}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			m := rapid.SampledFrom(machines).Draw(t, "machine")
			k := replica.Key{byte(rapid.IntRange(0, 4).Draw(t, "key"))}
			held, _ := m.Get(k)
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
			case what < 3:
				m.change(k, now, func(e *replica.Entry, s replica.Stamp) { e.Use(s, now.UnixMilli(), 1) })
			case what < 5 && held.Live():
				mark := clip.Mark{
					Pinned: rapid.Bool().Draw(t, "pinned"), Note: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "note"),
					Tags: rapid.SampledFrom([][]string{nil, {"x"}, {"x", "y"}, {"z"}}).Draw(t, "tags"),
				}
				m.change(k, now, func(e *replica.Entry, s replica.Stamp) { e.SetMark(s, mark) })
				if e, _ := m.Get(k); !reflect.DeepEqual(e.Mark(), mark) {
					t.Fatalf("%+v, not %+v", e.Mark(), mark)
				}
			case what < 6 && held.Live():
				m.change(k, now, func(e *replica.Entry, s replica.Stamp) { e.Delete(s) })
			default:
				meet(t, m, rapid.SampledFrom(machines).Draw(t, "other"))
			}
		}
		// At last everybody hears all: along a line, there and back.
		for i := 1; i < len(machines); i++ {
			exchange(t, machines[i-1], machines[i])
		}
		for i := len(machines) - 1; i > 0; i-- {
			exchange(t, machines[i], machines[i-1])
		}
		for _, m := range machines[1:] {
			if got, want := m.view(), machines[0].view(); !maps.Equal(got, want) {
				t.Fatalf("%v\nand %v", got, want)
			}
			if !maps.Equal(m.Seen(), machines[0].Seen()) {
				t.Fatalf("heard %v and %v", m.Seen(), machines[0].Seen())
			}
		}
	})
}

// meet tells one machine what it lacks; the end may be lost, some comes twice and in another order.
func meet(t *rapid.T, from, to *machine) {
	seen, changes := from.Seen(), from.beyond(to.Seen())
	changes = rapid.Permutation(changes).Draw(t, "order")
	if n := rapid.IntRange(0, 2*len(changes)+1).Draw(t, "cut"); n < len(changes) {
		to.take(t, changes[:n])
		return
	}
	to.take(t, changes)
	if rapid.Bool().Draw(t, "twice") {
		to.take(t, changes)
	}
	to.Heard(seen)
}

func exchange(t *rapid.T, a, b *machine) {
	for _, m := range [][2]*machine{{a, b}, {b, a}} {
		seen := m[0].Seen()
		m[1].take(t, m[0].beyond(m[1].Seen()))
		m[1].Heard(seen)
	}
}

type pair struct{ a, b *machine }

func newPair() pair {
	return pair{&machine{replica.NewState(replica.Device{1}), 0}, &machine{replica.NewState(replica.Device{2}), 0}}
}

func (p pair) sync(t *testing.T) {
	t.Helper()
	for _, m := range [][2]*machine{{p.a, p.b}, {p.b, p.a}} {
		seen := m[0].Seen()
		for _, c := range m[0].beyond(m[1].Seen()) {
			e, _ := m[1].Get(c.Key)
			if e.Merge(&c.Entry) {
				m[1].Put(c.Key, &e)
			}
		}
		m[1].Heard(seen)
	}
}

func use(e *replica.Entry, s replica.Stamp) { e.Use(s, int64(s.At>>16), 1) }

// TestDeleted: what was deleted while a machine was away is deleted there, with all that was said of it before; a pin or a copy afterwards keeps it.
func TestDeleted(t *testing.T) {
	t.Parallel()
	k := replica.Key{9}
	for name, c := range map[string]struct {
		away func(p pair, later time.Time)
		live bool
		mark clip.Mark
	}{
		"nothing": {func(pair, time.Time) {}, false, clip.Mark{}},
		"noted before": {func(p pair, later time.Time) {
			p.b.change(k, later.Add(-time.Hour), func(e *replica.Entry, s replica.Stamp) { e.SetMark(s, clip.Mark{Note: "n"}) })
		}, false, clip.Mark{}},
		"noted after": {func(p pair, later time.Time) {
			p.b.change(k, later.Add(time.Hour), func(e *replica.Entry, s replica.Stamp) { e.SetMark(s, clip.Mark{Note: "n"}) })
		}, false, clip.Mark{}},
		"pinned after": {func(p pair, later time.Time) {
			p.b.change(k, later.Add(time.Hour), func(e *replica.Entry, s replica.Stamp) { e.SetMark(s, clip.Mark{Pinned: true}) })
		}, true, clip.Mark{Pinned: true}},
		"copied after": {func(p pair, later time.Time) { p.b.change(k, later.Add(time.Hour), use) }, true, clip.Mark{}},
	} {
		p := newPair()
		p.a.change(k, epoch, use)
		p.a.change(k, epoch, func(e *replica.Entry, s replica.Stamp) { e.SetMark(s, clip.Mark{Tags: []string{"t"}}) })
		p.sync(t)
		later := epoch.Add(20 * 24 * time.Hour)
		p.a.change(k, later, func(e *replica.Entry, s replica.Stamp) { e.Delete(s) })
		c.away(p, later)
		p.sync(t)
		for _, m := range []*machine{p.a, p.b} {
			e, ok := m.Get(k)
			if !ok || e.Live() != c.live || c.live && !reflect.DeepEqual(e.Mark(), c.mark) {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

// TestForgotten: what was over one machine's limits does not come again, and stays elsewhere; so do deletions that were too long ago.
func TestForgotten(t *testing.T) {
	t.Parallel()
	p := newPair()
	for i := range 10 {
		p.a.change(replica.Key{byte(i)}, epoch.Add(time.Duration(i)*time.Hour), use)
	}
	p.sync(t)
	p.b.Forget(replica.Key{3})
	for i := range 5 {
		p.a.change(replica.Key{byte(i)}, epoch.Add(time.Duration(100+i)*time.Hour), func(e *replica.Entry, s replica.Stamp) { e.Delete(s) })
	}
	if old := p.a.Old(epoch.Add(103*time.Hour), 2); len(old) != 3 {
		t.Errorf("%v", old)
	}
	if old := p.a.Old(epoch.Add(103*time.Hour), 1); len(old) != 4 {
		t.Errorf("%v", old)
	}
	if old := p.a.Old(epoch, 5); len(old) != 0 {
		t.Errorf("%v", old)
	}
	p.b.Forget(replica.Key{7})
	p.sync(t)
	if _, ok := p.b.Get(replica.Key{7}); ok || len(p.b.view()) != 4 || len(p.a.view()) != 5 {
		t.Errorf("%v and %v", p.a.view(), p.b.view())
	}
}

// TestClockGoesBack: a machine whose clock goes back has changes that count as later all the same, also after it heard of a clock that is ahead.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	p := newPair()
	k := replica.Key{1}
	p.b.skew = 10 * 365 * 24 * time.Hour
	p.b.change(k, epoch, use)
	p.sync(t)
	for i, note := range []string{"one", "two"} {
		p.a.change(k, epoch.Add(-time.Duration(i)*time.Hour), func(e *replica.Entry, s replica.Stamp) { e.SetMark(s, clip.Mark{Note: note}) })
	}
	p.sync(t)
	if e, _ := p.b.Get(k); e.Note.Text != "two" || e.Count() != 1 {
		t.Errorf("%+v", e)
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	p := newPair()
	from := p.a.Changes()
	for i := range 3 {
		p.a.change(replica.Key{byte(i % 2)}, epoch, use)
	}
	if keys, ok := p.a.Since(from); !ok || len(keys) != 2 {
		t.Errorf("%v, %t", keys, ok)
	}
	for range 2000 {
		p.a.change(replica.Key{1}, epoch, use)
	}
	if _, ok := p.a.Since(from); ok {
		t.Error("it remembers too much")
	}
}

func TestVector(t *testing.T) {
	t.Parallel()
	v := replica.Vector{{1}: 5, {2}: 7}
	got, err := replica.DecodeVector(v.Append(nil))
	if err != nil || !maps.Equal(got, v) || !got.CoversAll(v) {
		t.Errorf("%v, %v", got, err)
	}
	got[replica.Device{1}] = 4
	if got.CoversAll(v) || !v.CoversAll(got) || got.Covers(replica.Stamp{At: 5, By: replica.Device{1}}) {
		t.Error("4 covers 5")
	}
}

// FuzzDecode: garbage is refused; what is taken is encoded as it was, and can be merged.
func FuzzDecode(f *testing.F) {
	e := replica.Entry{Kind: clip.Text, Size: 3}
	e.Use(replica.Stamp{At: 1 << 40, By: replica.Device{1}}, 77, 1)
	e.SetMark(replica.Stamp{At: 2 << 40, By: replica.Device{2}}, clip.Mark{Pinned: true, Note: "n", Tags: []string{"a", "b"}, Expires: epoch})
	f.Add(e.Append(nil))
	e.Delete(replica.Stamp{At: 3 << 40, By: replica.Device{2}})
	f.Add(e.Append(nil))
	f.Add(replica.Vector{{1}: 5}.Append(nil))
	f.Add([]byte{0xff, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := replica.DecodeVector(b); err == nil {
			if again, err := replica.DecodeVector(v.Append(nil)); err != nil || !maps.Equal(v, again) {
				t.Errorf("%v, %v", again, err)
			}
		}
		e, err := replica.Decode(b)
		if err != nil {
			return
		}
		again, err := replica.Decode(e.Append(nil))
		if err != nil || !reflect.DeepEqual(e, again) {
			t.Errorf("%+v, %v", again, err)
		}
		merged := replica.Entry{}
		merged.Merge(&e)
		before := merged.Append(nil)
		if merged.Merge(&e) || !slices.Equal(before, merged.Append(nil)) {
			t.Error("merged twice, it is another")
		}
		if _, err := replica.Decode(before); err != nil {
			t.Error(err)
		}
	})
}

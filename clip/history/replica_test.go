package history_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/replica"
)

func replicate(t *testing.T, h *history.History, device byte) {
	t.Helper()
	if err := h.Replicate(replica.Device{device}, func() {}); err != nil {
		t.Fatal(err)
	}
}

func all(*replica.Entry) bool { return true }

// tell gives to all that it lacks of from, items too.
func tell(t *testing.T, from, to *history.History) {
	t.Helper()
	if err := send(from, to, 1<<30); err != nil {
		t.Fatal(err)
	}
}

// send is tell, of at most n items.
func send(from, to *history.History, n int) error {
	seen, err := to.Seen()
	if err != nil {
		return err
	}
	heard, err := from.Seen()
	if err != nil {
		return err
	}
	keys, _, err := from.Changed(0)
	if err != nil {
		return err
	}
	known, err := from.Entries(keys)
	if err != nil {
		return err
	}
	var changes []replica.Change
	for _, c := range known {
		if d, ok := c.Entry.Beyond(seen); ok {
			changes = append(changes, replica.Change{Key: c.Key, Entry: d})
		}
	}
	if _, err := to.Merge(changes, all); err != nil {
		return err
	}
	if err := to.Heard(heard); err != nil {
		return err
	}
	for _, k := range to.Wanted(n) {
		id, ok := from.Find(k)
		if !ok {
			continue
		}
		item, err := from.Get(id)
		if err != nil {
			return err
		}
		if _, _, err := to.Receive(k, item); err != nil {
			return err
		}
	}
	return nil
}

// view is what people see of a history. Those that were used in the same millisecond have no order.
func view(h *history.History) (lines []string) {
	for s := range h.All() {
		lines = append(lines, fmt.Sprint(s.Preview, " ", s.Count, " ", s.Used.UnixMilli(), " ", s.Pinned, " ", s.Note, " ", s.Tags))
	}
	slices.Sort(lines)
	return lines
}

func named(t *testing.T, h *history.History, preview string) clip.ID {
	t.Helper()
	for s := range h.All() {
		if s.Preview == preview {
			return s.ID
		}
	}
	t.Fatalf("no %q in %q", preview, view(h))
	return 0
}

// TestMachines: what was copied on either machine before and after they are joined is on both, and so are deletions and what is said of items.
func TestMachines(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		a := open(t, c)
		b := open(t, history.Config{Directory: t.TempDir()})
		add(t, a, text("only a"))
		add(t, a, text("both"))
		add(t, b, text("both"))
		add(t, b, text(strings.Repeat("large ", 20_000)))
		if _, err := a.Seen(); err == nil {
			t.Error("it is one of several machines already")
		}
		replicate(t, a, 1)
		replicate(t, b, 2)
		tell(t, a, b)
		tell(t, b, a)
		if x, y := view(a), view(b); len(x) != 3 || !slices.Equal(x, y) {
			t.Fatalf("%q\nand %q", x, y)
		}
		if s := item(t, a, named(t, a, "both")); s.Count != 2 {
			t.Errorf("%+v", s.Summary)
		}
		if _, err := a.Mark(named(t, a, "both"), func(m *clip.Mark) { m.Pinned, m.Tags = true, []string{"x", "y"} }); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Mark(named(t, b, "both"), func(m *clip.Mark) { m.Note, m.Tags = "why", []string{"z"} }); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Delete(named(t, b, "only a")); err != nil {
			t.Fatal(err)
		}
		a = reopen(t, a, c)
		replicate(t, a, 1)
		if err := b.Compact(); err != nil {
			t.Fatal(err)
		}
		tell(t, b, a)
		tell(t, a, b)
		if x, y := view(a), view(b); len(x) != 2 || !slices.Equal(x, y) {
			t.Fatalf("%q\nand %q", x, y)
		}
		if s := item(t, a, named(t, a, "both")); !s.Pinned || s.Note != "why" || !slices.Equal(s.Tags, []string{"x", "y", "z"}) {
			t.Errorf("%+v", s.Summary)
		}
		a = reopen(t, a, c)
		if x, y := view(a), view(b); !slices.Equal(x, y) {
			t.Errorf("after a start: %q\nand %q", x, y)
		}
	})
}

// TestLimitsAreLocal: what is beyond one machine's limits goes there, and does not come again.
func TestLimitsAreLocal(t *testing.T) {
	t.Parallel()
	a, b := open(t, history.Config{Directory: t.TempDir()}), open(t, history.Config{Directory: t.TempDir()})
	replicate(t, a, 1)
	replicate(t, b, 2)
	for i := range 10 {
		add(t, a, text(fmt.Sprint("item ", i)))
	}
	tell(t, a, b)
	if gone, err := b.Enforce(history.Limits{Items: 4}, time.Now()); err != nil || len(gone) != 6 {
		t.Fatal(gone, err)
	}
	tell(t, b, a)
	tell(t, a, b)
	if len(view(a)) != 10 || len(view(b)) != 4 || b.Missing() != 0 {
		t.Errorf("%q\nand %q", view(a), view(b))
	}
	// What is used again elsewhere comes again, with all that is said of it.
	if _, err := a.Mark(named(t, a, "item 1"), func(m *clip.Mark) { m.Note = "old" }); err != nil {
		t.Fatal(err)
	}
	add(t, a, text("item 1"))
	tell(t, a, b)
	if again := item(t, b, named(t, b, "item 1")); again.Note != "old" || again.Count != 2 || previews(b)[0] != "item 1" {
		t.Errorf("%q\nand %q", view(a), view(b))
	}
}

// TestWantedIsKept: what is still to be fetched is known after a start, and after the log was written anew; what is refused is not asked for again.
func TestWantedIsKept(t *testing.T) {
	each(t, func(t *testing.T, c history.Config) { //nolint:thelper // it is the test
		a, b := open(t, history.Config{Directory: t.TempDir()}), open(t, c)
		replicate(t, a, 1)
		replicate(t, b, 2)
		for i := range 5 {
			add(t, a, text(fmt.Sprint("item ", i)))
		}
		if err := send(a, b, 2); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if got := previews(b); !slices.Equal(got, []string{"item 4", "item 3"}) || b.Missing() != 3 {
				t.Fatalf("%d: %q, %d to be fetched", i, got, b.Missing())
			}
			if err := b.Compact(); err != nil {
				t.Fatal(err)
			}
			b = reopen(t, b, c)
		}
		refused := b.Wanted(1)
		if _, _, err := b.Receive(refused[0], text("another")); !errors.Is(err, clip.ErrCorrupt) {
			t.Errorf("other contents were taken: %v", err)
		}
		if err := b.Forget(refused...); err != nil {
			t.Fatal(err)
		}
		b = reopen(t, b, c)
		tell(t, a, b)
		if got := previews(b); !slices.Equal(got, []string{"item 4", "item 3", "item 1", "item 0"}) || b.Missing() != 0 {
			t.Errorf("%q, %d to be fetched", got, b.Missing())
		}
	})
}

// TestLogStaysSmall: an item that changes again and again does not make the log grow for ever.
func TestLogStaysSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, history.Config{Directory: dir})
	replicate(t, a, 1)
	compacted := false
	for i := range 21 {
		var changes []replica.Change
		for j := range 1000 {
			e := replica.Entry{Kind: clip.Text, Size: 3}
			e.Delete(replica.Stamp{At: replica.TimeOf(time.Now()) + replica.Time(i), By: replica.Device{2}})
			changes = append(changes, replica.Change{Key: replica.Key{byte(j), byte(j >> 8)}, Entry: e})
		}
		if _, err := a.Merge(changes, all); err != nil {
			t.Fatal(err)
		}
		if a.Wasteful() {
			before := size(t, filepath.Join(dir, "history"))
			if err := a.Compact(); err != nil {
				t.Fatal(err)
			}
			compacted = size(t, filepath.Join(dir, "history")) < before/10
		}
	}
	if !compacted || a.Wasteful() {
		t.Error("the log is as large as before")
	}
}

// TestAheadOfTime: copies of a machine whose clock is years ahead are not above all others for years.
func TestAheadOfTime(t *testing.T) {
	t.Parallel()
	a, b := open(t, history.Config{Directory: t.TempDir()}), open(t, history.Config{Directory: t.TempDir()})
	replicate(t, a, 1)
	replicate(t, b, 2)
	future := text("from the future")
	future.Used = time.Now().AddDate(20, 0, 0)
	add(t, a, future)
	tell(t, a, b)
	add(t, b, text("now"))
	if got := previews(b); !slices.Equal(got, []string{"now", "from the future"}) {
		t.Errorf("%q", got)
	}
}

// TestCrashInBetween cuts a machine's log at every length: it goes on from there, and both agree again.
func TestCrashInBetween(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, history.Config{Directory: t.TempDir()}), open(t, history.Config{Directory: dir})
	replicate(t, a, 1)
	replicate(t, b, 2)
	add(t, a, text("first"))
	add(t, b, text("second"))
	tell(t, a, b)
	tell(t, b, a)
	path := filepath.Join(dir, "history")
	begin := size(t, path)
	if _, err := a.Delete(named(t, a, "first")); err != nil {
		t.Fatal(err)
	}
	add(t, a, text("third"))
	if _, err := a.Mark(named(t, a, "second"), func(m *clip.Mark) { m.Note = "n" }); err != nil {
		t.Fatal(err)
	}
	tell(t, a, b)
	want := view(a)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := begin; cut <= len(whole); cut += 3 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		b := open(t, history.Config{Directory: dir})
		replicate(t, b, 2)
		tell(t, a, b)
		if got := view(b); !slices.Equal(got, want) {
			t.Fatalf("cut at %d: %q\nnot %q", cut, got, want)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func size(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Size())
}

// TestManyMachines lets three histories change, meet, lose the rest of what they were told, be written anew and started again, at random.
func TestManyMachines(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		var configs []history.Config
		var machines []*history.History
		for i := range 3 {
			configs = append(configs, history.Config{Directory: t.TempDir()})
			machines = append(machines, open(t, configs[i]))
			replicate(t, machines[i], byte(i+1))
		}
		for range 150 {
			i := r.IntN(3)
			h := machines[i]
			var ids []clip.ID
			for s := range h.All() {
				ids = append(ids, s.ID)
			}
			switch what := r.IntN(12); {
			case what < 4:
				add(t, h, text(fmt.Sprint("item ", r.IntN(8))))
			case what < 6 && len(ids) > 0:
				if _, err := h.Mark(ids[r.IntN(len(ids))], func(m *clip.Mark) { m.Pinned, m.Note = r.IntN(2) == 0, fmt.Sprint(r.IntN(3)) }); err != nil {
					t.Fatal(err)
				}
			case what < 7 && len(ids) > 0:
				if _, err := h.Delete(ids[r.IntN(len(ids))]); err != nil {
					t.Fatal(err)
				}
			case what == 8:
				if err := h.Compact(); err != nil {
					t.Fatal(err)
				}
			case what == 9:
				machines[i] = reopen(t, h, configs[i])
				replicate(t, machines[i], byte(i+1))
			default:
				if j := r.IntN(3); j != i {
					if err := send(h, machines[j], r.IntN(5)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for range 2 {
			for i := range machines {
				tell(t, machines[i], machines[(i+1)%3])
			}
		}
		for i, h := range machines[1:] {
			if x, y := view(machines[0]), view(h); !slices.Equal(x, y) {
				t.Errorf("seed %d: %q\nand machine %d: %q", seed, x, i+2, y)
			}
		}
	}
}

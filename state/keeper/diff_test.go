package keeper

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/state"
)

// numbers are what differs in the only group of a comparison.
func numbers(t *testing.T, d state.Difference) [3]int64 {
	t.Helper()
	if len(d.Groups) > 1 {
		t.Fatalf("%+v", d.Groups)
	}
	for _, g := range d.Groups {
		return [3]int64{g.Added, g.Removed, g.Changed}
	}
	return [3]int64{}
}

func TestDiff(t *testing.T) {
	ctx := t.Context()
	t.Setenv("TMPDIR", t.TempDir())
	m, l := openLedger(t, Config{}, "a", "b")
	a, b := bookRef("a"), bookRef("b")
	l.put("a", "same", "1")
	l.put("a", "changed", "1")
	first := must(m.Snapshot(ctx, a, "manual"))(t)
	l.put("a", "changed", "2")
	l.put("a", "added", "1")
	second := must(m.Snapshot(ctx, a, "manual"))(t)
	l.put("b", "same", "1")
	l.put("b", "changed", "2")

	stored := func(g state.Generation) state.Which { return state.Which{ID: g.Snapshot} }
	live := func(r state.Ref) state.Which { return state.Which{Live: r} }
	for _, c := range []struct {
		name     string
		old, new state.Which
		want     [3]int64
		same     bool
	}{
		{"two snapshots", stored(first), stored(second), [3]int64{1, 0, 1}, false},
		{"the other way", stored(second), stored(first), [3]int64{0, 1, 1}, false},
		{"a snapshot with itself", stored(first), stored(first), [3]int64{}, true},
		{"with now", stored(first), live(a), [3]int64{1, 0, 1}, false},
		{"with now, which is the same", stored(second), live(a), [3]int64{}, true},
		{"now with before", live(a), stored(first), [3]int64{0, 1, 1}, false},
		{"a snapshot with another component", stored(first), live(b), [3]int64{0, 0, 1}, false},
		{"two components now", live(a), live(b), [3]int64{0, 1, 0}, false},
		{"one component now", live(a), live(a), [3]int64{}, true},
	} {
		d, err := m.Diff(ctx, state.DiffRequest{Old: c.old, New: c.new})
		if err != nil || numbers(t, d) != c.want || d.Same != c.same || d.Module != "ledger" {
			t.Errorf("%s: %+v, %v", c.name, d, err)
		}
		if len(d.Old.ID) != 64 || len(d.New.ID) != 64 || d.Same != (d.Old.ID == d.New.ID) || d.Old.Size == 0 || d.New.Size == 0 {
			t.Errorf("%s: %+v and %+v", c.name, d.Old, d.New)
		}
	}
	if d := must(m.Diff(ctx, state.DiffRequest{Old: stored(first), New: live(a)}))(t); d.New.ID != second.Snapshot || d.New.Size != second.Size {
		t.Errorf("as it is now it is %+v, as a snapshot %+v", d.New, second)
	}
	if all := must(m.config.Store.Generations(ctx, state.Ref{}))(t); len(all) != 2 {
		t.Errorf("comparing made generations: %+v", all)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestDiffOfRecords(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	l.loose = true // the same state twice is not the same snapshot
	l.put("a", "x", "1")
	first := must(m.Snapshot(ctx, bookRef("a"), "manual"))(t)
	q := state.DiffRequest{Old: state.Which{ID: first.Snapshot}, New: state.Which{Live: bookRef("a")}, Records: 10}
	d := must(m.Diff(ctx, q))(t)
	if d.Same || len(d.Groups) != 0 || d.Old.Records != 1 || d.New.Records != 1 {
		t.Errorf("%+v", d)
	}
	l.put("a", "y", "1")
	l.put("a", "x", "2")
	d = must(m.Diff(ctx, q))(t)
	want := []state.Record{{Change: "changed", Name: "x"}, {Change: "added", Name: "y"}}
	if len(d.Groups) != 1 || !cmp.Equal(d.Groups[0].Records, want) {
		t.Errorf("%+v", d.Groups)
	}
}

func TestDiffOfForks(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	l.put("a", "x", "1")
	first := must(m.Snapshot(ctx, bookRef("a"), "manual"))(t)
	l.put("a", "y", "1")
	must(m.ForkAs(ctx, state.ForkRequest{From: bookRef("a"), As: "now"}))(t)
	must(m.ForkAs(ctx, state.ForkRequest{From: bookRef("a"), As: "then", At: first.Snapshot}))(t)
	l.put("now", "z", "1")
	for _, c := range []struct {
		fork      string
		beginning bool
		want      [3]int64
	}{{"now", false, [3]int64{1, 0, 0}}, {"then", false, [3]int64{0, 1, 0}}, {"then", true, [3]int64{}}} {
		d, err := m.DiffFork(ctx, state.ForkDiffRequest{Fork: bookRef(c.fork), Beginning: c.beginning})
		if err != nil || numbers(t, d) != c.want || d.New.Live == nil || *d.New.Live != bookRef(c.fork) {
			t.Errorf("%s: %+v, %v", c.fork, d, err)
		}
	}
	for _, c := range []struct {
		ref  string
		want error
	}{{"now", state.ErrNoSnapshot}, {"a", state.ErrBadProperty}, {"none", state.ErrNotFound}} {
		if _, err := m.DiffFork(ctx, state.ForkDiffRequest{Fork: bookRef(c.ref), Beginning: true}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.ref, err)
		}
	}
}

// tired is a ledger whose snapshots break off.
type tired struct{ *ledger }

var errTired = errors.New("the server went away")

func (t tired) Snapshot(_ context.Context, _ state.Target, w io.Writer) error {
	_, _ = io.WriteString(w, "x=1\n")
	return errTired
}

func TestDiffThatCannotBe(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	l.put("a", "x", "1")
	first := must(m.Snapshot(ctx, bookRef("a"), "manual"))(t)
	bad := must(m.config.Store.Save(ctx, bookRef("a"), "ledger", "manual", state.Source{Write: func(w io.Writer) error {
		_, err := io.WriteString(w, "x=1\n") // without its end
		return err
	}}))(t)
	other := must(m.config.Store.Save(ctx, bookRef("o"), "other", "manual", state.Source{Write: func(w io.Writer) error {
		_, err := io.WriteString(w, "other\n")
		return err
	}}))(t)
	was, now := state.Which{ID: first.Snapshot}, state.Which{Live: bookRef("a")}
	for _, c := range []struct {
		name     string
		old, new state.Which
		want     error
	}{
		{"no such snapshot", was, state.Which{ID: "0000"}, state.ErrNotFound},
		{"no such component", was, state.Which{Live: bookRef("none")}, state.ErrNotFound},
		{"what is no snapshot of its kind", was, state.Which{ID: bad.Snapshot}, state.ErrCorrupt},
		{"the same, first", state.Which{ID: bad.Snapshot}, now, state.ErrCorrupt},
		{"another module's", was, state.Which{ID: other.Snapshot}, state.ErrBadProperty},
		{"another module's with now", state.Which{ID: other.Snapshot}, now, state.ErrBadProperty},
	} {
		if d, err := m.Diff(ctx, state.DiffRequest{Old: c.old, New: c.new}); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", c.name, d, err)
		}
	}
	if _, err := m.Library().Diff(ctx, state.DiffRequest{Old: was, New: now}); !errors.Is(err, state.ErrNotAble) {
		t.Errorf("a store elsewhere: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Diff(ended, state.DiffRequest{Old: was, New: now}); !errors.Is(err, context.Canceled) {
		t.Errorf("called off: %v", err)
	}
	l.put("a", "x", "2")
	m.modules["ledger"] = tired{l}
	if _, err := m.Diff(ctx, state.DiffRequest{Old: was, New: now}); !errors.Is(err, errTired) {
		t.Errorf("a server that went away: %v", err)
	}
}

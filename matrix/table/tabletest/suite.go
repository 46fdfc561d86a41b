// Package tabletest is the suite that every database for tables passes.
package tabletest

import (
	"bytes"
	gocmp "cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/matrix/table"
)

type thing struct {
	Room  string `col:"room,key"`
	Order int64  `col:"order,key"`
	Name  string `col:"name"`
	Owner string `col:"owner"`
	Gone  bool   `col:"gone"`
	JSON  []byte `col:"json"`
}

type counter struct {
	ID    int64 `col:"id,key"`
	Value int64 `col:"value"`
}

type member struct {
	Group string `col:"group,key"`
	User  []byte `col:"user,key"`
}

var (
	things = table.Define[thing]("things", table.Index{Name: "name", Columns: []string{"name"}, Unique: true}, table.Index{Name: "owner", Columns: []string{"owner", "order"}})
	counts = table.Define[counter]("counts")
	group  = table.Define[member]("group")
	all    = []*table.Schema{things.Schema(), counts.Schema(), group.Schema()}
)

var errFail = errors.New("this update fails")

// Run tests the databases that a function opens; it opens the same one each time that it is called with the same name, and an empty one for a new name.
func Run(t *testing.T, open func(t *testing.T, name string) table.DB) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, db table.DB){
		"Rows": testRows, "Ranges": testRanges, "Unique": testUnique, "Rollback": testRollback, "Snapshot": testSnapshot, "Together": testTogether,
		"Texts": testTexts, "Bytes": testBytes, "Numbers": testNumbers, "Model": testModel, "Cancelled": testCancelled, "Closed": testClosed,
		"Counts":    testCounts,
		"TextIndex": testTextIndex,
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t, name)
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
			prepare(t, db, all)
			test(t, db)
		})
	}
	t.Run("Prepare", func(t *testing.T) { testPrepare(t, open) })
	t.Run("Copy", func(t *testing.T) { testCopy(t, open) })
}

// testCounts counts by updates of which some fail, share a commit, or look at the number between: it is always what a model says.
func testCounts(t *testing.T, db table.DB) {
	t.Helper()
	count := func(tx table.Tx, n int64) (int64, error) { return table.Count(tx, counts.Schema(), []any{int64(7)}, n) }
	chance, want := rand.New(rand.NewPCG(3, 4)), int64(0)
	for i := range 60 {
		n, fails, is := chance.Int64N(5), chance.IntN(4) == 0, int64(0)
		err := db.Update(t.Context(), func(tx table.Tx) error {
			first, err := count(tx, n)
			if err != nil {
				return err
			}
			if chance.IntN(2) == 0 {
				row, _, err := counts.Get(tx, 7)
				if err != nil || row.Value != first {
					return fmt.Errorf("it is %d, and was read as %d: %w", first, row.Value, err)
				}
			}
			if is, err = count(tx, 1); fails {
				return errors.Join(err, errFail)
			}
			return err
		})
		if fails != errors.Is(err, errFail) || !fails && err != nil {
			t.Fatal(err)
		}
		if is != want+n+1 {
			t.Fatalf("update %d counts %d, not %d", i, is, want+n+1)
		}
		if !fails {
			want = is
		}
	}
	var mu sync.Mutex
	seen := map[int64]bool{}
	var group sync.WaitGroup
	for range 30 {
		group.Go(func() {
			is := int64(0)
			err := db.Update(t.Context(), func(tx table.Tx) (err error) {
				is, err = count(tx, 1)
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[is] {
				t.Errorf("%d was given twice, or %v", is, err)
			}
			seen[is] = true
		})
	}
	group.Wait()
	view(t, db, func(tx table.Tx) error {
		row, _, err := counts.Get(tx, 7)
		if row.Value != want+30 {
			t.Errorf("%d at the end, not %d", row.Value, want+30)
		}
		return err
	})
}

func prepare(t *testing.T, db table.DB, schemas []*table.Schema) {
	t.Helper()
	if err := db.Prepare(t.Context(), schemas); err != nil {
		t.Fatal(err)
	}
}

func update(t *testing.T, db table.DB, f func(table.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, db table.DB, f func(table.Tx) error) {
	t.Helper()
	if err := db.View(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, db table.DB, rows ...thing) {
	t.Helper()
	update(t, db, func(tx table.Tx) error {
		for _, r := range rows {
			if err := things.Put(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func orders(t *testing.T, db table.DB, r table.Range) (found []int64) {
	t.Helper()
	view(t, db, func(tx table.Tx) error {
		rows, err := things.All(tx, r)
		for _, row := range rows {
			found = append(found, row.Order)
		}
		return err
	})
	return found
}

func testRows(t *testing.T, db table.DB) {
	t.Helper()
	row := thing{"!r", 5, "n", "@u", true, []byte(`{"a":1}`)}
	put(t, db, row)
	view(t, db, func(tx table.Tx) error {
		got, ok, err := things.Get(tx, "!r", int64(5))
		if err != nil || !ok || cmp.Diff(row, got) != "" {
			t.Errorf("%+v, %t, %v", got, ok, err)
		}
		if _, ok, err := things.Get(tx, "!r", int64(6)); ok || err != nil {
			t.Errorf("one that is not there: %t, %v", ok, err)
		}
		if things.Put(tx, row) == nil || things.Delete(tx, "!r", int64(5)) == nil {
			t.Error("a view writes")
		}
		return nil
	})
	row.Name, row.Gone, row.JSON = "other", false, []byte{}
	update(t, db, func(tx table.Tx) error {
		if err := things.Put(tx, row); err != nil {
			return err
		}
		got, _, err := things.Get(tx, "!r", int64(5)) // its own write
		if err == nil && (got.Name != "other" || got.Gone || len(got.JSON) != 0) {
			t.Errorf("%+v", got)
		}
		return err
	})
	update(t, db, func(tx table.Tx) error {
		if err := things.Delete(tx, "!r", int64(5)); err != nil {
			return err
		}
		if ok, err := things.Has(tx, "!r", int64(5)); ok || err != nil {
			t.Errorf("deleted: %t, %v", ok, err)
		}
		return things.Delete(tx, "!r", int64(77))
	})
	if got := orders(t, db, table.Range{Index: "name"}); len(got) != 0 {
		t.Errorf("deleted, but in an index: %v", got)
	}
}

func testRanges(t *testing.T, db table.DB) {
	t.Helper()
	var rows []thing
	for i := range int64(10) {
		rows = append(rows, thing{"!a", i - 5, fmt.Sprintf("a%d", i), fmt.Sprintf("@u%d", i%2), false, nil}, thing{"!b", i + 100, fmt.Sprintf("b%d", i), "@u1", false, nil})
	}
	put(t, db, rows...)
	for _, c := range []struct {
		r    table.Range
		want []int64
	}{
		{table.Range{Prefix: []any{"!a"}}, []int64{-5, -4, -3, -2, -1, 0, 1, 2, 3, 4}},
		{table.Range{Prefix: []any{"!a"}, From: int64(-2), Before: int64(2)}, []int64{-2, -1, 0, 1}},
		{table.Range{Prefix: []any{"!a"}, Before: int64(2), Descending: true, Limit: 3}, []int64{1, 0, -1}},
		{table.Range{Prefix: []any{"!b"}, Descending: true, Limit: 1}, []int64{109}},
		{table.Range{From: "!b", Limit: 2}, []int64{100, 101}},
		{table.Range{Before: "!a"}, nil},
		{table.Range{Prefix: []any{"!c"}}, nil},
		{table.Range{Index: "owner", Prefix: []any{"@u0"}}, []int64{-5, -3, -1, 1, 3}},
		{table.Range{Index: "owner", Prefix: []any{"@u1"}, From: int64(3), Before: int64(102)}, []int64{4, 100, 101}},
		{table.Range{Index: "owner", Prefix: []any{"@u1"}, Descending: true, Limit: 2}, []int64{109, 108}},
		{table.Range{Index: "name", From: "a8", Before: "b1"}, []int64{3, 4, 100}},
		{table.Range{Index: "name", Prefix: []any{"b3"}}, []int64{103}},
		{table.Range{Prefix: []any{"!a", int64(3)}}, []int64{3}},
	} {
		if got := orders(t, db, c.r); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, not %v", c.r, got, c.want)
		}
	}
	view(t, db, func(tx table.Tx) error { // a scan that is left early leaves the transaction usable
		for row, err := range things.Scan(tx, table.Range{}) {
			if err != nil || row.Order != -5 {
				t.Errorf("%+v, %v", row, err)
			}
			if _, err := things.Has(tx, "!a", int64(0)); !errors.Is(err, table.ErrReading) {
				t.Errorf("used while it is read: %v", err)
			}
			break
		}
		first, ok, err := things.First(tx, table.Range{Prefix: []any{"!b"}})
		if first.Order != 100 || !ok {
			t.Errorf("%+v, %t", first, ok)
		}
		return err
	})
	update(t, db, func(tx table.Tx) error { return things.DeleteAll(tx, table.Range{Prefix: []any{"!a"}, From: int64(0)}) })
	if got := orders(t, db, table.Range{Index: "owner"}); len(got) != 15 {
		t.Errorf("%d remain", len(got))
	}
}

func testUnique(t *testing.T, db table.DB) {
	t.Helper()
	put(t, db, thing{"!r", 1, "a", "@u", false, nil}, thing{"!r", 2, "b", "@u", false, nil})
	err := db.Update(t.Context(), func(tx table.Tx) error { return things.Put(tx, thing{"!r", 3, "a", "@u", false, nil}) })
	if !errors.Is(err, table.ErrDuplicate) {
		t.Errorf("%v", err)
	}
	put(t, db, thing{"!r", 1, "a", "@v", false, nil}) // its own
	put(t, db, thing{"!r", 1, "c", "@v", false, nil})
	put(t, db, thing{"!r", 3, "a", "@v", false, nil}) // given up
	if got := orders(t, db, table.Range{Index: "name"}); !slices.Equal(got, []int64{3, 2, 1}) {
		t.Errorf("%v", got)
	}
}

var errNo = errors.New("no")

func testRollback(t *testing.T, db table.DB) {
	t.Helper()
	put(t, db, thing{"!r", 1, "a", "@u", false, nil})
	err := db.Update(t.Context(), func(tx table.Tx) error {
		if err := errors.Join(things.Put(tx, thing{"!r", 1, "b", "@u", false, nil}), things.Put(tx, thing{"!r", 2, "c", "@u", false, nil})); err != nil {
			return err
		}
		if _, err := things.All(tx, table.Range{}); err != nil {
			return err
		}
		return errors.Join(things.Delete(tx, "!r", int64(1)), errNo)
	})
	if !errors.Is(err, errNo) {
		t.Error(err)
	}
	err = db.Update(t.Context(), func(tx table.Tx) error {
		if err := things.Put(tx, thing{"!r", 3, "d", "@u", false, nil}); err != nil {
			return err
		}
		panic("of a test")
	})
	if err == nil {
		t.Error("a panic is no error")
	}
	view(t, db, func(tx table.Tx) error {
		rows, err := things.All(tx, table.Range{})
		if len(rows) != 1 || rows[0].Name != "a" {
			t.Errorf("%+v", rows)
		}
		return err
	})
}

func testSnapshot(t *testing.T, db table.DB) {
	t.Helper()
	put(t, db, thing{"!r", 1, "a", "@u", false, nil})
	view(t, db, func(tx table.Tx) error {
		before, err := things.All(tx, table.Range{})
		if err != nil {
			return err
		}
		put(t, db, thing{"!r", 2, "b", "@u", false, nil}, thing{"!r", 1, "c", "@u", false, nil})
		after, err := things.All(tx, table.Range{})
		if d := cmp.Diff(before, after); d != "" {
			t.Errorf("a view changed: %s", d)
		}
		return err
	})
}

// testTogether: many updates at the same time, some of which fail, lose nothing and nothing twice.
func testTogether(t *testing.T, db table.DB) {
	t.Helper()
	var wg sync.WaitGroup
	const writers, each = 16, 25
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				err := db.Update(t.Context(), func(tx table.Tx) error { return count(tx, int64(1000+w*each+i), i%5 == 4) })
				if (i%5 == 4) != errors.Is(err, errNo) {
					t.Errorf("update: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				view(t, db, func(tx table.Tx) error {
					c, _, err := counts.Get(tx, int64(1))
					rows, err2 := counts.All(tx, table.Range{From: int64(1000)})
					if int64(len(rows)) != c.Value {
						t.Errorf("%d rows at count %d", len(rows), c.Value)
					}
					return errors.Join(err, err2)
				})
			}
		})
	}
	wg.Wait()
	view(t, db, func(tx table.Tx) error {
		rows, err := counts.All(tx, table.Range{From: int64(1000)})
		seen := map[int64]bool{}
		for _, r := range rows {
			seen[r.Value] = true
		}
		if want := writers * each * 4 / 5; len(rows) != want || len(seen) != want {
			t.Errorf("%d rows, %d values, not %d", len(rows), len(seen), want)
		}
		return err
	})
}

// count counts one more, and writes that down in a row of its own, or fails.
func count(tx table.Tx, id int64, fails bool) error {
	c, _, err := counts.Get(tx, int64(1))
	if err != nil {
		return err
	}
	c.ID, c.Value = 1, c.Value+1
	if err := counts.Put(tx, c); err != nil {
		return err
	}
	if fails {
		return errNo
	}
	return counts.Put(tx, counter{id, c.Value})
}

// hard are texts that are hard to keep, or to keep in order.
var hard = []string{
	"", "\x00", "\x00\x00", "\x00\x01", "\x00a", "\x01", "\x01\x00", "\x01\x01", "\x01\x02", "\x02", "\n", " ", "%", "'; DROP TABLE things; --", "A", "_", "a", "a\x00",
	"a\x00b", "a\x01", "a ", "ab", "~", "\u007f", "é", "日本", "\uffff", "😀",
}

func testTexts(t *testing.T, db table.DB) {
	t.Helper()
	texts := slices.Sorted(slices.Values(hard))
	for i, s := range texts {
		put(t, db, thing{s, int64(i), s, s, false, []byte(s)})
	}
	view(t, db, func(tx table.Tx) error {
		for _, index := range []string{"", "name", "owner"} {
			rows, err := things.All(tx, table.Range{Index: index})
			if err != nil {
				return err
			}
			var got []string
			for _, r := range rows {
				if got = append(got, r.Room); r.Name != r.Room || string(r.JSON) != r.Room {
					t.Errorf("%+v", r)
				}
			}
			if d := cmp.Diff(texts, got); d != "" {
				t.Errorf("by %q: %s", index, d)
			}
		}
		for i, s := range texts {
			if got, ok, err := things.Get(tx, s, int64(i)); !ok || got.Name != s || err != nil {
				t.Errorf("%q: %+v, %t, %v", s, got, ok, err)
			}
		}
		return nil
	})
}

func testBytes(t *testing.T, db table.DB) {
	t.Helper()
	update(t, db, func(tx table.Tx) error {
		for _, s := range hard {
			if err := group.Put(tx, member{"bytes", append([]byte(s), 0, 255)}); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, db, func(tx table.Tx) error {
		users, err := group.All(tx, table.Range{Prefix: []any{"bytes"}})
		if len(users) != len(hard) || !slices.IsSortedFunc(users, func(a, b member) int { return bytes.Compare(a.User, b.User) }) {
			t.Errorf("%q", users)
		}
		return err
	})
}

func testNumbers(t *testing.T, db table.DB) {
	t.Helper()
	numbers := []int64{math.MinInt64, -1 << 53, -256, -1, 0, 1, 255, 256, 1 << 53, math.MaxInt64}
	update(t, db, func(tx table.Tx) error {
		for _, n := range numbers {
			if err := counts.Put(tx, counter{n, n}); err != nil {
				return err
			}
		}
		return nil
	})
	view(t, db, func(tx table.Tx) error {
		rows, err := counts.All(tx, table.Range{})
		for i, r := range rows {
			if r.ID != numbers[i] || r.Value != numbers[i] {
				t.Errorf("%+v is not %d", r, numbers[i])
			}
		}
		return err
	})
}

// testModel does things by chance, here and in a map.
func testModel(t *testing.T, db table.DB) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	model := map[int64]thing{}
	for range 60 {
		next := maps.Clone(model)
		fails, steps, seed := r.IntN(4) == 0, 1+r.IntN(8), r.Uint64()
		err := db.Update(t.Context(), func(tx table.Tx) error {
			r := rand.New(rand.NewPCG(seed, 0)) // the same if it is called again
			for range steps {
				if err := step(tx, r, next); err != nil {
					return err
				}
			}
			if fails {
				return errNo
			}
			return nil
		})
		if fails != errors.Is(err, errNo) || !fails && err != nil {
			t.Fatal(err)
		}
		if !fails {
			model = next
		}
	}
	var want []thing
	for _, v := range model {
		want = append(want, v)
	}
	slices.SortFunc(want, func(a, b thing) int { return int(a.Order - b.Order) })
	view(t, db, func(tx table.Tx) error {
		got, err := things.All(tx, table.Range{})
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		by, err2 := things.All(tx, table.Range{Index: "owner"})
		if len(by) != len(want) || !slices.IsSortedFunc(by, func(a, b thing) int {
			return gocmp.Or(strings.Compare(a.Owner, b.Owner), gocmp.Compare(a.Order, b.Order))
		}) {
			t.Errorf("by owner: %v", by)
		}
		return errors.Join(err, err2)
	})
}

// step puts or deletes a row by chance, here and in a map.
func step(tx table.Tx, r *rand.Rand, model map[int64]thing) error {
	id := r.Int64N(12)
	row := thing{"!r", id, fmt.Sprintf("%d-%d", id, r.IntN(3)), fmt.Sprintf("@u%d", r.IntN(3)), r.IntN(2) == 0, []byte{byte(r.IntN(256))}}
	if r.IntN(3) == 0 {
		delete(model, id)
		return things.Delete(tx, "!r", id)
	}
	model[id] = row
	return things.Put(tx, row)
}

func testCancelled(t *testing.T, db table.DB) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Update(ctx, func(tx table.Tx) error { return counts.Put(tx, counter{1, 1}) }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := db.View(ctx, func(table.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := orders(t, db, table.Range{}); got != nil {
		t.Error(got)
	}
	put(t, db, thing{"!r", 1, "a", "@u", false, nil})
}

func testClosed(t *testing.T, db table.DB) {
	t.Helper()
	put(t, db, thing{"!r", 1, "a", "@u", false, nil})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(table.Tx) error { return nil }); !errors.Is(err, table.ErrClosed) {
		t.Error(err)
	}
	if err := db.View(t.Context(), func(table.Tx) error { return nil }); !errors.Is(err, table.ErrClosed) {
		t.Error(err)
	}
}

// testPrepare: a database of an older program gets the columns and indexes that came later.
func testPrepare(t *testing.T, open func(t *testing.T, name string) table.DB) {
	t.Helper()
	type older struct {
		Room  string `col:"room,key"`
		Order int64  `col:"order,key"`
		Name  string `col:"name"`
	}
	before := table.Define[older]("things")
	db := open(t, "prepare")
	defer func() { _ = db.Close() }()
	prepare(t, db, []*table.Schema{before.Schema()})
	prepare(t, db, []*table.Schema{before.Schema()}) // again
	update(t, db, func(tx table.Tx) error {
		return errors.Join(before.Put(tx, older{"!r", 1, "b"}), before.Put(tx, older{"!r", 2, "a"}))
	})
	prepare(t, db, all)
	if got := orders(t, db, table.Range{Index: "name"}); !slices.Equal(got, []int64{2, 1}) {
		t.Error(got)
	}
	put(t, db, thing{"!r", 3, "c", "@u", true, []byte("x")})
	view(t, db, func(tx table.Tx) error {
		got, err := things.All(tx, table.Range{})
		if len(got) != 3 || got[0].Owner != "" || len(got[0].JSON) != 0 || !got[2].Gone {
			t.Errorf("%+v", got)
		}
		return err
	})
}

func testCopy(t *testing.T, open func(t *testing.T, name string) table.DB) {
	t.Helper()
	from, to := open(t, "from"), open(t, "to")
	defer func() { _, _ = from.Close(), to.Close() }()
	prepare(t, from, all)
	prepare(t, to, all)
	var rows []thing
	for i := range int64(2500) {
		rows = append(rows, thing{"!r", i, fmt.Sprint(i), "@u\x00", i%2 == 0, []byte{byte(i)}})
	}
	put(t, from, rows...)
	told := 0
	if err := table.Copy(t.Context(), from, to, all, func(_ string, n int) { told = max(told, n) }); err != nil {
		t.Fatal(err)
	}
	if got := orders(t, to, table.Range{Index: "owner", Prefix: []any{"@u\x00"}}); len(got) != 2500 || told != 2500 {
		t.Errorf("%d rows, told of %d", len(got), told)
	}
	if err := table.Copy(t.Context(), from, to, all, nil); err == nil {
		t.Error("copied into a database with something in it")
	}
}

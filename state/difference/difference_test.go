package difference

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orrery/internal/extsort"
	"orrery/state"
)

// memory is a Scratch that says how much was written, and can be full.
type memory struct {
	bytes.Buffer
	room   int // bytes; 0: any number
	closed int
}

var errFull = errors.New("no space left on device")

func (m *memory) Write(b []byte) (int, error) {
	if m.room > 0 && m.Len()+len(b) > m.room {
		return 0, errFull
	}
	return m.Buffer.Write(b)
}

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(m.Bytes()).ReadAt(b, at)
}

func (m *memory) Close() error { m.closed++; return nil }

// compared compares two lists of items.
func compared(tb rapid.TB, o Options, before, after []state.Item) []state.Group {
	tb.Helper()
	var opened []*memory
	o.Scratch = func() (extsort.Scratch, error) {
		m := &memory{}
		opened = append(opened, m)
		return m, nil
	}
	c := Compare(o)
	for side, items := range [][]state.Item{before, after} {
		for _, i := range items {
			if err := c.Add(Side(side), i); err != nil {
				tb.Fatal(err)
			}
		}
	}
	all, err := c.Result(context.Background())
	if err = errors.Join(err, c.Close()); err != nil {
		tb.Fatal(err)
	}
	for _, m := range opened {
		if m.closed != 1 {
			tb.Fatalf("scratch was closed %d times", m.closed)
		}
	}
	return all
}

func row(part, content string) state.Item { return state.Item{Part: part, Content: []byte(content)} }

func named(part, key, content string) state.Item {
	return state.Item{Part: part, Key: []byte(key), Content: []byte(content)}
}

// keyed is a row with a primary key, the part before the first comma.
func keyed(part, content string) state.Item {
	key, _, _ := strings.Cut(content, ",")
	return state.Item{Part: part, Key: []byte(key), Content: []byte(content), Within: true}
}

func TestCompare(t *testing.T) {
	empty := state.Item{Part: "t"}
	for _, c := range []struct {
		name          string
		before, after []state.Item
		want          []state.Group
	}{
		{"nothing", nil, nil, []state.Group{}},
		{"same in another order", []state.Item{row("t", "a"), row("t", "b")}, []state.Item{row("t", "b"), row("t", "a")}, []state.Group{}},
		{
			"rows without keys do not change",
			[]state.Item{row("t", "a"), row("t", "b")},
			[]state.Item{row("t", "a"), row("t", "c")},
			[]state.Group{{Name: "t", Old: 2, New: 2, Added: 1, Removed: 1, Records: []state.Record{{Change: "removed", Name: "b"}, {Change: "added", Name: "c"}}}},
		},
		{
			"equal rows are counted",
			[]state.Item{row("t", "a"), row("t", "a"), row("t", "a")},
			[]state.Item{row("t", "a")},
			[]state.Group{{Name: "t", Old: 3, New: 1, Removed: 2, Records: []state.Record{{Change: "removed", Name: "a"}, {Change: "removed", Name: "a"}}}},
		},
		{
			"files",
			[]state.Item{named("", "a", "1"), named("", "b", "1"), named("", "c", "1")},
			[]state.Item{named("", "a", "2"), named("", "c", "1"), named("", "d", "1")},
			[]state.Group{{Old: 3, New: 3, Added: 1, Removed: 1, Changed: 1, Records: []state.Record{
				{Change: "changed", Name: "a"}, {Change: "removed", Name: "b"}, {Change: "added", Name: "d"},
			}}},
		},
		{
			"rows with keys",
			[]state.Item{keyed("t", "1,x"), keyed("t", "2,x")},
			[]state.Item{keyed("t", "2,y"), keyed("t", "1,x")},
			[]state.Group{{Name: "t", Old: 2, New: 2, Changed: 1, Records: []state.Record{{Change: "changed", Name: "2"}}}},
		},
		{"a key that came by", []state.Item{row("t", "1,x")}, []state.Item{keyed("t", "1,x")}, []state.Group{}},
		{
			"a key that is not unique",
			[]state.Item{keyed("t", "1,x"), keyed("t", "1,y"), keyed("t", "1,z")},
			[]state.Item{keyed("t", "1,x"), keyed("t", "1,w")},
			[]state.Group{{Name: "t", Old: 3, New: 2, Changed: 1, Removed: 1, Records: []state.Record{{Change: "removed", Name: "1"}, {Change: "changed", Name: "1"}}}},
		},
		{
			"the same key in two tables",
			[]state.Item{keyed("t", "1,x")},
			[]state.Item{keyed("u", "1,x")},
			[]state.Group{
				{Name: "t", Old: 1, Removed: 1, Whole: "removed", Records: []state.Record{{Change: "removed", Name: "1"}}},
				{Name: "u", New: 1, Added: 1, Whole: "added", Records: []state.Record{{Change: "added", Name: "1"}}},
			},
		},
		{"an empty table came", nil, []state.Item{empty}, []state.Group{{Name: "t", Whole: "added"}}},
		{
			"a table became empty",
			[]state.Item{row("t", "a")},
			[]state.Item{empty},
			[]state.Group{{Name: "t", Old: 1, Removed: 1, Records: []state.Record{{Change: "removed", Name: "a"}}}},
		},
		{
			"empty content is content",
			[]state.Item{named("t", "k", "")},
			[]state.Item{named("t", "k", "x"), named("t", "", "")},
			[]state.Group{{Name: "t", Old: 1, New: 2, Added: 1, Changed: 1, Records: []state.Record{{Change: "added", Name: ""}, {Change: "changed", Name: "k"}}}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{0, 100} { // in memory, and in many runs
				if d := cmp.Diff(c.want, compared(t, Options{Records: 10, Memory: size}, c.before, c.after)); d != "" {
					t.Errorf("with %d bytes of memory (-want +got):\n%s", size, d)
				}
			}
		})
	}
}

func TestRecordsAreTheFirstByName(t *testing.T) {
	var items []state.Item
	for n := range 1000 {
		items = append(items, named("a", fmt.Sprintf("%04d", n), "x"), named("b", fmt.Sprintf("%04d", n), "x"))
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	all := compared(t, Options{Records: 3, Memory: 4000}, nil, items)
	for _, g := range all {
		want := []state.Record{{Change: "added", Name: "0000"}, {Change: "added", Name: "0001"}, {Change: "added", Name: "0002"}}
		if d := cmp.Diff(want, g.Records); d != "" || g.Added != 1000 {
			t.Errorf("group %s, %d added (-want +got):\n%s", g.Name, g.Added, d)
		}
	}
	if len(all) != 2 {
		t.Errorf("%d groups", len(all))
	}
}

func TestNoMoreRecordsThanAllowed(t *testing.T) {
	var items []state.Item
	for n := range 3 * state.MaxRecords / 2 {
		items = append(items, named(fmt.Sprint(n%2), fmt.Sprint(n), "x"))
	}
	sum := 0
	for _, g := range compared(t, Options{Records: 1 << 30}, items, nil) {
		sum += len(g.Records)
		if g.Removed != 3*state.MaxRecords/4 {
			t.Errorf("%d of group %s were removed", g.Removed, g.Name)
		}
	}
	if sum != state.MaxRecords {
		t.Errorf("%d records", sum)
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("ä", 200)
	all := compared(t, Options{Records: 10}, nil, []state.Item{
		named("", "line\nbreak", ""), named("", "\xff", ""), named("", long, ""), named("", "z plain ü", ""),
	})
	var got []string
	for _, r := range all[0].Records {
		got = append(got, r.Name)
	}
	want := []string{`"\xff"`, `"line\nbreak"`, "z plain ü", strings.Repeat("ä", 100) + "…"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestGroupsWithoutEnd(t *testing.T) {
	var items []state.Item
	for n := range maxGroups + 50 {
		items = append(items, named(fmt.Sprint(n), "k", "x"))
	}
	back := slices.Clone(items)
	slices.Reverse(back)
	if all := compared(t, Options{}, items, back); len(all) != 0 {
		t.Errorf("%d groups differ, and none does", len(all))
	}
	all := compared(t, Options{}, items, items[:maxGroups+49])
	want := []state.Group{{Name: others, Old: 50, New: 49, Removed: 1}}
	if d := cmp.Diff(want, all); d != "" {
		t.Error(d)
	}
}

func TestNoRoom(t *testing.T) {
	for _, opening := range []bool{true, false} {
		c := Compare(Options{Memory: 1000, Scratch: func() (extsort.Scratch, error) {
			if opening {
				return nil, errFull
			}
			return &memory{room: 5000}, nil
		}})
		var err error
		for n := 0; n < 1000 && err == nil; n++ {
			err = c.Add(Old, row("t", fmt.Sprint(n)))
		}
		if !errors.Is(err, errFull) {
			t.Errorf("without room: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// cut is a Scratch that lost its end.
type cut struct{ memory }

func (c *cut) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(c.Bytes()[:c.Len()-1]).ReadAt(b, at)
}

func TestScratchThatIsCut(t *testing.T) {
	c := Compare(Options{Memory: 1000, Scratch: func() (extsort.Scratch, error) { return &cut{}, nil }})
	for n := range 1000 {
		if err := c.Add(Old, row("t", fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Result(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("of a scratch that was cut: %v", err)
	}
}

func TestCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, size := range []int{0, 1000} {
		c := Compare(Options{Memory: size, Scratch: func() (extsort.Scratch, error) { return &memory{}, nil }})
		for n := range 1000 {
			if err := c.Add(Old, row("t", fmt.Sprint(n))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Result(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("called off: %v", err)
		}
	}
}

// model compares in the simplest way.
func model(before, after []state.Item) map[string][3]int64 {
	type content struct{ part, key, content string }
	left := map[content]int64{}
	for side, items := range [][]state.Item{before, after} {
		for _, i := range items {
			c := content{i.Part, "", string(i.Content)}
			if i.Key != nil && !i.Within {
				c.key = "=" + string(i.Key)
			}
			left[c] += 1 - 2*int64(side)
		}
	}
	type name struct{ part, key string }
	removed, added := map[name]int64{}, map[name]int64{}
	for c, n := range left {
		key := c.key
		if key == "" { // a row; see keyed
			key = "#" + c.content
			if k, _, ok := strings.Cut(c.content, ","); ok {
				key = "=" + k
			}
		}
		if n > 0 {
			removed[name{c.part, key}] += n
		} else {
			added[name{c.part, key}] -= n
		}
	}
	counts := map[string][3]int64{}
	names := maps.Clone(removed)
	maps.Copy(names, added)
	for n := range names {
		r, a := removed[n], added[n]
		if r+a > 0 {
			c := counts[n.part]
			counts[n.part] = [3]int64{c[0] + a - min(r, a), c[1] + r - min(r, a), c[2] + min(r, a)}
		}
	}
	return counts
}

func someItems() *rapid.Generator[[]state.Item] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) state.Item {
		part := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "part")
		key, content := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "key")), fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "content"))
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			return row(part, content)
		case 1:
			return keyed(part, key+","+content)
		}
		return named(part, key, content)
	}), 0, 60)
}

func TestCountsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after := someItems().Draw(t, "before"), someItems().Draw(t, "after")
		o := Options{Memory: rapid.SampledFrom([]int{0, 50, 500}).Draw(t, "memory"), Records: rapid.IntRange(0, 70).Draw(t, "records")}
		want := model(before, after)
		got := map[string][3]int64{}
		for _, g := range compared(t, o, before, after) {
			if g.Old-g.Removed-g.Changed != g.New-g.Added-g.Changed {
				t.Fatalf("does not add up: %+v", g)
			}
			if int64(len(g.Records)) != min(int64(o.Records), g.Added+g.Removed+g.Changed) {
				t.Fatalf("%d records of %+v", len(g.Records), g)
			}
			if n := [3]int64{g.Added, g.Removed, g.Changed}; n != [3]int64{} {
				got[g.Name] = n
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestShuffledIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		items := someItems().Draw(t, "items")
		shuffled := rapid.Permutation(items).Draw(t, "shuffled")
		o := Options{Memory: rapid.SampledFrom([]int{0, 50, 500}).Draw(t, "memory")}
		if all := compared(t, o, items, shuffled); len(all) != 0 {
			t.Fatalf("differs: %+v", all)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	const items = 150_000
	c := Compare(Options{Memory: 1 << 20, Scratch: func() (extsort.Scratch, error) { return newFile(t) }})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	one := make([]byte, 0, 40)
	for _, side := range []Side{Old, New} {
		for n := range items {
			one = fmt.Appendf(one[:0], "%d,%d", n, n*7)
			if n%1000 == 0 && side == New {
				one = append(one, '!')
			}
			key, _, _ := bytes.Cut(one, []byte(","))
			if err := c.Add(side, state.Item{Part: "t", Key: key, Content: one, Within: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("%d items are held in %d bytes", 2*items, grown)
	}
	all, err := c.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []state.Group{{Name: "t", Old: items, New: items, Changed: items / 1000}}
	if d := cmp.Diff(want, all); d != "" {
		t.Error(d)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

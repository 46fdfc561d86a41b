package tabletest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"orrery/matrix/table"
)

// testTextIndex: a database that has an index of texts finds what a loop over all of them does.
func testTextIndex(t *testing.T, db table.DB) {
	t.Helper()
	can := false
	view(t, db, func(tx table.Tx) error {
		_, can = tx.(table.TextIndex)
		return nil
	})
	if !can {
		return // it is an ability that a database need not have
	}
	for range 2 {
		write(t, db, func(x table.TextIndex) error { return x.PrepareText("texts") })
	}
	m := textModel{}
	r := rand.New(rand.NewPCG(3, 14))
	for range 40 {
		write(t, db, func(x table.TextIndex) error { return m.change(r, x) })
		view(t, db, func(tx table.Tx) error {
			x, _ := tx.(table.TextIndex)
			for range 10 {
				m.compare(t, r, x)
			}
			return nil
		})
	}
	testTextRank(t, db)
}

func write(t *testing.T, db table.DB, f func(x table.TextIndex) error) {
	t.Helper()
	update(t, db, func(tx table.Tx) error {
		x, _ := tx.(table.TextIndex)
		return f(x)
	})
}

// textModel is what the index should have.
type textModel map[int64]table.Document

// words are some that are like each other, and some that look like a part of a question.
var words = strings.Fields("tea teapot teapots tee and not near or a ab abc 1 12 r12 京 東 ☃ 🎉 ñ straße में words group " + strings.Repeat("x", 40))

func pick(r *rand.Rand, n int) (some []string) {
	for range n {
		some = append(some, words[r.IntN(len(words))])
	}
	slices.Sort(some)
	return slices.Compact(some)
}

func (m textModel) change(r *rand.Rand, x table.TextIndex) error {
	var gone []int64
	for range 1 + r.IntN(10) {
		d := table.Document{ID: int64(r.IntN(300)) - 50, Group: int64(r.IntN(100)), Words: pick(r, 1+r.IntN(12))}
		if d.ID == 0 {
			d.ID = 1 << 40
		}
		m[d.ID] = d
		if err := x.PutText("texts", d); err != nil {
			return err
		}
		if r.IntN(3) == 0 {
			gone = append(gone, d.ID, int64(r.IntN(300)))
		}
	}
	for _, id := range gone {
		delete(m, id)
	}
	return x.DeleteText("texts", gone...)
}

func (m textModel) compare(t *testing.T, r *rand.Rand, x table.TextIndex) {
	t.Helper()
	q := table.TextQuery{Begins: pick(r, r.IntN(3)), Limit: r.IntN(20), Ranked: r.IntN(2) == 0}
	if r.IntN(3) == 0 {
		q.Before = int64(r.IntN(300)) - 49
	}
	for range []int{0, 3, 90}[r.IntN(3)] {
		q.Groups = append(q.Groups, int64(r.IntN(100)))
	}
	if len(q.Groups) == 0 && len(q.Begins) == 0 {
		q.Groups = []int64{7}
	}
	want := m.find(q)
	var got []table.Document
	for d, err := range x.FindText("texts", q) {
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if got = append(got, d); m[d.ID].Group != d.Group || !slices.Contains(want, d.ID) {
			t.Errorf("%+v finds %+v", q, d)
		}
	}
	if q.Limit > 0 {
		want = want[:min(q.Limit, len(want))]
	}
	newest := slices.EqualFunc(got, want, func(d table.Document, id int64) bool { return d.ID == id })
	if len(got) != len(want) || !q.Ranked && !newest {
		t.Errorf("%+v: %v, not %v", q, got, want)
	}
}

// find are all that fit, the newest first.
func (m textModel) find(q table.TextQuery) (ids []int64) {
	for id, d := range m {
		fits := (len(q.Groups) == 0 || slices.Contains(q.Groups, d.Group)) && (q.Before == 0 || id < q.Before)
		for _, b := range q.Begins {
			fits = fits && slices.ContainsFunc(d.Words, func(w string) bool { return strings.HasPrefix(w, b) })
		}
		if fits {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	return ids
}

// testTextRank: a short text is before a long one, though it is older; a view does not write.
func testTextRank(t *testing.T, db table.DB) {
	t.Helper()
	write(t, db, func(x table.TextIndex) error {
		err := x.PrepareText("ranked")
		for i := range int64(5) {
			d := table.Document{ID: 1 + i, Group: 1, Words: []string{"lemon"}}
			for n := range 10 * i {
				d.Words = append(d.Words, fmt.Sprint("more", n))
			}
			err = errors.Join(err, x.PutText("ranked", d))
		}
		return err
	})
	view(t, db, func(tx table.Tx) error {
		x, _ := tx.(table.TextIndex)
		var got []int64
		for d, err := range x.FindText("ranked", table.TextQuery{Groups: []int64{1}, Begins: []string{"lem"}, Ranked: true, Limit: 3}) {
			if err != nil {
				return err
			}
			got = append(got, d.ID)
			if err := x.PutText("ranked", d); err == nil {
				t.Error("a view writes")
			}
		}
		if !slices.Equal(got, []int64{1, 2, 3}) {
			t.Errorf("the best are %v", got)
		}
		return nil
	})
}

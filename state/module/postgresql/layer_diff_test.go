package postgresql

import (
	"fmt"
	"slices"
	"testing"

	"orrery/state"
)

func TestCompareLayer(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	source := ormSource(t, "layerdiff")
	into, conn := layer(t, source)
	compared := func() (all []string) {
		ok, err := m.CompareFork(t.Context(), source, into, func(ofFork bool, i state.Item) error {
			if i.Content != nil {
				all = append(all, fmt.Sprintf("%v %s [%s] %s", ofFork, i.Part, i.Key, i.Content))
			}
			return nil
		})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		slices.Sort(all)
		return all
	}
	untouched := []string{"false public.nopk [] (1)", "false public.nopk [] (2)", "true public.nopk [] (1)", "true public.nopk [] (2)"}
	if got := compared(); !slices.Equal(got, untouched) {
		t.Errorf("of a layer that wrote nothing: %q", got)
	}
	must(t, conn, `update pair set v = 5 where b = 'y'`)
	must(t, conn, `delete from auth_user_groups where id = 3`)
	must(t, conn, `insert into "Auth Group" (name) values ('new, one'), ('gone again')`)
	must(t, conn, `delete from "Auth Group" where name = 'gone again'`)
	must(t, conn, `delete from nopk where x = 2`)
	must(t, conn, `create table public.mine (a int primary key)`)
	must(t, conn, `insert into public.mine values (7)`)
	execute(t, databaseName(source), `update pair set v = 9 where b = 'x'`) // which the layer shows
	want := []string{
		"false public.auth_user_groups [3] (3,3,2)", "false public.nopk [] (1)", "false public.nopk [] (2)", "false public.pair [1, y] (1,y,2)",
		`true public."Auth Group" [3] (3,"new, one")`, "true public.mine [] (7)", "true public.nopk [] (1)", "true public.pair [1, y] (1,y,5)",
	}
	if got := compared(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	must(t, conn, `insert into auth_user (username) select 'many' || n from generate_series(1, 2500) n`)
	must(t, conn, `update auth_user set email = 'x' where id <= 3`)
	if got := compared(); len(got) != len(want)+2500+2*3 {
		t.Errorf("%d rows", len(got))
	}
	if ok, err := m.CompareFork(t.Context(), into, source, nil); ok || err != nil {
		t.Errorf("what is no layer: %v, %v", ok, err)
	}
}

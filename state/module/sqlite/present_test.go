package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"testing"

	"orrery/state"
)

// TestRowsHaveNames reads rows with and without primary keys: names are what SQL would have them.
func TestRowsHaveNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.db")
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, statement := range []string{
		`CREATE TABLE plain (a, b, c, d)`, `INSERT INTO plain VALUES (NULL, 1.5, x'00ff', 'it''s'), (-7, '', x'', 'ü')`,
		`CREATE TABLE "od""d" (v, "b c" TEXT, a INTEGER, PRIMARY KEY (a, "b c")) WITHOUT ROWID`, `INSERT INTO "od""d" VALUES (1, 'x', 2)`,
		`CREATE TABLE one (id INTEGER PRIMARY KEY, at DATETIME)`, `INSERT INTO one VALUES (5, '2026-11-25 10:00:00')`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	var got []string
	m := New(nil)
	for _, table := range []string{"plain", `od"d`, "one"} {
		if err := visitRows(context.Background(), db, table, func(i state.Item) error {
			got = append(got, m.Group(i)+" "+m.Name(i))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"plain NULL, 1.5, x'00ff', 'it''s'", "plain -7, '', x'', 'ü'", `od"d 2, 'x'`, "one 5"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// FuzzName tells anything: what was a value comes out as one, and nothing else breaks.
func FuzzName(f *testing.F) {
	f.Add([]byte("n"), "x", int64(1))
	f.Add([]byte("t\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "", int64(-1))
	f.Add([]byte("i123"), "'", int64(0))
	f.Fuzz(func(t *testing.T, content []byte, text string, number int64) {
		m := New(nil)
		_ = m.Name(state.Item{Content: content})
		b := appendValue(appendValue(appendValue(nil, text), number), nil)
		for _, want := range []any{text, number, nil} {
			value, rest, ok := cutValue(b)
			if s, is := want.(string); is {
				want = s[:min(len(s), maxTold)]
			}
			if !ok || value != want {
				t.Fatalf("%v became %v", want, value)
			}
			b = rest
		}
		if !bytes.Equal(b, nil) {
			t.Fatalf("%q is left", b)
		}
	})
}

package postgresql

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

// gormLines has GORM work on a database, and returns what it says of each step.
func gormLines(t *testing.T, program, operation, url string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, operation, url)
	cmd.Env = append(os.Environ(), "PGPASSWORD="+testenv.PostgreSQL(t).Password)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaints.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func exportedURL(t *testing.T, target state.Target) string {
	t.Helper()
	exports, err := New(Config{}).Exports(target)
	if err != nil {
		t.Fatal(err)
	}
	return exports["url"] + "?sslmode=disable"
}

// TestLayerUnderGORM has a schema and a session as GORM makes them run on a copy and on a layered fork. All that may
// differ is what docs/forks.md says, and production does not change.
func TestLayerUnderGORM(t *testing.T) {
	t.Parallel()
	program := testenv.GORM(t)
	m := New(Config{})
	source := newTarget(t, "layer-gorm")
	delete(source.Component.Properties, "schema")
	activate(t, source)
	gormLines(t, program, "make", exportedURL(t, source))
	before := snapshot(t, source)
	duplicate := named(source, databaseName(source)+"@copy")
	duplicate.Directory = t.TempDir()
	if err := m.ForkBy(t.Context(), source, duplicate, state.ForkCopy); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.CollectGarbage(context.Background(), duplicate); err != nil {
			t.Error(err)
		}
	})
	layered, _ := layer(t, source)
	want, got := gormLines(t, program, "use", exportedURL(t, duplicate)), gormLines(t, program, "use", exportedURL(t, layered))
	differs := map[string]string{
		"create with associations": "error 42P10", // ON CONFLICT (id): a view has no unique constraints
		"upsert by a column":       "error 42P10",
		"insert or nothing":        "error 23505", // ON CONFLICT DO NOTHING: the duplicate is refused
		"append to an association": "error 23505",
		"migrate again":            "error 42P07", // GORM looks for tables and finds none
		"what there is":            "1 8 3 3 2",   // what the first of these did not make
	}
	if len(got) != len(want) || len(got) < 30 {
		t.Fatalf("%d steps, and %d on a copy", len(got), len(want))
	}
	for i := range want {
		step, _, _ := strings.Cut(want[i], ": ")
		expected, different := differs[step]
		if !different {
			expected = want[i]
		} else {
			expected = step + ": " + expected
		}
		if got[i] != expected {
			t.Errorf("%q instead of %q", got[i], expected)
		}
	}
	same(t, "production", snapshot(t, source), before)
}

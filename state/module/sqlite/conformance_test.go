package sqlite

import (
	"fmt"
	"testing"

	"orrery/state"
	"orrery/state/module/moduletest"
)

func TestConformance(t *testing.T) {
	moduletest.Run(t, moduletest.Harness{
		Module: New(nil),
		NewTarget: func(t *testing.T, name string) state.Target {
			t.Helper()
			return newTarget(t, name, nil)
		},
		Bad: []state.Properties{{"shcema": "/x"}, {"schema": 1}, {"journal": "off"}, {"schema": "relative.sql"}},
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			query(t, path(target), "CREATE TABLE IF NOT EXISTS change(n, noise)",
				fmt.Sprintf("INSERT INTO change VALUES(%d, randomblob(5000))", n), "SELECT 1")
		},
		Digest: func(t *testing.T, target state.Target) string {
			t.Helper()
			if query(t, path(target), "SELECT count(*) FROM sqlite_schema") == "0" {
				return ""
			}
			return query(t, path(target), "SELECT group_concat(n||hex(noise)) FROM (SELECT * FROM change ORDER BY rowid)")
		},
	})
}

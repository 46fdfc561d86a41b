package pebbledb_test

import (
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/tabletest"
)

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	tabletest.Run(t, func(t *testing.T, name string) table.DB {
		t.Helper()
		return open(t, pebbledb.Config{Directory: filepath.Join(dir, name)})
	})
}

func TestMemory(t *testing.T) {
	tabletest.Run(t, func(t *testing.T, _ string) table.DB {
		t.Helper()
		return open(t, pebbledb.Config{Memory: true})
	})
}

func open(t *testing.T, c pebbledb.Config) *pebbledb.DB {
	t.Helper()
	db, err := pebbledb.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

type row struct {
	ID   int64  `col:"id,key"`
	Text string `col:"text"`
}

var rows = table.Define[row]("rows", table.Index{Name: "text", Columns: []string{"text"}})

// TestCrash forgets what was not synced, after each update: all that Update returned for is there.
func TestCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	for i := range int64(20) {
		db := open(t, pebbledb.Config{Directory: "db", FS: fs})
		if err := db.Prepare(t.Context(), []*table.Schema{rows.Schema()}); err != nil {
			t.Fatal(err)
		}
		err := db.View(t.Context(), func(tx table.Tx) error {
			all, err := rows.All(tx, table.Range{Index: "text", Prefix: []any{"x"}})
			if int64(len(all)) != i {
				t.Errorf("%d rows of %d", len(all), i)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Update(t.Context(), func(tx table.Tx) error { return rows.Put(tx, row{i, "x"}) }); err != nil {
			t.Fatal(err)
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	db := open(t, pebbledb.Config{Directory: filepath.Join(dir, "a")})
	defer func() { _ = db.Close() }()
	if err := db.Prepare(t.Context(), []*table.Schema{rows.Schema()}); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx table.Tx) error { return rows.Put(tx, row{1, "x"}) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	copied := open(t, pebbledb.Config{Directory: filepath.Join(dir, "b")})
	defer func() { _ = copied.Close() }()
	if err := copied.View(t.Context(), func(tx table.Tx) error {
		if ok, err := rows.Has(tx, int64(1)); !ok || err != nil {
			t.Error(ok, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

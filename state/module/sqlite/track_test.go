package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"orrery/state"
)

// Random writes, vacuums, checkpoints and changes of mode: every image is a sound database and equals the image before
// with what changed put in.
func TestTrackerFollowsRandomChanges(t *testing.T) {
	for _, pageSize := range []int{512, 1024, 4096, 65536} {
		for _, journal := range []string{"wal", "delete"} {
			t.Run(fmt.Sprintf("%d-%s", pageSize, journal), func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed: %d", seed)
				followRandomly(t, rand.New(rand.NewPCG(seed, 0)), pageSize, journal)
			})
		}
	}
}

func followRandomly(t *testing.T, random *rand.Rand, pageSize int, journal string) {
	t.Helper()
	m := New(nil)
	target := activate(t, m, fmt.Sprintf("PRAGMA page_size=%d; VACUUM; %s", pageSize, notesSchema))
	target.Component.Properties["journal"] = journal
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if got := query(t, path(target), "PRAGMA page_size"); got != strconv.Itoa(pageSize) {
		t.Fatalf("page size %s", got)
	}
	tracker, err := m.Track(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if random.IntN(2) == 0 {
		setLimit(tracker, int64(pageSize*40))
	}
	var last []byte
	for range rounds(7, 50) {
		for range random.IntN(4) {
			query(t, path(target), change(random), "SELECT 1")
		}
		if random.IntN(10) == 0 {
			other := []string{"wal", "delete"}[random.IntN(2)]
			_, _ = tryQuery(t.Context(), path(target), "PRAGMA busy_timeout=1", "PRAGMA journal_mode="+other) // the tracker may not allow it
		}
		content, _ := follows(t, tracker, last)
		intact(t, content, "SELECT count(*) FROM note")
		if want := query(t, path(target), "SELECT count(*)||','||coalesce(sum(length(text)),0) FROM note"); want != intact(t, content, "SELECT count(*)||','||coalesce(sum(length(text)),0) FROM note") {
			t.Fatal("the image holds other rows than the database")
		}
		last = content
	}
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
}

func change(random *rand.Rand) string {
	n := random.IntN(300)
	switch random.IntN(9) {
	case 0, 1, 2:
		return fmt.Sprintf("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<%d) INSERT INTO note(text) SELECT hex(randomblob(%d)) FROM c", n+1, 1+random.IntN(900))
	case 3:
		return fmt.Sprintf("UPDATE note SET text=hex(randomblob(%d)) WHERE id%%%d=0", n, 1+random.IntN(50))
	case 4:
		return fmt.Sprintf("DELETE FROM note WHERE id%%%d<>0", 1+random.IntN(5))
	case 5:
		return "VACUUM"
	case 6:
		return "PRAGMA wal_checkpoint(PASSIVE)"
	case 7:
		return "DELETE FROM note"
	}
	return "UPDATE note SET text=text||'x' WHERE id=(SELECT max(id) FROM note)"
}

// The same pages are the same snapshot, whoever wrote them last and in whatever mode.
func TestSnapshotIsCanonical(t *testing.T) {
	m := New(nil)
	target := activate(t, m, notesSchema)
	first := snapshot(t, m, target)
	for _, statement := range []string{"PRAGMA user_version=0", "PRAGMA journal_mode=delete", "PRAGMA user_version=0", "PRAGMA journal_mode=wal", "PRAGMA wal_checkpoint(TRUNCATE)"} {
		query(t, path(target), statement, "SELECT 1")
		if string(snapshot(t, m, target)) != string(first) {
			t.Errorf("%s changed the snapshot", statement)
		}
	}
	for i := range 3 {
		tracker, err := m.Track(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := follows(t, tracker, nil)
		if string(content) != string(first) {
			t.Errorf("tracking it for the %d. time changed the snapshot", i)
		}
		if err := tracker.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForkOfADatabase(t *testing.T) {
	m := New(nil)
	target := activate(t, m, notesSchema)
	command, out := start(t, "writer", path(target), "wal")
	rows := follow(out)
	before := rows.atLeast(t, 30)
	into := target
	into.Component.Name, into.Component.Session = "notes@blue", "blue"
	method, err := m.Fork(t.Context(), target, into)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(method)
	if err := m.Activate(t.Context(), into); err != nil {
		t.Fatal(err)
	}
	holds(t, snapshot(t, m, into), before)
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // it was killed
}

func TestBadDatabases(t *testing.T) {
	m := New(nil)
	for name, p := range map[string]state.Properties{"unknown": {"shcema": "/x"}, "type": {"schema": 1}, "journal": {"journal": "off"}, "relative": {"schema": "x.sql"}} {
		if err := m.Check(newTarget(t, "notes", p).Component); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
	}
	for name, schema := range map[string]string{"syntax": "CREATE TABLE a(b); CREATE TABEL c(d)", "open transaction": "BEGIN; CREATE TABLE a(b);"} {
		file := t.TempDir() + "/schema.sql"
		if err := os.WriteFile(file, []byte(schema), 0o600); err != nil {
			t.Fatal(err)
		}
		target := newTarget(t, "notes", state.Properties{"schema": file})
		if err := m.Activate(t.Context(), target); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
		if left, err := os.ReadDir(target.Container.Directory); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v (%v)", name, left, err)
		}
	}
	target := newTarget(t, "notes", nil)
	if err := os.WriteFile(path(target), []byte("not a database, and long enough to hold a header of one hundred bytes, which is what SQLite reads first of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Activate(t.Context(), target); err == nil {
		t.Error("activated a foreign file")
	} else {
		t.Log(err)
	}
}

func setLimit(t state.Tracker, limit int64) {
	if t, ok := t.(*tracker); ok {
		t.limit = limit
	}
}

package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"orrery/state"
)

// restorer replaces a database by the files 0 and 1 of a folder in turns, by Restore and by Stage, and says the
// number of each turn when it is over.
func restorer(database, folder string) error {
	m := New(nil)
	target := state.Target{
		Component: state.Component{Name: "notes", Module: Name, Container: Name},
		Container: state.Container{Name: Name, Module: Name, Directory: filepath.Dir(database)},
	}
	ctx := context.Background()
	for i := 1; ; i++ {
		content, err := os.ReadFile(filepath.Join(folder, strconv.Itoa(i%2)))
		if err != nil {
			return err
		}
		if i%4 < 2 {
			err = m.Restore(ctx, target, bytes.NewReader(content))
		} else {
			err = commitStage(ctx, m, target, content)
		}
		if err != nil {
			return err
		}
		fmt.Println(i)
		// So that there is a log that must not get into the next state.
		err = m.use(ctx, database, func(c *connection) error {
			return c.exec(ctx, "CREATE TABLE IF NOT EXISTS later(x)", "INSERT INTO later VALUES(randomblob(9000))", "DROP TABLE later")
		})
		if err != nil {
			return err
		}
		if err := m.Restore(ctx, target, bytes.NewReader(content)); err != nil {
			return err
		}
	}
}

func commitStage(ctx context.Context, m *Module, target state.Target, content []byte) error {
	s, err := m.NewStage(ctx, target)
	if err != nil {
		return err
	}
	if err := s.Truncate(int64(len(content))); err != nil {
		return errors.Join(err, s.Close())
	}
	if _, err := s.WriteAt(content, 0); err != nil {
		return errors.Join(err, s.Close())
	}
	return errors.Join(s.Commit(ctx), s.Close())
}

// A restore or commit that is killed at any point leaves the state before it or the one after it.
func TestKilledRestore(t *testing.T) {
	m := New(nil)
	target := activate(t, m, notesSchema)
	folder := t.TempDir()
	var states [2][]byte
	for i := range states {
		query(t, path(target), fmt.Sprintf("INSERT INTO note(text) SELECT hex(randomblob(100+%d)) FROM sqlite_schema", i), "SELECT 1")
		states[i] = snapshot(t, m, target)
		if err := os.WriteFile(filepath.Join(folder, strconv.Itoa(i)), states[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for round := range rounds(12, 100) {
		command, out := start(t, "restorer", path(target), folder)
		rows := follow(out)
		rows.atLeast(t, 1+round%3)
		// Not a wait for something: a moment to be killed at.
		timer := time.NewTimer(time.Duration(round%25) * 700 * time.Microsecond)
		<-timer.C
		if err := command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = command.Wait() // it was killed
		if err := m.Activate(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		if got := query(t, path(target), "PRAGMA integrity_check"); got != "ok" {
			t.Fatalf("round %d: %s", round, got)
		}
		query(t, path(target), "DROP TABLE IF EXISTS later", "SELECT 1")
		n, err := strconv.Atoi(query(t, path(target), "SELECT count(*) FROM note"))
		if err != nil || n != 2 && n != 4 {
			t.Fatalf("round %d: %d rows (%v)", round, n, err)
		}
	}
}

package keeper

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"orrery/state"
)

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"PostgreSQL 17.2", "PostgreSQL 15.18", true},
		{"PostgreSQL 15.18", "PostgreSQL 15.2", false},
		{"PostgreSQL 9.6", "PostgreSQL 15.18", false},
		{"MariaDB 10.11.6", "MariaDB 10.6.1", true},
		{"MariaDB 10.11.6", "MariaDB 10.11.2", false},
		{"MariaDB 11.4.2", "MySQL 8.0.3", false},
		{"Ledger 2", "Ledger 1", true},
		{"Ledger two", "Ledger 1", false},
		{"", "", false},
	} {
		if newer(c.a, c.b) != c.want {
			t.Errorf("%q after %q", c.a, c.b)
		}
	}
}

// TestOlderServer restores snapshots that a newer server made: one that the server here reads, with a warning, and one
// that it does not, with the reason.
func TestOlderServer(t *testing.T) {
	ctx := t.Context()
	var log bytes.Buffer
	m, l := openLedger(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, "a")
	l.put("a", "x", "here")
	save := func(server, text string) state.SnapshotID {
		g := must(m.config.Store.Save(ctx, bookRef("a"), "ledger", "manual", state.Source{Server: server, Write: func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}}))(t)
		return g.Snapshot
	}
	const reason = "the snapshot is of Ledger 7.1, which is newer than this server, Ledger 1 (restore it into a server"
	unread := save("Ledger 7.1", "x=new form\n")
	err := m.Restore(ctx, bookRef("a"), unread)
	if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), reason) || l.get("a", "x") != "here" {
		t.Errorf("%v, and x is %s", err, l.get("a", "x"))
	}
	if _, err := m.TestRestore(ctx, bookRef("a"), unread); err == nil || !strings.Contains(err.Error(), reason) {
		t.Error(err)
	}
	log.Reset()
	check(t, m.Restore(ctx, bookRef("a"), save("Ledger 7.1", "x=there\nend\n")))
	if l.get("a", "x") != "there" || !strings.Contains(log.String(), reason) {
		t.Errorf("x is %s: %s", l.get("a", "x"), log.String())
	}
	err = m.Restore(ctx, bookRef("a"), save("Ledger 0.9", "x=cut\n"))
	if !errors.Is(err, state.ErrCorrupt) || strings.Contains(err.Error(), "newer") {
		t.Error(err)
	}
}

package postgresql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"orrery/state"
	"orrery/state/module/postgresql/script"
)

// ledger makes the table of migrations, which is a part of the database's state.
const ledger = `create schema if not exists orrery;
create table if not exists orrery.migrations (number integer primary key, name text not null, sha256 text not null,
	applied timestamp with time zone not null default now())`

// Migrated implements state.Migrator.
func (m *Module) Migrated(ctx context.Context, t state.Target) ([]state.Migration, error) {
	var all []state.Migration
	err := m.with(ctx, t, "list the migrations of", func(d *database) error {
		var err error
		all, err = d.migrated(ctx)
		return err
	})
	return all, err
}

func (d *database) migrated(ctx context.Context) ([]state.Migration, error) {
	conn, err := d.connect(ctx, d.name)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	var there bool
	if err := conn.QueryRow(ctx, "select to_regclass('orrery.migrations') is not null").Scan(&there); err != nil || !there {
		return nil, err
	}
	rows, err := conn.Query(ctx, "select number, name, sha256, applied from orrery.migrations order by number")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (state.Migration, error) {
		var one state.Migration
		err := row.Scan(&one.Number, &one.Name, &one.SHA256, &one.Applied)
		one.Applied = one.Applied.UTC()
		return one, err
	})
}

// Migrate implements state.Migrator: the script and its record are one transaction, unless the script has a
// statement that cannot be in one (CREATE INDEX CONCURRENTLY, VACUUM) or transactions of its own.
func (m *Module) Migrate(ctx context.Context, t state.Target, step state.Migration, text []byte) error {
	if err := refuse(t, "migrate"); errors.Is(err, state.ErrReplica) {
		return err
	}
	return m.with(ctx, t, fmt.Sprintf("carry out migration %d (%s) on", step.Number, step.Name), func(d *database) error {
		done, err := d.migrated(ctx)
		if err != nil {
			return err
		}
		for _, one := range done {
			switch {
			case one.Number != step.Number:
			case one.SHA256 == step.SHA256:
				return nil
			default:
				return fmt.Errorf("%w: migration %d was carried out as %s with other content (number the change anew)",
					state.ErrBadProperty, one.Number, one.Name)
			}
		}
		return d.migrate(ctx, step, text)
	})
}

func (d *database) migrate(ctx context.Context, step state.Migration, text []byte) error {
	found, err := d.tools(ctx)
	if err != nil {
		return err
	}
	like, err := d.traits(ctx, d.name)
	if err != nil {
		return err
	}
	if like == nil {
		return fmt.Errorf("database %q %w", d.name, state.ErrNotFound)
	}
	args := []string{
		"--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--command=" + ledger, "--file=-",
		fmt.Sprintf("--command=reset search_path; insert into orrery.migrations (number, name, sha256) values (%d,%s,%s)", step.Number, literal(step.Name), literal(step.SHA256)),
	}
	if inOneTransaction(text) {
		args = append(args, "--single-transaction")
	}
	return d.run(ctx, d.name, like.owner, bytes.NewReader(text), io.Discard, found.psql, args...)
}

// alone finds statements that must not be in a transaction, or that end one.
var alone = regexp.MustCompile(`(?is)^(begin|start\s+transaction|commit|end|rollback|abort|prepare\s+transaction|vacuum|reindex\s+(database|system)|` +
	`cluster\s*;|alter\s+system|(create|drop)\s+(database|tablespace|subscription))\b|` +
	`^(create\s+(unique\s+)?index|drop\s+index|reindex\s.*|alter\s+table\s.*\sdetach\s+partition\s.*)\s+concurrently\b`)

// inOneTransaction says whether a script can be carried out in one transaction. A script that cannot be read is left to psql.
func inOneTransaction(text []byte) bool {
	r := script.NewReader(bytes.NewReader(text))
	for {
		e, err := r.Next()
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, script.ErrSyntax)
		}
		if e.Kind == script.Statement && alone.MatchString(strings.TrimSpace(string(e.Text))) {
			return false
		}
	}
}

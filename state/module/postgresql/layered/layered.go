// Package layered makes a database into a layer over another one: its tables become views that read the other database's
// rows live, through postgres_fdw and a role that can only read, and keep what is written in tables of its own.
//
// Of each table there are three more, out of the way: origin (a foreign table, the other database's rows), delta (the
// table itself: rows written here) and gone (keys of rows that were written or deleted here, which hide the origin's). The
// view is delta and the origin's rows whose key is not gone. INSTEAD OF triggers write delta and gone only;
// nothing here ever writes a foreign table, the server's options forbid it, and the role could not.
package layered

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Options say what the layer lies over, and who may use it.
type Options struct {
	Host     string // as the server itself reaches the origin's server
	Port     int
	Database string // the origin's
	Reader   string // a role of the origin's server that can only read
	Password string // of Reader
	User     string // a role of this server, the layer's user: no superuser
	// CopyLimit is up to which size, in bytes, a table without primary key is copied.
	CopyLimit int64
}

// ErrCannot says that something in the schema cannot be layered.
var ErrCannot = errors.New("cannot be layered")

// Build makes the database of conn, which holds the origin's schema without foreign keys, triggers and rows, a layer. It is one
// transaction.
func Build(ctx context.Context, conn, origin *pgx.Conn, o Options) error {
	if err := Refuse(ctx, origin, o.CopyLimit); err != nil {
		return err
	}
	keys, err := foreignKeys(ctx, origin)
	if err != nil {
		return err
	}
	sequences, err := column[string](ctx, origin, sequenceValues)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local search_path to ''; set local client_min_messages = warning"); err != nil {
			return err
		}
		views, err := column[string](ctx, tx, viewDefinitions)
		if err != nil {
			return err
		}
		bodies, err := column[string](ctx, tx, boundFunctions)
		if err != nil {
			return err
		}
		tables, err := readTables(ctx, tx)
		if err != nil {
			return err
		}
		statements := append(setUp(o), sequences...)
		for i := range tables {
			statements = append(statements, tables[i].statements()...)
		}
		for i := range tables {
			statements = append(statements, tables[i].guards(tables, keys)...)
		}
		statements = append(append(append(statements, views...), bodies...), allow(o.User)...)
		return carryOut(ctx, tx, statements)
	})
}

func carryOut(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			if strings.HasPrefix(s, "create user mapping") {
				return err // the statement has the reader's password
			}
			return fmt.Errorf("%.300s: %w", s, err)
		}
	}
	return nil
}

const (
	layerSchema = "orrery_layer"
	layerServer = "orrery_origin"
)

func setUp(o Options) []string {
	option := func(name, value string) string { return name + " " + literal(value) }
	return []string{
		"create schema " + layerSchema,
		"revoke all on schema " + layerSchema + " from public",
		"create extension if not exists postgres_fdw schema " + layerSchema,
		"create server " + layerServer + " foreign data wrapper postgres_fdw options (" + strings.Join([]string{
			option("host", o.Host), option("port", fmt.Sprint(o.Port)), option("dbname", o.Database), option("updatable", "false"),
			option("options", "-c default_transaction_read_only=on"), option("application_name", "orrery"), option("fetch_size", "1000"),
		}, ", ") + ")",
		"create user mapping for current_user server " + layerServer + " options (" + option("user", o.Reader) + ", " + option("password", o.Password) + ")",
	}
}

// allow gives the user what a program needs: rows of all tables, sequences, and objects of its own. Production's functions
// that run as their owner run as their caller here, because their owner here is another.
func allow(user string) []string {
	const each = `do $do$ declare s record; begin
		for s in select quote_ident(nspname) as name from pg_namespace where nspname !~ '^(pg_|orrery_)' and nspname <> 'information_schema' loop
			execute format('grant usage, create on schema %%s to %[1]s; grant select, insert, update, delete on all tables in schema %%s to %[1]s; grant usage, select, update on all sequences in schema %%s to %[1]s', s.name, s.name, s.name);
		end loop;
		for s in select oid::regprocedure as name, case prokind when 'p' then 'procedure' else 'function' end as kind from pg_proc
				where prosecdef and prokind in ('f', 'p') and pronamespace <> 'orrery_layer'::regnamespace loop
			execute format('alter %%s %%s security invoker', s.kind, s.name);
		end loop;
		for s in select distinct quote_ident(n.nspname) as name, quote_ident(q.relname) as seq from pg_class q join pg_namespace n on n.oid = relnamespace
				where relkind = 'S' and nspname ~ '^orrery_delta_' loop
			execute format('grant usage on schema %%s to %[1]s; grant usage, select, update on sequence %%s.%%s to %[1]s', s.name, s.name, s.seq);
		end loop;
	end $do$`
	return []string{fmt.Sprintf(each, strings.ReplaceAll(quote(user), "%", "%%"))}
}

// literal quotes a string constant.
func literal(v string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(v) + "'"
}

func quote(identifiers ...string) string { return pgx.Identifier(identifiers).Sanitize() }

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func column[T any](ctx context.Context, q querier, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

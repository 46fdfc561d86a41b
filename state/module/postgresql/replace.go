package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	objectInUse = "55006" // SQLSTATE
	// swapAttempts bounds how often clients may be quicker than their termination. The server itself
	// waits five seconds for them each time.
	swapAttempts = 5
	swapTick     = 20 * time.Millisecond
)

// replace makes the side database like the one that is there, has it filled, and gives it the name. On an error
// the database is as it was.
func (d *database) replace(ctx context.Context, fill func() error) error {
	old, err := d.traits(ctx, d.name)
	if err != nil {
		return err
	}
	return d.build(ctx, old, fill)
}

// build creates the side database with the traits of another one (nil: the server's defaults), has it filled, and
// gives it the name.
func (d *database) build(ctx context.Context, like *traits, fill func() error) error {
	err := d.fillSide(ctx, like, fill)
	if err == nil {
		err = d.swap(ctx)
	}
	if err != nil {
		return errors.Join(err, d.cleanUp(ctx))
	}
	// The new database is in place; one that stays beside it is dropped by the next operation.
	_ = d.drop(ctx, d.previous)
	return nil
}

func (d *database) fillSide(ctx context.Context, like *traits, fill func() error) error {
	d.role = d.props.Owner
	if d.role == "" && like != nil {
		d.role = like.owner
	}
	if err := d.create(ctx, like); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	if err := d.analyze(ctx); err != nil {
		return err
	}
	return like.apply(ctx, d.admin, d.next)
}

// create makes an empty side database.
func (d *database) create(ctx context.Context, like *traits) error {
	statement := "create database " + quote(d.next) + " template template0"
	if d.role != "" {
		statement += " owner " + quote(d.role)
	}
	_, err := d.admin.Exec(ctx, statement+like.options())
	return err
}

// analyze reads the new database once, which proves that it can be read, and gives the planner its statistics
// before the clients come back.
func (d *database) analyze(ctx context.Context) error {
	conn, err := d.connect(ctx, d.next)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var tables string
	err = conn.QueryRow(ctx, `
		select coalesce(string_agg(format('%I.%I', nspname, relname), ','), '')
		from pg_class c join pg_namespace n on n.oid = relnamespace
		where relkind in ('r', 'm', 'p') and nspname <> 'information_schema' and nspname !~ '^pg_'`).Scan(&tables)
	if err != nil || tables == "" {
		return err
	}
	_, err = conn.Exec(ctx, "analyze "+tables)
	return err
}

// cleanUp drops the side database, also after ctx ended, which closed the connection.
func (d *database) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	tick := time.NewTicker(swapTick)
	defer tick.Stop()
	for {
		err := d.dropNext(ctx)
		if !errors.Is(err, errRecovers) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// errRecovers says that a server is recovering from the crash of one of its processes, or about to.
var errRecovers = errors.New("the server recovers from a crash")

func (d *database) dropNext(ctx context.Context) error {
	conn, err := d.connect(ctx, d.server.Database)
	if hasCode(err, "57P03") { // cannot connect now
		return fmt.Errorf("%w: %w", errRecovers, err)
	}
	if err != nil {
		return fmt.Errorf("%w (the side database %q stays until the next operation drops it)", err, d.next)
	}
	defer closeConn(ctx, conn)
	_, err = conn.Exec(ctx, "drop database if exists "+quote(d.next)+" with (force)")
	if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && (!refused || hasCode(err, "57P02")) { // the server ended the session
		return fmt.Errorf("%w: %w", errRecovers, err)
	}
	return err
}

// swap gives the side database the name, and the database that had it the other side name, both or neither.
func (d *database) swap(ctx context.Context) error {
	worker, err := d.connect(ctx, d.server.Database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, worker)
	for range swapAttempts {
		if err = d.swapOnce(ctx, worker); !hasCode(err, objectInUse) {
			return err
		}
	}
	return fmt.Errorf("clients reconnect faster than they can be disconnected (stop them): %w", err)
}

// swapOnce renames on one connection, and on another one ends the sessions that the rename waits for. New clients
// wait for the rename's lock meanwhile.
func (d *database) swapOnce(ctx context.Context, worker *pgx.Conn) error {
	if err := d.terminate(ctx, d.admin); err != nil {
		return err
	}
	renamed := make(chan error, 1)
	go func() { renamed <- d.rename(ctx, worker) }()
	tick := time.NewTicker(swapTick)
	defer tick.Stop()
	var trouble error
	for {
		select {
		case err := <-renamed:
			if err != nil {
				err = errors.Join(err, trouble)
			}
			return err
		case <-tick.C:
			if err := d.terminate(ctx, d.admin); err != nil {
				trouble = err
			}
		}
	}
}

func (d *database) rename(ctx context.Context, worker *pgx.Conn) error {
	return pgx.BeginFunc(ctx, worker, func(tx pgx.Tx) error {
		var found bool
		if err := tx.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", d.name).Scan(&found); err != nil {
			return err
		}
		if found {
			if _, err := tx.Exec(ctx, "alter database "+quote(d.name)+" rename to "+quote(d.previous)); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "alter database "+quote(d.next)+" rename to "+quote(d.name))
		return err
	})
}

func hasCode(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}

// copyOf makes the database a copy of source.
func (d *database) copyOf(ctx context.Context, source *database) error {
	like, err := source.traits(ctx, source.name)
	if err != nil {
		return err
	}
	return d.build(ctx, like, func() error { return d.pipeFrom(ctx, source) })
}

// idle says whether nobody is connected to the database.
func (d *database) idle(ctx context.Context) (bool, error) {
	var idle bool
	err := d.admin.QueryRow(ctx, "select not exists (select from pg_stat_activity where datname = $1 and backend_type = 'client backend')", d.name).Scan(&idle)
	return idle, err
}

// pipeFrom fills the side database from a dump of the source, which nobody compares, so that its order is the quickest.
func (d *database) pipeFrom(ctx context.Context, source *database) error {
	r, w := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := source.dumpWhole(ctx, w, source.privileges()...)
		w.CloseWithError(err)
		dumped <- err
	}()
	err := d.load(ctx, r)
	r.CloseWithError(errors.New("the copy stopped reading"))
	if dumpErr := <-dumped; dumpErr != nil && err == nil {
		return dumpErr
	}
	return err
}

// literal quotes a string constant.
func literal(v string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(v) + "'"
}

// listSettings are the settings whose stored value is a list of quoted identifiers.
var listSettings = []string{"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"}

// settingValue writes a stored value of a setting as it must stand in SET.
func settingValue(name, value string) string {
	if !slices.Contains(listSettings, strings.ToLower(name)) {
		return literal(value)
	}
	elements := splitIdentifiers(value)
	for i, e := range elements {
		elements[i] = literal(e)
	}
	return strings.Join(elements, ",")
}

// splitIdentifiers takes a comma-separated list of possibly quoted identifiers apart.
func splitIdentifiers(list string) []string {
	var elements []string
	var b strings.Builder
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"' && quoted && i+1 < len(list) && list[i+1] == '"':
			b.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			elements = append(elements, b.String())
			b.Reset()
		case c == ' ' && !quoted:
		default:
			b.WriteByte(c)
		}
	}
	return append(elements, b.String())
}

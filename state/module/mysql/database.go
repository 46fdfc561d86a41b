package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"orrery/state"
)

const (
	connectTimeout = 10 * time.Second
	// cleanupTimeout bounds the removal of side databases after a failure, also when the operation was cancelled.
	cleanupTimeout = 30 * time.Second
)

// database is one component's database during one operation.
type database struct {
	server   server
	props    properties
	secret   string
	name     string
	next     string // side database that is being filled
	previous string // side database that has the tables that were replaced
	journal  string // side database that says how to undo what is under way, or how to bring back what lies on a shelf
	shelves  [2]string
	parked   string // the shelf on which the component lies; empty while it is in its own database
	pool     *sql.DB
	conn     *sql.Conn
	version  string
	events   []statement // that a load left for the swap
}

func open(ctx context.Context, t state.Target) (*database, error) {
	s, p, err := resolve(t)
	if err != nil {
		return nil, err
	}
	return openAt(ctx, s, p)
}

// openAt opens a database on a server.
func openAt(ctx context.Context, s server, p properties) (d *database, err error) {
	side := sidePrefix + digest(p.Database)
	d = &database{server: s, props: p, name: p.Database, next: side + "-next", previous: side + "-previous", journal: side + "-journal", shelves: [2]string{side + "-shelf-1", side + "-shelf-2"}}
	if d.secret, err = s.password(); err != nil {
		return nil, err
	}
	config := driver.NewConfig()
	config.User, config.Passwd, config.Net, config.Addr = s.User, d.secret, "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	if s.Socket != "" {
		config.Net, config.Addr = "unix", s.Socket
	}
	config.Timeout, config.InterpolateParams, config.ParseTime = connectTimeout, true, true
	config.MaxAllowedPacket = 0 // the server's
	config.Logger = &driver.NopLogger{}
	config.Params = map[string]string{
		"time_zone": "'+00:00'", "sql_mode": "'NO_AUTO_VALUE_ON_ZERO'", "sql_notes": "0", "lock_wait_timeout": "10",
	}
	if s.replica {
		config.Params["tx_read_only"] = "1"
	}
	connector, err := driver.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", state.ErrBadProperty, err)
	}
	d.pool = sql.OpenDB(connector)
	err = d.connect(ctx)
	if err == nil {
		err = d.locate(ctx)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *database) connect(ctx context.Context) error {
	conn, err := d.pool.Conn(ctx)
	if err == nil {
		d.conn = conn
		return conn.QueryRowContext(ctx, "select version()").Scan(&d.version)
	}
	if refused, ok := errors.AsType[*driver.MySQLError](err); ok {
		return fmt.Errorf("server %s refuses user %q: %w", d.server.address(), d.server.User, refused)
	}
	return fmt.Errorf("cannot connect to the server at %s (is it running, and is this its address?): %w: %w", d.server.address(), state.ErrUnreachable, err)
}

// address is the server's, for messages.
func (s server) address() string {
	if s.Socket != "" {
		return s.Socket
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
}

func (d *database) close() {
	if d.conn != nil {
		_ = d.conn.Close()
	}
	_ = d.pool.Close()
}

func (d *database) mariaDB() bool { return strings.Contains(d.version, "MariaDB") }

// exec carries out a statement; each %s in it is replaced by a quoted identifier.
func (d *database) exec(ctx context.Context, format string, identifiers ...string) error {
	quoted := make([]any, len(identifiers))
	for i, name := range identifiers {
		quoted[i] = quote(name)
	}
	_, err := d.conn.ExecContext(ctx, fmt.Sprintf(format, quoted...))
	return err
}

// strings returns the first column of a query.
func (d *database) strings(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := d.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

func (d *database) exists(ctx context.Context, name string) (bool, error) {
	var found bool
	err := d.conn.QueryRowContext(ctx, "select exists (select 1 from information_schema.schemata where schema_name = ?)", name).Scan(&found)
	return found, err
}

// mustExist is an error where the component's database does not exist.
func (d *database) mustExist(ctx context.Context) error {
	exists, err := d.exists(ctx, d.place())
	if err != nil || exists {
		return err
	}
	return fmt.Errorf("database %q %w on the server at %s", d.name, state.ErrNotFound, d.server.address())
}

// mustServe is an error where the component's clients do not find its database.
func (d *database) mustServe(ctx context.Context) error {
	if d.parked != "" {
		return fmt.Errorf("database %q was taken out of its clients' reach: %w", d.name, state.ErrInactive)
	}
	return d.mustExist(ctx)
}

// ready is an error where no dump of the component is possible. What was interrupted is undone.
func (d *database) ready(ctx context.Context) error {
	return inOrder(
		func() error { return d.recover(ctx) },
		func() error { return d.mustExist(ctx) },
		func() error { return d.checkEngines(ctx) },
	)
}

func (d *database) drop(ctx context.Context, name string) error {
	return d.exec(ctx, "drop database if exists %s", name)
}

// tables are the tables and sequences of a database.
func (d *database) tables(ctx context.Context, name string) ([]string, error) {
	return d.strings(ctx, `select table_name from information_schema.tables
		where table_schema = ? and table_type in ('BASE TABLE', 'SEQUENCE', 'SYSTEM VERSIONED') order by table_name`, name)
}

// terminate ends the sessions whose database this is.
func (d *database) terminate(ctx context.Context) error {
	ids, err := d.strings(ctx, "select id from information_schema.processlist where db = ? and id <> connection_id()", d.name)
	if err != nil {
		return err
	}
	for _, id := range ids {
		_, err := d.conn.ExecContext(ctx, "kill "+id)
		if err != nil && !hasNumber(err, 1094) { // it ended by itself
			return err
		}
	}
	return nil
}

func hasNumber(err error, number uint16) bool {
	refused, ok := errors.AsType[*driver.MySQLError](err)
	return ok && refused.Number == number
}

// checkEngines refuses tables of which no consistent dump is possible.
func (d *database) checkEngines(ctx context.Context) error {
	odd, err := d.strings(ctx, `select concat(table_name, ' (', if(table_type = 'SYSTEM VERSIONED', 'system versioned', ifnull(engine, 'damaged')), ')')
		from information_schema.tables where table_schema = ?
		and (table_type = 'SYSTEM VERSIONED' or table_type in ('BASE TABLE', 'SEQUENCE') and ifnull(engine, '') <> 'InnoDB') order by 1 limit 5`, d.place())
	if err != nil || len(odd) == 0 {
		return err
	}
	return fmt.Errorf("%w dump tables that are not of InnoDB, or keep versions, as of one point in time: %s (alter table ... engine=InnoDB, or drop system versioning)",
		state.ErrNotAble, strings.Join(odd, ", "))
}

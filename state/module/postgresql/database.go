package postgresql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

const (
	connectTimeout = 10 * time.Second
	closeTimeout   = 2 * time.Second
	minMajor       = 13
	// cleanupTimeout bounds the removal of a side database after a failure, also when the operation was cancelled.
	cleanupTimeout = 30 * time.Second
)

// database is one component's database during one operation.
type database struct {
	server   server
	secret   string
	props    properties
	name     string
	next     string // side database that is being filled
	previous string // side database that was replaced
	role     string // owner of the side database and of what is loaded into it; empty: the container's user
	admin    *pgx.Conn
	major    int     // of the server
	source   *server // of a replica
}

func (m *Module) open(ctx context.Context, t state.Target) (*database, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	p, err := decodeComponent(t.Component)
	if err != nil {
		return nil, err
	}
	if p.Database == s.Database {
		return nil, fmt.Errorf("%w: database %q is the container's maintenance database", state.ErrBadProperty, p.Database)
	}
	k, err := mark.Read[forkMark](t)
	if err != nil {
		return nil, err
	}
	d := &database{server: s, props: p, name: k.named(p)}
	if k.Port != 0 {
		d.server = k.at(s)
	}
	if k.Method == state.ForkReplica {
		source := atPort(s, k.Source)
		d.source = &source
	}
	d.next, d.previous = sideNames(d.name)
	if d.secret, err = s.password(); err != nil {
		return nil, err
	}
	if d.admin, err = d.connect(ctx, s.Database); err != nil {
		return nil, err
	}
	var version int
	if err := d.admin.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		d.close(ctx)
		return nil, err
	}
	if d.major = version / 10000; d.major < minMajor {
		d.close(ctx)
		return nil, fmt.Errorf("the server is PostgreSQL %d, older than %d: %w work with it", d.major, minMajor, state.ErrNotAble)
	}
	return d, nil
}

// address is the server's, for messages.
func (s server) address() string {
	if strings.HasPrefix(s.Host, "/") {
		return s.Host + "/.s.PGSQL." + strconv.Itoa(s.Port)
	}
	return net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
}

// connect opens a connection to a database of the server.
func (d *database) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	// Every value is given, so that PG... variables and files of the node's user decide nothing.
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=%s connect_timeout=%d passfile=%s application_name=orrery",
		quoteValue(d.server.Host), d.server.Port, quoteValue(d.server.User), quoteValue(name), d.server.SSLMode,
		int(connectTimeout.Seconds()), quoteValue("/dev/null")))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", state.ErrBadProperty, err)
	}
	config.Password = d.secret
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		return conn, nil
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return nil, fmt.Errorf("server %s refuses user %q: %w", d.server.address(), d.server.User, refused)
	}
	return nil, fmt.Errorf("cannot connect to the server at %s (is it running, and is this its address?): %w", d.server.address(), err)
}

// quoteValue quotes a value of a connection string.
func quoteValue(v string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
}

func (d *database) close(ctx context.Context) { closeConn(ctx, d.admin) }

// closeConn says goodbye to the server, also after ctx ended.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // the connection is gone either way
}

// exec carries out a statement; each %s in it is replaced by a quoted identifier.
func (d *database) exec(ctx context.Context, format string, identifiers ...string) error {
	quoted := make([]any, len(identifiers))
	for i, name := range identifiers {
		quoted[i] = quote(name)
	}
	_, err := d.admin.Exec(ctx, fmt.Sprintf(format, quoted...))
	return err
}

func quote(identifier string) string { return pgx.Identifier{identifier}.Sanitize() }

func (d *database) exists(ctx context.Context, name string) (bool, error) {
	var found bool
	err := d.admin.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&found)
	return found, err
}

// drop removes a database with whoever is connected to it.
func (d *database) drop(ctx context.Context, name string) error {
	return d.exec(ctx, "drop database if exists %s with (force)", name)
}

// dropSides removes what an interrupted operation left.
func (d *database) dropSides(ctx context.Context) error {
	if err := d.drop(ctx, d.next); err != nil {
		return err
	}
	return d.drop(ctx, d.previous)
}

// openForClients undoes closeForClients.
func (d *database) openForClients(ctx context.Context) error {
	return d.exec(ctx, "alter database %s reset default_transaction_read_only", d.name)
}

// closeForClients lets new sessions only read, and ends those that are there.
func (d *database) closeForClients(ctx context.Context) error {
	if err := d.exec(ctx, "alter database %s set default_transaction_read_only = on", d.name); err != nil {
		return err
	}
	return d.terminate(ctx, d.admin)
}

// terminate ends all sessions of the database.
func (d *database) terminate(ctx context.Context, by *pgx.Conn) error {
	_, err := by.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()", d.name)
	return err
}

// ping asks the database itself.
func (d *database) ping(ctx context.Context) error {
	conn, err := d.connect(ctx, d.name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	var readOnly string
	if err := conn.QueryRow(ctx, "select current_setting('transaction_read_only')").Scan(&readOnly); err != nil {
		return err
	}
	if readOnly == "on" {
		return fmt.Errorf("database %q is read-only: %w", d.name, state.ErrInactive)
	}
	return nil
}

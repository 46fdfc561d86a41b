package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

// replication is how a replica's server says it follows.
type replication struct {
	linked  bool
	running bool   // it carries out what it reads
	failure string // why one of the two is not so; empty if that is not known
	lost    bool   // it will never be so again
	read    string // up to which it has read
	at      position
	behind  time.Duration // -1: not known
}

// logIsGone is what the source answers that does not have the log that is asked for, or has another one.
const logIsGone = 1236

// replication asks a replica's server.
func (d *database) replication(ctx context.Context) (r replication, err error) {
	values, err := d.row(ctx, "show slave status")
	if err != nil {
		return r, err
	}
	r = replication{
		linked: values["Slave_IO_Running"] == "Yes", running: values["Slave_SQL_Running"] == "Yes",
		read: values["Gtid_IO_Pos"], at: position{file: values["Relay_Master_Log_File"]}, behind: -1,
	}
	if n, err := strconv.ParseInt(values["Exec_Master_Log_Pos"], 10, 64); err == nil {
		r.at.offset = n
	}
	if n, err := strconv.Atoi(values["Seconds_Behind_Master"]); err == nil {
		r.behind = time.Duration(n) * time.Second
	}
	switch {
	case !r.running && values["Last_SQL_Error"] != "":
		r.failure, r.lost = values["Last_SQL_Error"], true
	case !r.linked:
		r.failure, r.lost = values["Last_IO_Error"], values["Last_IO_Errno"] == strconv.Itoa(logIsGone)
	}
	return r, nil
}

// row is the only row of a query, by column; empty if there is none.
func (d *database) row(ctx context.Context, query string) (map[string]string, error) {
	rows, err := d.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	names, err := rows.Columns()
	if err != nil || !rows.Next() {
		return nil, errorsOf(err, rows)
	}
	texts := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range texts {
		into[i] = &texts[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, err
	}
	values := make(map[string]string, len(names))
	for i, name := range names {
		values[name] = texts[i].String
	}
	return values, rows.Err()
}

func errorsOf(err error, rows *sql.Rows) error {
	if err != nil {
		return err
	}
	return rows.Err()
}

// Lag implements state.Replicator.
func (m *Module) Lag(ctx context.Context, t state.Target) (lag state.Lag, err error) {
	c, served, err := thinOf(t)
	if err != nil {
		return lag, err
	}
	k, err := mark.Read[forkMark](t)
	switch {
	case err != nil:
		return lag, err
	case k.Method != state.ForkReplica:
		return lag, fmt.Errorf("cannot find the lag of %s: %w: it is no replica", t.Component.Ref(), state.ErrBadProperty)
	case served && !c.Running():
		return lag, fmt.Errorf("the server of %s does not run: %w", t.Component.Ref(), state.ErrInactive)
	}
	err = m.with(ctx, t, "find the lag of", func(d *database) error {
		lag, err = d.lag(ctx, t, k)
		return err
	})
	return lag, err
}

func (d *database) lag(ctx context.Context, t state.Target, k forkMark) (state.Lag, error) {
	var has string
	if err := d.conn.QueryRowContext(ctx, "select @@gtid_slave_pos").Scan(&has); err != nil {
		return state.Lag{}, err
	}
	r, err := d.replication(ctx)
	if err != nil {
		return state.Lag{}, err
	}
	lag := state.Lag{Linked: r.linked, Lost: r.lost, Problem: r.failure, Bytes: -1, Behind: r.behind}
	if !r.linked {
		lag.Behind = -1
	}
	unreached := d.ahead(ctx, t, k, has, r, &lag.Bytes)
	if lag.Bytes == 0 {
		lag.Behind = 0
	}
	switch {
	case lag.Problem != "":
	case k.Promoting:
		lag.Problem = "its promotion was not finished (promote it again)"
	case r.linked && r.running:
	case unreached != nil:
		lag.Problem = unreached.Error()
	case r.running:
		lag.Problem = "it is just connecting to its source"
	default:
		lag.Problem = "its server does not follow (activate it)"
	}
	lag.Problem = strings.Join(strings.Fields(lag.Problem), " ")
	return lag, ctx.Err()
}

// ahead is how many bytes of binary log the source has that a replica has not carried out.
func (*database) ahead(ctx context.Context, t state.Target, k forkMark, has string, r replication, bytes *int64) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	source, err := originOf(ctx, t, k)
	if err != nil {
		return err
	}
	defer source.close()
	end, err := source.committed(ctx)
	if err != nil {
		return err
	}
	if sameGTIDs(has, end) { // what comes after is of the server itself, such as the beginning of another file
		*bytes = 0
		return nil
	}
	names, sizes, err := source.binaryLogs(ctx)
	if err != nil {
		return err
	}
	i := slices.Index(names, r.at.file)
	if i < 0 {
		return nil
	}
	*bytes = max(1, sum(sizes[i:])-r.at.offset) // of which some are of a transaction
	return nil
}

func sum(all []int64) (n int64) {
	for _, one := range all {
		n += one
	}
	return n
}

// sameGTIDs compares two positions, which are lists in any order.
func sameGTIDs(a, b string) bool {
	sorted := func(s string) []string {
		all := strings.Split(s, ",")
		slices.Sort(all)
		return all
	}
	return slices.Equal(sorted(a), sorted(b))
}

// notLost finds why a replica will never follow again.
func (d *database) notLost(ctx context.Context) error {
	if !d.server.replica {
		return nil
	}
	r, err := d.replication(ctx)
	if err == nil && r.lost {
		err = fmt.Errorf("it will not follow its source any more: %s (make it anew: orrery component replica rebuild)", r.failure)
	}
	return err
}

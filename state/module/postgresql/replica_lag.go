package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/module/postgresql/thin"
)

// lost are what a server says that will never follow its source again.
var lost = []string{
	"has already been removed",           // the log that it has to read next
	"database system identifier differs", // the source is another one now
	"is not in this server's history",    // the source was restored to a time before
	"is ahead of the WAL flush position",
	"of the primary is behind recovery timeline",
}

const startedReading = "started streaming WAL"

// Lag implements state.Replicator.
func (m *Module) Lag(ctx context.Context, t state.Target) (lag state.Lag, err error) {
	c, served, err := thinOf(t)
	switch {
	case err != nil:
		return lag, err
	case served && !c.Running():
		return lag, fmt.Errorf("the server of %s does not run: %w", t.Component.Ref(), state.ErrInactive)
	}
	err = m.with(ctx, t, "find the lag of", func(d *database) error {
		if !d.replica() {
			return fmt.Errorf("%w: it is no replica", state.ErrBadProperty)
		}
		lag, err = d.lag(ctx, c)
		return err
	})
	return lag, err
}

// progress is how far a standby is.
type progress struct {
	standby, linked, paused bool
	replayed                string
	since                   *float64 // seconds, since the last commit that it has
}

func (d *database) lag(ctx context.Context, c thin.Copy) (lag state.Lag, err error) {
	var p progress
	err = d.admin.QueryRow(ctx, `select pg_is_in_recovery(), exists (select from pg_stat_wal_receiver where status = 'streaming'),
		case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end, coalesce(pg_last_wal_replay_lsn(), '0/0')::text,
		extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8`).Scan(&p.standby, &p.linked, &p.paused, &p.replayed, &p.since)
	if err != nil {
		return lag, err
	}
	lag = state.Lag{Linked: p.linked, Bytes: -1, Behind: -1}
	unreached := d.ahead(ctx, p.replayed, &lag.Bytes)
	switch {
	case lag.Bytes == 0:
		lag.Behind = 0
	case p.since != nil:
		lag.Behind = time.Duration(max(0, *p.since) * float64(time.Second))
	}
	lag.Problem, lag.Lost = d.problem(c, p, unreached)
	return lag, ctx.Err()
}

// ahead is how many bytes of log the source has that a standby has not carried out.
func (d *database) ahead(ctx context.Context, replayed string, bytes *int64) error {
	source := d.origin()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := source.connect(ctx, source.server.Database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return conn.QueryRow(ctx, "select greatest(0, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), $1::text::pg_lsn))::int8", replayed).Scan(bytes)
}

// problem says why a replica does not follow its source; empty if it does.
func (d *database) problem(c thin.Copy, p progress, unreached error) (why string, isLost bool) {
	switch {
	case !p.standby:
		return "its promotion was not finished (promote it again)", false
	case p.paused:
		return "its server cannot go on with settings smaller than those of its source (deactivate and activate it)", false
	case p.linked:
		return "", false
	}
	why = c.LastFailure(startedReading)
	if isLost = slices.ContainsFunc(lost, func(text string) bool { return strings.Contains(why, text) }); isLost {
		return why, true
	}
	if unreached != nil {
		return strings.Join(strings.Fields(unreached.Error()), " "), false
	}
	if why == "" {
		why = "it is just connecting to its source"
	}
	return why, false
}

// serves finds why a replica does not serve, or will never follow again.
func (d *database) serves(ctx context.Context, c thin.Copy) error {
	conn, err := d.connect(ctx, d.name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	linked, err := d.linked(ctx, conn)
	if err != nil || linked {
		return err
	}
	if why, isLost := d.problem(c, progress{standby: true}, nil); isLost {
		return fmt.Errorf("it will not follow its source any more: %s (make it anew: orrery component replica rebuild)", why)
	}
	return nil
}

package postgresql

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/postgresql/thin"
)

// A replica is a thin fork that stays what it is while it is made: a hot standby, which reads the source's log. The source keeps no
// log for it: it has no replication slot, so that one which is away for long is lost, and the source's disk is not.

var _ state.Replicator = (*Module)(nil)

// replicaSettings are those of a server that reads the source's log for good. Queries may hold up what would take away the rows that
// they read, but the source holds back nothing for them. Attempts to reach a source that is gone do not fill the disk.
const replicaSettings = `hot_standby_feedback = off
max_standby_streaming_delay = '5min'
max_standby_archive_delay = '5min'
wal_retrieve_retry_interval = '1s'
wal_receiver_timeout = '20s'
logging_collector = on
log_directory = '` + thin.LogFolder + `'
log_filename = '%H.log'
log_rotation_age = '1h'
log_rotation_size = 0
log_truncate_on_rotation = on
`

// Replicate implements state.Replicator.
func (m *Module) Replicate(ctx context.Context, from, into state.Target) error {
	return m.with(ctx, from, "replicate", func(source *database) error {
		k, err := mark.Read[forkMark](from)
		if err != nil {
			return err
		}
		if k.Method == state.ForkLayered {
			return fmt.Errorf("it is a layer over another database: %w follow that (replicate the database under it)", state.ErrNotAble)
		}
		s, err := decodeContainer(into.Container)
		if err != nil {
			return err
		}
		if s = atPort(s, k.Port); s.Host != source.server.Host || s.Port != source.server.Port {
			return fmt.Errorf("container %s is another server: %w follow a source that is not in its own container", into.Container.Name, state.ErrNotAble)
		}
		return m.secondServer(ctx, into, &thinFork{
			source: source, name: source.name, follows: true, mark: forkMark{Method: state.ForkReplica, Database: source.name, Source: k.Port},
		})
	})
}

// replica says whether the database is one of a replica.
func (d *database) replica() bool { return d.source != nil }

// origin is the source of a replica; it is not connected.
func (d *database) origin() *database {
	return &database{server: *d.source, secret: d.secret, name: d.name, major: d.major}
}

// follow starts the server of a replica, or has it read anew where its source is.
func (m *Module) follow(ctx context.Context, t state.Target, c thin.Copy, k forkMark) error {
	if k.Promoting {
		if err := c.Start(ctx); err != nil {
			return err
		}
		return m.finishPromotion(ctx, t, c, k)
	}
	s, err := decodeContainer(t.Container)
	if err != nil {
		return err
	}
	source := &database{server: atPort(s, k.Source)}
	if source.secret, err = s.password(); err != nil {
		return err
	}
	if err := c.Mount(); err != nil {
		return err
	}
	if err := writeSource(c, source.server, source.secret, replicaSettings); err != nil {
		return err
	}
	if err := m.renewSettings(ctx, c, k.Port, source); err != nil {
		m.log.WarnContext(ctx, "a replica starts without its source", "component", t.Component.Ref().String(), "because", err)
	}
	if c.Running() {
		going, err := m.reload(ctx, t)
		if err != nil || going {
			return err
		}
		if err := c.Stop(ctx); err != nil {
			return err
		}
	}
	return c.Start(ctx)
}

// renewSettings takes over the source's settings as they are now.
func (m *Module) renewSettings(ctx context.Context, c thin.Copy, port int, source *database) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := source.connect(ctx, source.server.Database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	config, err := settings(ctx, conn, port)
	if err != nil {
		return err
	}
	return c.Write(thin.ConfigName, config)
}

// reload has the running server of a replica read its settings. It is false if that does not help, since the server does not
// read the log, or cannot go on with it.
func (m *Module) reload(ctx context.Context, t state.Target) (going bool, err error) {
	err = m.with(ctx, t, "reload the server of", func(d *database) error {
		return d.admin.QueryRow(ctx, `select pg_reload_conf() and not pg_is_wal_replay_paused()
			and (select source <> 'command line' from pg_settings where name = 'primary_conninfo')`).Scan(&going)
	})
	return going, err
}

// Promote implements state.Replicator.
func (m *Module) Promote(ctx context.Context, t state.Target) (method string, err error) {
	k, err := mark.Read[forkMark](t)
	switch {
	case err != nil:
		return "", err
	case k.Method == state.ForkThin:
		return k.Method, nil
	case k.Method != state.ForkReplica:
		return "", fmt.Errorf("cannot promote %s: %w: it is no replica", t.Component.Ref(), state.ErrBadProperty)
	}
	c, _, err := thinOf(t)
	if err != nil {
		return "", err
	}
	if !k.Promoting {
		if err := m.follow(ctx, t, c, k); err != nil {
			return "", err
		}
		if err := m.with(ctx, t, "promote", func(d *database) error { return d.catchUp(ctx) }); err != nil {
			return "", err
		}
		k.Promoting = true // recorded first, so that whoever starts the server next goes on
		if err := mark.Write(t, k); err != nil {
			return "", err
		}
	}
	return state.ForkThin, m.follow(ctx, t, c, k)
}

// catchUp waits until a replica that reads its source's log has what is committed there now.
func (d *database) catchUp(ctx context.Context) error {
	linked, err := d.linked(ctx, d.admin)
	if err != nil || !linked {
		return err
	}
	conn, err := d.origin().connect(ctx, d.name)
	if err != nil {
		return nil // the source is just going away, and what was read of its log is all there is
	}
	defer closeConn(ctx, conn)
	end, err := logged(ctx, conn)
	if err != nil {
		return err
	}
	if err := awaitReplay(ctx, d.admin, end, func() bool { return false }); err != nil {
		return fmt.Errorf("it does not reach its source's state: %w", err)
	}
	return nil
}

func (*database) linked(ctx context.Context, conn *pgx.Conn) (linked bool, err error) {
	err = conn.QueryRow(ctx, "select exists (select from pg_stat_wal_receiver where status = 'streaming')").Scan(&linked)
	return linked, err
}

// finishPromotion makes a replica's running server one by itself, from wherever an earlier attempt ended.
func (m *Module) finishPromotion(ctx context.Context, t state.Target, c thin.Copy, k forkMark) error {
	err := m.with(ctx, t, "promote", func(d *database) error {
		var standby bool
		if err := d.admin.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
			return err
		}
		if standby {
			if err := becomePrimary(ctx, d.admin); err != nil {
				return err
			}
		}
		if err := forgetSource(c); err != nil {
			return err
		}
		_, err := d.admin.Exec(ctx, "select pg_reload_conf()")
		return errors.Join(err, d.exec(ctx, "alter database %s reset "+fence, d.name))
	})
	if err != nil {
		return err
	}
	return mark.Write(t, forkMark{Method: state.ForkThin, Port: k.Port, Bin: k.Bin, Database: k.Database})
}

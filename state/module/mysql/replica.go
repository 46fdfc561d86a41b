package mysql

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/mysql/thin"
)

// A replica is a thin fork whose server goes on with the source's binary log, by the server's own replication. Where it is in the
// log is a row of its own, written together with what it carries out, so that it goes on after a crash.
//
// The server is read-only for everybody but accounts with the right READ ONLY ADMIN, which the container's user has. So its clients
// get an account of their own.

var _ state.Replicator = (*Module)(nil)

// replicaSettings are those that a replica's server has beside those of a thin fork. It tries for good to reach a source that is gone,
// and takes no more of the log than it has room for.
const replicaSettings = readOnly + `server-id = %d
relay-log = relay
relay-log-space-limit = 1G
master-retry-count = 0
slave-net-timeout = 20
`

const (
	readOnly = "read-only = ON\n"
	// replayLimit is how long a replica may take to carry out what it is behind, which maxBehind bounds.
	replayLimit = 5 * time.Minute
	// replayTick is how often it is looked at meanwhile.
	replayTick = 10 * time.Millisecond
)

// Replicate implements state.Replicator.
func (m *Module) Replicate(ctx context.Context, from, into state.Target) error {
	return m.with(ctx, from, "replicate", func(source *database) error {
		s, err := decodeContainer(into.Container)
		if err != nil {
			return err
		}
		if s.address() != source.server.address() {
			return fmt.Errorf("container %s is another server: %w follow a source that is not in its own container", into.Container.Name, state.ErrNotAble)
		}
		return m.secondServer(ctx, into, &thinFork{source: source, into: into, verb: "replicate it", follows: true})
	})
}

// beginReplica starts the server, has it follow the source, and waits until it has what the source has now.
func (f *thinFork) beginReplica(ctx context.Context, config string) error {
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails
	if err := f.Write(thin.ConfigName, config+fmt.Sprintf(replicaSettings, binary.BigEndian.Uint32(id[:])|1<<31)); err != nil {
		return err
	}
	k := forkMark{
		Method: state.ForkReplica, Port: f.port, Database: f.source.name, Program: f.Program, User: "orrery_replica_" + digest(f.into.Directory),
	}
	s, p := k.at(f.into, f.source.server, f.source.props)
	s.replica = false
	if err := startAt(ctx, f.Copy, s, p); err != nil {
		return err
	}
	replica, err := openAt(ctx, s, p)
	if err != nil {
		return err
	}
	defer replica.close()
	if err := f.attach(ctx, replica); err != nil {
		return fmt.Errorf("the copy does not follow the source: %w", err)
	}
	if err := inOrder(
		func() error { return replica.mustExist(ctx) },
		func() error { return replica.letRead(ctx, k.User) },
		f.Sync,
	); err != nil {
		return err
	}
	return mark.Write(f.into, k)
}

// attach has a server follow the source from where its base was taken.
func (f *thinFork) attach(ctx context.Context, replica *database) error {
	from, err := backedUpTo(f.base)
	if err != nil {
		return err
	}
	var at *string
	if err := f.source.conn.QueryRowContext(ctx, "select binlog_gtid_pos(?, ?)", from.file, from.offset).Scan(&at); err != nil {
		return err
	}
	if at == nil {
		return errors.New("the source's server removed its binary log meanwhile (set binlog_expire_logs_seconds)")
	}
	if _, err := replica.conn.ExecContext(ctx, "alter table mysql.gtid_slave_pos engine=InnoDB"); err != nil {
		return err
	}
	if _, err := replica.conn.ExecContext(ctx, "set global gtid_slave_pos = ?", *at); err != nil {
		return err
	}
	if err := replica.readFrom(ctx, f.source); err != nil {
		return err
	}
	end, err := f.source.committed(ctx)
	if err != nil {
		return err
	}
	return replica.awaitReplay(ctx, end)
}

// committed is all that the server has in its binary log.
func (d *database) committed(ctx context.Context) (end string, err error) {
	err = d.conn.QueryRowContext(ctx, "select @@gtid_binlog_pos").Scan(&end)
	return end, err
}

// readFrom has a replica read the source's log, from where it is. Replication knows no sockets.
func (d *database) readFrom(ctx context.Context, source *database) error {
	host, port := source.server.Host, source.server.Port
	if source.server.Socket != "" {
		host = "127.0.0.1"
		if err := source.conn.QueryRowContext(ctx, "select @@port").Scan(&port); err != nil {
			return err
		}
	}
	if _, err := d.conn.ExecContext(ctx, "stop slave"); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "change master to master_host = ?, master_port = ?, master_user = ?, master_password = ?, master_use_gtid = slave_pos, master_connect_retry = 1",
		host, port, source.server.User, source.secret); err != nil {
		return err
	}
	_, err := d.conn.ExecContext(ctx, "start slave")
	return err
}

// awaitReplay waits until a replica has what is committed up to an end.
func (d *database) awaitReplay(ctx context.Context, end string) error {
	ctx, cancel := context.WithTimeout(ctx, replayLimit)
	defer cancel()
	tick := time.NewTicker(replayTick)
	defer tick.Stop()
	for {
		var there int
		if err := d.conn.QueryRowContext(ctx, "select master_gtid_wait(?, 0)", end).Scan(&there); err != nil || there == 0 {
			return err
		}
		r, err := d.replication(ctx)
		if err != nil {
			return err
		}
		if r.failure != "" {
			return errors.New(r.failure)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// letRead lets a replica's clients read the database, and no more.
func (d *database) letRead(ctx context.Context, user string) error {
	return d.let(ctx, user, "select, show view")
}

func (d *database) let(ctx context.Context, user, rights string) error {
	database := quote(strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`).Replace(d.name))
	for _, host := range []string{"127.0.0.1", "localhost"} { // by which of them the server calls it depends on its settings
		account := quote(user) + "@" + quote(host)
		for _, statement := range []string{"create user if not exists ", "alter user "} {
			if _, err := d.conn.ExecContext(ctx, statement+account+" identified by ?", d.secret); err != nil {
				return err
			}
		}
		if _, err := d.conn.ExecContext(ctx, "grant "+rights+" on "+database+".* to "+account); err != nil {
			return err
		}
	}
	return nil
}

// administer does something with a replica's server that its modules' operations must not.
func administer(ctx context.Context, t state.Target, do func(replica *database) error) error {
	s, p, err := resolve(t)
	if err != nil {
		return err
	}
	s.replica = false
	d, err := openAt(ctx, s, p)
	if err != nil {
		return err
	}
	defer d.close()
	return d.withoutSecret(do(d))
}

// originOf opens the source of a replica.
func originOf(ctx context.Context, t state.Target, k forkMark) (*database, error) {
	s, err := decodeContainer(t.Container)
	if err != nil {
		return nil, err
	}
	return openAt(ctx, s, properties{Database: k.Database})
}

// follow has the running server of a replica follow its source, wherever that is now.
func (m *Module) follow(ctx context.Context, t state.Target, c thin.Copy, k forkMark) error {
	if k.Promoting {
		return m.finishPromotion(ctx, t, c, k)
	}
	return administer(ctx, t, func(replica *database) error {
		if err := replica.letRead(ctx, k.User); err != nil {
			return err
		}
		r, err := replica.replication(ctx)
		if err != nil || r.linked && r.running {
			return err
		}
		source, err := originOf(ctx, t, k)
		if err != nil {
			m.log.WarnContext(ctx, "a replica starts without its source", "component", t.Component.Ref().String(), "because", err)
			_, err = replica.conn.ExecContext(ctx, "start slave")
			return err
		}
		defer source.close()
		return replica.readFrom(ctx, source)
	})
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
	if err == nil {
		err = start(ctx, t, c)
	}
	if err == nil && !k.Promoting {
		if err = m.follow(ctx, t, c, k); err == nil {
			err = administer(ctx, t, func(replica *database) error { return replica.catchUp(ctx, t, k) })
		}
		if err == nil {
			k.Promoting = true // recorded first, so that whoever starts the server next goes on
			err = mark.Write(t, k)
		}
	}
	if err == nil {
		err = m.finishPromotion(ctx, t, c, k)
	}
	if err != nil {
		return "", fmt.Errorf("cannot promote %s: %w", t.Component.Ref(), err)
	}
	return state.ForkThin, nil
}

// catchUp waits until a replica has what is committed in a source that it is linked to, or else all that it has read.
func (d *database) catchUp(ctx context.Context, t state.Target, k forkMark) error {
	r, err := d.replication(ctx)
	if err != nil || !r.running {
		return err
	}
	end := r.read
	if r.linked {
		source, err := originOf(ctx, t, k)
		if err == nil { // else it is just going away
			defer source.close()
			if end, err = source.committed(ctx); err != nil {
				return err
			}
		}
	}
	if end == "" {
		return nil
	}
	if err := d.awaitReplay(ctx, end); err != nil {
		return fmt.Errorf("it does not reach its source's state: %w", err)
	}
	return nil
}

// finishPromotion makes a replica's running server one by itself, from wherever an earlier attempt ended.
func (m *Module) finishPromotion(ctx context.Context, t state.Target, c thin.Copy, k forkMark) error {
	config, err := c.Read(thin.ConfigName)
	if err != nil {
		return err
	}
	before, _, _ := strings.Cut(config, readOnly)
	err = administer(ctx, t, func(replica *database) error {
		return inOrder(
			func() error { return replica.exec(ctx, "stop slave") },
			func() error { return replica.exec(ctx, "reset slave all") },
			func() error { return c.Write(thin.ConfigName, before) },
			func() error { return replica.let(ctx, k.User, "all privileges") },
			func() error { return replica.exec(ctx, "set global read_only = off") },
		)
	})
	if err != nil {
		return err
	}
	k.Method, k.Promoting = state.ForkThin, false
	return mark.Write(t, k)
}

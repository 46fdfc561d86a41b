package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// position is where a sequence is.
type position struct {
	last   int64
	called bool
}

// atOnce is how many sequences one statement reads.
const atOnce = 200

// positions reads the sequences of a connection's database that outlive a crash, by object id. Temporary ones belong to
// their sessions, and unlogged ones begin anew in a copy of the files, as their tables do.
func positions(ctx context.Context, conn *pgx.Conn) (found map[uint32]position, err error) {
	const undefinedTable = "42P01"
	for range 10 { // one may be dropped after its name was read
		if found, err = readPositions(ctx, conn); !hasCode(err, undefinedTable) {
			break
		}
	}
	return found, err
}

func readPositions(ctx context.Context, conn *pgx.Conn) (map[uint32]position, error) {
	rows, err := conn.Query(ctx, `select format('select %s::oid, last_value, is_called from %I.%I', c.oid, n.nspname, c.relname)
		from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'S' and c.relpersistence = 'p'`)
	if err != nil {
		return nil, err
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	found := make(map[uint32]position, len(statements))
	for some := range slices.Chunk(statements, atOnce) {
		if err := readSome(ctx, conn, strings.Join(some, " union all "), found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func readSome(ctx context.Context, conn *pgx.Conn, statement string, into map[uint32]position) error {
	rows, err := conn.Query(ctx, statement)
	if err != nil {
		return err
	}
	var id uint32
	var p position
	_, err = pgx.ForEachRow(rows, []any{&id, &p.last, &p.called}, func() error {
		into[id] = p
		return nil
	})
	return err
}

// settle puts the sequences of a promoted copy where the source's are. The log is ahead of them, by 32 values, and so is
// a copy that was made of it, as after a crash. A sequence that moved while the copy was made stays ahead, because
// the copy's rows may use any of the values between.
func settle(ctx context.Context, source, fork *pgx.Conn, before map[uint32]position) error {
	after, err := positions(ctx, source)
	if err != nil {
		return err
	}
	copied, err := positions(ctx, fork)
	if err != nil {
		return err
	}
	var b pgx.Batch
	for id, p := range before {
		if c, there := copied[id]; there && after[id] == p && c != p {
			b.Queue("select setval($1::oid::regclass, $2::bigint, $3)", id, p.last, p.called)
		}
	}
	if b.Len() == 0 {
		return nil
	}
	if err := fork.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("cannot set the copy's sequences: %w", err)
	}
	return nil
}

// settleReading puts the sequences that were read in a replica where they are in its source, if the source's server has logged
// nothing since what the replica had carried out before: else, and where the source is not reached, they stay where the log has them, up
// to 32 values ahead, because the rows may use any of the values between.
func (d *database) settleReading(ctx context.Context, at string, found map[uint32]position) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := d.connect(ctx, d.name)
	if err != nil {
		return
	}
	defer closeConn(ctx, conn)
	now, err := positions(ctx, conn)
	if err != nil {
		return
	}
	var same bool
	if err := conn.QueryRow(ctx, "select pg_current_wal_insert_lsn() <= $1::text::pg_lsn", at).Scan(&same); err != nil || !same {
		return
	}
	for id := range found {
		if p, there := now[id]; there {
			found[id] = p
		}
	}
}

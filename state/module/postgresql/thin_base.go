package postgresql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"orrery/internal/command"
	"orrery/internal/cow"
)

// maxBehind is how far, in bytes of the source's log, a base may be behind until a fork takes a new one: it replays that
// much.
const maxBehind = 256 << 20

// freshBase returns a base backup that the source's log still leads on from, and takes one if there is none.
func (f *thinFork) freshBase(ctx context.Context) (string, error) {
	var system string // another one's log may have the same names
	if err := f.source.admin.QueryRow(ctx, "select system_identifier::text from pg_control_system()").Scan(&system); err != nil {
		return "", err
	}
	return cow.Bases{
		Folder: f.folder, Source: digest(f.source.server.address() + " " + system), Usable: f.usable, Take: f.backUp,
	}.Fresh(ctx)
}

func (f *thinFork) backUp(ctx context.Context, into string) error {
	if err := os.Mkdir(into, 0o700); err != nil {
		return err
	}
	if f.Owner != nil {
		if err := os.Chown(into, int(f.Owner.Uid), int(f.Owner.Gid)); err != nil {
			return err
		}
	}
	return command.Program{
		Path: filepath.Join(f.Bin, "pg_basebackup"), Args: []string{"-D", into, "-X", "stream", "-c", "fast", "--no-password"},
		Env: f.source.shellEnvironment(), Credential: f.Owner, Secrets: []string{f.source.secret},
	}.Run(ctx)
}

// usable says whether the source still has the log from where the base ends, and is not far ahead.
func (f *thinFork) usable(ctx context.Context, base string) (bool, error) {
	if base == f.stale {
		return false, nil
	}
	label, err := os.ReadFile(filepath.Join(base, "backup_label"))
	if err != nil {
		return false, nil //nolint:nilerr // not whole, so a new one is taken
	}
	var begin string
	if _, err := fmt.Sscanf(string(label), "START WAL LOCATION: %s ", &begin); err != nil {
		return false, nil //nolint:nilerr // see above
	}
	var usable bool
	var size int64
	err = f.source.admin.QueryRow(ctx, `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn) between 0 and $2::bigint, setting::bigint
		from pg_settings where name = 'wal_segment_size'`, begin, int64(maxBehind)).Scan(&usable, &size)
	if err != nil || !usable {
		return false, err
	}
	next, err := nextSegment(filepath.Join(base, "pg_wal"), size)
	if err != nil || next == "" {
		return false, err
	}
	err = f.source.admin.QueryRow(ctx, `select exists (select from pg_ls_waldir() where name = $1)
		or left(current, 8) = left($1, 8) and current < $1 from (select pg_walfile_name(pg_current_wal_insert_lsn()) as current) c`, next).Scan(&usable)
	return usable, err
}

// nextSegment is the name of the file of the log that follows the last one in a folder; empty if there is none.
func nextSegment(folder string, size int64) (string, error) {
	entries, err := os.ReadDir(folder) // sorted
	if err != nil {
		return "", err
	}
	last := ""
	for _, entry := range entries {
		if len(entry.Name()) == 24 { // of digits: timeline, high and low part of the number
			last = entry.Name()
		}
	}
	return following(last, size), nil
}

// following is the name after a name of the log's files, which have a size.
func following(name string, size int64) string {
	var timeline, high, low uint32
	if n, err := fmt.Sscanf(name, "%8X%8X%8X", &timeline, &high, &low); err != nil || n != 3 || size <= 0 {
		return ""
	}
	if low++; int64(low) >= 1<<32/size {
		high, low = high+1, 0
	}
	return fmt.Sprintf("%08X%08X%08X", timeline, high, low)
}

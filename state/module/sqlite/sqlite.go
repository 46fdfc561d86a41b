// Package sqlite is the module sqlite-database: a component is one SQLite
// database file, which programs open by its path, in any number of processes.
//
// A snapshot is the database page by page, at a commit, as SQLite itself would see it in one read
// transaction: a connection pins that moment while the pages are read from the database file and, where
// newer, from the write-ahead log. Nobody is held up in WAL mode; with a rollback journal writers
// wait while it is read. The fields of the header that say who wrote last and not what (change
// counter, library version, journal mode) are set to fixed values, so that the same pages are the same bytes anywhere.
//
// POSIX locks belong to a process and vanish when it closes any descriptor of the file. So
// within one process only one Module may touch a database: it shares its descriptors among all that it
// does, and closes them after its last connection.
//
// Files beside the database NAME.db, in the container's folder:
//
//	NAME.db.new             a database that is being created, until its schema is loaded
//	NAME.db.stage           a Stage
//	NAME.db.restore         a snapshot that is being restored or a fork that is being made
//	NAME.db.next            complete, and from its appearance on the component's state: the module puts it in place of
//	                        NAME.db before it does anything else, also after a crash
//	NAME.db.part            a snapshot of which one table is being restored
//	NAME.db.before-restore  what a restore found and could not read
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"orrery/state"
)

// Name is the module's name.
const Name = "sqlite-database"

const (
	suffixNew     = ".new"
	suffixStage   = ".stage"
	suffixRestore = ".restore"
	suffixNext    = ".next"
	suffixAside   = ".before-restore"
)

// sidecars are the files that SQLite keeps beside a database.
var sidecars = []string{"-wal", "-shm", "-journal"}

// Module drives SQLite databases. It is safe for concurrent use.
type Module struct {
	log *slog.Logger

	mu    sync.Mutex
	files map[string]*files // by path of the database
}

var (
	_ state.Module    = (*Module)(nil)
	_ state.Stateful  = (*Module)(nil)
	_ state.Exporter  = (*Module)(nil)
	_ state.Trackable = (*Module)(nil)
	_ state.Stager    = (*Module)(nil)
	_ state.Forker    = (*Module)(nil)
	_ state.Doctor    = (*Module)(nil)
	_ state.Sizer     = (*Module)(nil)
	_ state.Quiescer  = (*Module)(nil)
)

// New returns the module; a nil logger discards.
func New(log *slog.Logger) *Module {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Module{log: log, files: map[string]*files{}}
}

type properties struct {
	Schema  string `json:"schema"`
	Journal string `json:"journal"`
}

// Describe says what the module drives and which properties it knows.
func (m *Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A SQLite database file. Programs open it by the exported path, in WAL mode, while snapshots of it are taken; " +
			"it moves between machines with a pause that depends on what changed last.",
		Properties: []state.Property{
			{Name: "schema", Type: "string", Doc: "File with the SQL that a new database begins with: an absolute path or ${file.NAME}. Loaded wholly or not at all."},
			{Name: "journal", Type: "string", Default: "wal", Doc: "Journal mode: wal, or delete for programs that cannot use WAL."},
		},
		Exports: []state.Property{
			{Name: "path", Type: "string", Doc: "Absolute path of the database file."},
		},
		Stateful: true,
	}
}

// Check finds what is wrong with a component's properties. References need not be resolved yet.
func (m *Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

func decode(c state.Component) (properties, error) {
	p := properties{Journal: "wal"}
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	if p.Journal != "wal" && p.Journal != "delete" {
		return p, fmt.Errorf("%s: %w: journal is %q, not wal or delete", c.Ref(), state.ErrBadProperty, p.Journal)
	}
	if p.Schema != "" && !strings.HasPrefix(p.Schema, "${") && !filepath.IsAbs(p.Schema) {
		return p, fmt.Errorf("%s: %w: schema %q is not an absolute path (use ${file.NAME} for a file of the manifest)",
			c.Ref(), state.ErrBadProperty, p.Schema)
	}
	return p, nil
}

// path is where a component's database is.
func path(t state.Target) string {
	return filepath.Join(t.Container.Directory, t.Component.Name+".db")
}

// Exports returns the path of the database file.
func (m *Module) Exports(t state.Target) (map[string]string, error) {
	return map[string]string{"path": path(t)}, nil
}

// Activate creates the database with its schema, or sees to it that the one that is there is sound enough to be opened.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	p, err := decode(t.Component)
	if err != nil {
		return err
	}
	db := path(t)
	if err := settle(db); err != nil {
		return err
	}
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return m.create(ctx, db, p)
	} else if err != nil {
		return err
	}
	return m.use(ctx, db, func(c *connection) error {
		if err := c.readable(ctx); err != nil {
			return err
		}
		return c.setJournal(ctx, p.Journal)
	})
}

// create makes the database beside its place and moves it there once it is whole.
func (m *Module) create(ctx context.Context, db string, p properties) (err error) {
	side := db + suffixNew
	if err := remove(side); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(side))
		}
	}()
	script := ""
	if p.Schema != "" {
		text, err := os.ReadFile(p.Schema)
		if err != nil {
			return fmt.Errorf("cannot read the schema of %s: %w", db, err)
		}
		script = string(text)
	}
	if err := m.build(ctx, side, script, p.Journal); err != nil {
		return fmt.Errorf("cannot create %s with schema %q: %w", db, p.Schema, err)
	}
	if err := syncFile(side); err != nil {
		return err
	}
	if err := os.Rename(side, db); err != nil {
		return err
	}
	return syncFolder(db)
}

// build runs the script on a new database. Its statements need not be in a transaction, and may be in
// one of their own (as in the output of .dump): the file is thrown away unless all of them succeed.
func (m *Module) build(ctx context.Context, file, script, journal string) error {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return m.use(ctx, file, func(c *connection) error {
		if err := c.exec(ctx, "PRAGMA journal_mode=memory", "PRAGMA synchronous=off"); err != nil {
			return err
		}
		// The transaction makes a database of one page even of an empty script.
		if err := c.exec(ctx, "PRAGMA user_version=0", script); err != nil {
			return err
		}
		if err := c.exec(ctx, "BEGIN IMMEDIATE", "COMMIT"); err != nil {
			return fmt.Errorf("the schema leaves a transaction open: %w", err)
		}
		return c.setJournal(ctx, journal)
	})
}

// Deactivate writes the log back into the database file, as far as whoever still has it open allows, and keeps everything.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	db := path(t)
	if err := settle(db); err != nil {
		return err
	}
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := m.use(ctx, db, func(c *connection) error {
		return c.exec(ctx, "PRAGMA busy_timeout=200", "PRAGMA wal_checkpoint(TRUNCATE)")
	})
	if err != nil {
		// A database that cannot be read can be taken out of service all the same.
		m.log.WarnContext(ctx, "cannot checkpoint database", "path", db, "error", err)
	}
	return ctx.Err()
}

// Health says whether the database can be opened and its schema read.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.use(ctx, path(t), func(c *connection) error { return c.readable(ctx) })
}

// Size is the size of the database file in bytes.
func (m *Module) Size(_ context.Context, t state.Target) (int64, error) {
	info, err := os.Stat(path(t))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// CollectGarbage deletes the database and everything that the module keeps beside it.
func (m *Module) CollectGarbage(_ context.Context, t state.Target) error {
	db := path(t)
	if err := m.unused(db); err != nil {
		return err
	}
	// The database goes last, so that no log is ever without it.
	for _, suffix := range []string{suffixNext, suffixNew, suffixStage, suffixRestore, suffixPart, suffixAside, ""} {
		if err := remove(db + suffix); err != nil {
			return err
		}
	}
	return syncFolder(db)
}

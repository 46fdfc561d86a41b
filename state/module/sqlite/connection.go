package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"orrery/state"
)

var magic = []byte("SQLite format 3\x00")

// files are the descriptors of a database that are read without SQLite. They are
// shared, because closing one drops every lock that this process has on the file.
type files struct {
	path string
	uses int      // guarded by Module.mu
	db   *os.File // open from the first use to the last
	wal  *os.File // these two are opened when they are first needed
	shm  *os.File
}

// hold opens the descriptors, or shares them.
func (m *Module) hold(path string) (*files, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[path]
	if f == nil {
		db, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("database %s: %w", path, state.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		f = &files{path: path, db: db}
		m.files[path] = f
	}
	f.uses++
	return f, nil
}

// release closes the descriptors after their last use.
func (m *Module) release(f *files) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f.uses--
	if f.uses > 0 {
		return nil
	}
	delete(m.files, f.path)
	err := f.db.Close()
	for _, side := range []*os.File{f.wal, f.shm} {
		if side != nil {
			err = errors.Join(err, side.Close())
		}
	}
	return err
}

// logFiles opens -wal and -shm, which exist as long as a connection in WAL mode is open.
func (m *Module) logFiles(f *files) (wal, shm *os.File, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.wal == nil {
		if f.wal, err = os.Open(f.path + "-wal"); err != nil {
			f.wal = nil
			return nil, nil, err
		}
	}
	if f.shm == nil {
		if f.shm, err = os.Open(f.path + "-shm"); err != nil {
			f.shm = nil
			return nil, nil, err
		}
	}
	return f.wal, f.shm, nil
}

// current says whether the descriptors are still of the files that the paths name.
func (m *Module) current(f *files) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for suffix, file := range map[string]*os.File{"": f.db, "-wal": f.wal, "-shm": f.shm} {
		if file == nil {
			continue
		}
		here, err := file.Stat()
		if err != nil {
			return err
		}
		there, err := os.Stat(f.path + suffix)
		if err != nil || !os.SameFile(here, there) {
			return fmt.Errorf("%s was replaced while it was open: %w", f.path+suffix, state.ErrInUse)
		}
	}
	return nil
}

// connection is one SQLite connection, and the descriptors beside it.
type connection struct {
	*sql.Conn
	module *Module
	pool   *sql.DB
	files  *files
}

// connect opens an existing database. A missing file is an error, never an empty database.
func (m *Module) connect(ctx context.Context, path string) (*connection, error) {
	f, err := m.hold(path)
	if err != nil {
		return nil, err
	}
	name := (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=rw&_pragma=busy_timeout(5000)"}).String()
	pool, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, errors.Join(err, m.release(f))
	}
	pool.SetMaxOpenConns(1)
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open %s: %w", path, err), pool.Close(), m.release(f))
	}
	return &connection{Conn: conn, module: m, pool: pool, files: f}, nil
}

// Close ends the connection, rolling back what it had begun, and then releases the descriptors.
func (c *connection) Close() error {
	return errors.Join(c.Conn.Close(), c.pool.Close(), c.module.release(c.files))
}

// use runs do with a connection.
func (m *Module) use(ctx context.Context, path string, do func(c *connection) error) error {
	c, err := m.connect(ctx, path)
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

func (c *connection) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := c.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *connection) number(ctx context.Context, query string) (n int64, err error) {
	err = c.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

func (c *connection) text(ctx context.Context, query string) (s string, err error) {
	err = c.QueryRowContext(ctx, query).Scan(&s)
	return s, err
}

// readable says whether the file is a database whose schema can be read.
func (c *connection) readable(ctx context.Context) error {
	if err := checkMagic(c.files.db); err != nil {
		return fmt.Errorf("%s: %w", c.files.path, err)
	}
	if _, err := c.number(ctx, "SELECT count(*) FROM sqlite_schema"); err != nil {
		return fmt.Errorf("cannot read database %s: %w", c.files.path, err)
	}
	return nil
}

func checkMagic(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // what SQLite makes of an untouched database
	}
	head := make([]byte, len(magic))
	if _, err := f.ReadAt(head, 0); err != nil || !bytes.Equal(head, magic) {
		return fmt.Errorf("file is not a SQLite database (it does not begin with %q): %w", magic[:15], state.ErrCorrupt)
	}
	return nil
}

// setJournal changes the journal mode, and makes an untouched file a database of one page.
func (c *connection) setJournal(ctx context.Context, mode string) error {
	got, err := c.text(ctx, "PRAGMA journal_mode="+mode)
	if err != nil {
		return fmt.Errorf("cannot set the journal mode of %s: %w", c.files.path, err)
	}
	if got != mode {
		return fmt.Errorf("journal mode of %s is %s and cannot become %s: %w", c.files.path, got, mode, state.ErrInUse)
	}
	if n, err := c.number(ctx, "PRAGMA page_count"); err != nil || n > 0 {
		return err
	}
	return c.exec(ctx, "PRAGMA user_version=0")
}

// quickCheck reads the whole database and says what is wrong with its structure.
func (c *connection) quickCheck(ctx context.Context) error {
	result, err := c.text(ctx, "PRAGMA quick_check(1)")
	if err != nil {
		return fmt.Errorf("cannot check %s: %w: %w", c.files.path, state.ErrCorrupt, err)
	}
	if result != "ok" {
		return fmt.Errorf("%s: %w: %s", c.files.path, state.ErrCorrupt, result)
	}
	return nil
}

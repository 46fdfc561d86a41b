package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"

	"orrery/state"
	"orrery/state/module/sqlite/wal"
)

// pinAttempts bounds how often a moment without a commit is looked for before writers are held off for one.
const pinAttempts = 50

// pin is a read transaction and what is known of the moment that it sees. While it is held, SQLite
// overwrites nothing that the moment consists of.
type pin struct {
	*connection
	pageSize int
	pages    uint32
	// logged is true in WAL mode; index then is the index at the moment, and the other two are the log's file, and the
	// log up to the moment, nil if the database file alone is the moment.
	logged  bool
	index   wal.Index
	logFile *os.File
	log     *wal.Log
	closed  bool
	// counter is the header's change counter, which tells moments apart with a rollback journal.
	counter uint32
}

// pin begins a read transaction. It goes on reading the log from where previous (which may be
// nil) had come to, if that is still the same log.
func (m *Module) pin(ctx context.Context, path string, previous *wal.Log) (*pin, error) {
	c, err := m.connect(ctx, path)
	if err != nil {
		return nil, err
	}
	p := &pin{connection: c}
	if err := p.begin(ctx, previous); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close gives up the moment. What was learned of it stays.
func (p *pin) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	return p.connection.Close()
}

func (p *pin) begin(ctx context.Context, previous *wal.Log) error {
	if err := p.readable(ctx); err != nil { // runs recovery if the last writer crashed
		return err
	}
	if err := p.hold(ctx); err != nil {
		return err
	}
	if err := p.module.current(p.files); err != nil {
		return err
	}
	if err := p.measure(ctx); err != nil {
		return err
	}
	if !p.logged || p.index.Backfilled == p.index.Frames {
		return nil // no checkpoint can write a later state into the file while the pin is held
	}
	return p.readLog(previous)
}

// hold takes the read lock at a moment whose index is known.
func (p *pin) hold(ctx context.Context) error {
	for range pinAttempts {
		done, err := p.tryHold(ctx)
		if done || err != nil {
			return err
		}
		if err := p.exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
	}
	// Somebody commits without a pause: hold the write lock for the moment that it takes.
	blocker, err := p.module.connect(ctx, p.files.path)
	if err != nil {
		return err
	}
	if err := blocker.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return errors.Join(err, blocker.Close())
	}
	done, err := p.tryHold(ctx)
	if err == nil && !done {
		err = fmt.Errorf("%s changes while the write lock is held: %w", p.files.path, state.ErrInUse)
	}
	return errors.Join(err, blocker.Close())
}

// tryHold begins the transaction and says whether nothing was committed meanwhile.
func (p *pin) tryHold(ctx context.Context) (done bool, err error) {
	before, known := p.readIndex()
	if err := p.exec(ctx, "BEGIN"); err != nil {
		return false, err
	}
	if _, err := p.number(ctx, "SELECT count(*) FROM sqlite_schema"); err != nil {
		return false, fmt.Errorf("cannot read database %s: %w", p.files.path, err)
	}
	mode, err := p.text(ctx, "PRAGMA journal_mode")
	if err != nil {
		return false, err
	}
	if p.logged = mode == "wal"; !p.logged {
		return true, nil
	}
	after, ok := p.readIndex()
	if !known || !ok || before.Head != after.Head {
		return false, nil
	}
	// Backfilled as of now: what it counts is in the file, and the lock keeps later frames out of it.
	p.index = after
	return true, nil
}

func (p *pin) readIndex() (wal.Index, bool) {
	_, shm, err := p.module.logFiles(p.files)
	if err != nil {
		return wal.Index{}, false
	}
	b := make([]byte, wal.IndexSize)
	if _, err := shm.ReadAt(b, 0); err != nil {
		return wal.Index{}, false
	}
	index, err := wal.ParseIndex(b)
	return index, err == nil
}

// measure learns the size of the database at the moment.
func (p *pin) measure(ctx context.Context) error {
	size, err := p.number(ctx, "PRAGMA page_size")
	if err != nil {
		return err
	}
	pages, err := p.number(ctx, "PRAGMA page_count")
	if err != nil {
		return err
	}
	p.pageSize, p.pages = int(size), uint32(pages)
	if p.logged && p.index.Frames > 0 && (p.index.Pages != p.pages || p.index.PageSize != p.pageSize) {
		return fmt.Errorf("%s: %w: it has %d pages of %d bytes, its index says %d of %d",
			p.files.path, state.ErrCorrupt, p.pages, p.pageSize, p.index.Pages, p.index.PageSize)
	}
	if p.logged || pages == 0 {
		return nil
	}
	p.counter, err = readCounter(p.files.db)
	return err
}

// readLog reads and verifies the log up to the moment.
func (p *pin) readLog(previous *wal.Log) error {
	file, _, err := p.module.logFiles(p.files)
	if err != nil {
		return err
	}
	log := previous
	if log == nil || log.Salt() != p.index.Salt {
		if log, err = wal.Open(file); err != nil {
			return fmt.Errorf("%s-wal: %w", p.files.path, err)
		}
	}
	if log.Salt() != p.index.Salt || log.PageSize() != p.pageSize || log.Frames() > p.index.Frames {
		return fmt.Errorf("%s-wal is not the log that its index describes: %w", p.files.path, state.ErrCorrupt)
	}
	if err := log.Advance(p.index.Frames); err != nil {
		return fmt.Errorf("%s-wal: %w", p.files.path, err)
	}
	if log.Sum() != p.index.Sum || log.Last() != (wal.Commit{Frame: p.index.Frames, Pages: p.index.Pages}) {
		return fmt.Errorf("%s-wal differs from its index: %w", p.files.path, state.ErrCorrupt)
	}
	p.logFile, p.log = file, log
	return nil
}

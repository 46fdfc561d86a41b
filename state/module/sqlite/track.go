package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"

	"orrery/state"
)

// trackedLog is how large the log may grow while a tracker holds it, in bytes, before the tracker lets
// go of it once and so does not know what changed.
const trackedLog = 512 << 20

// tracker follows a database by its log. From one image to the next it holds the former's
// pin on a frame of the log, so that no writer can begin the log anew, and what is behind that
// frame is what changed. With a rollback journal it knows only whether anything changed.
type tracker struct {
	module *Module
	path   string
	limit  int64

	last *pin // the moment of the image before; nil at the beginning and after an error
	open bool // whether an image of it is
}

// Track begins to follow a database.
func (m *Module) Track(ctx context.Context, t state.Target) (state.Tracker, error) {
	if err := settle(path(t)); err != nil {
		return nil, err
	}
	p, err := m.pin(ctx, path(t), nil) // says at once if the database cannot be read
	if err != nil {
		return nil, err
	}
	return &tracker{module: m, path: path(t), limit: trackedLog}, p.Close()
}

// Image opens the current image.
func (t *tracker) Image(ctx context.Context) (state.Image, error) {
	if t.open {
		return nil, fmt.Errorf("an image of %s is open: %w", t.path, state.ErrInUse)
	}
	if err := t.letGo(ctx); err != nil {
		return nil, err
	}
	before := t.last
	now, err := t.advance(ctx)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	ranges, ok := changes(before, now)
	t.last, t.open = now, true
	if before != nil && before != now {
		// Only now: until the new pin was there, this one kept the log.
		if err := before.Close(); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return &image{
		pin:     now,
		close:   t.closeImage,
		changed: func() ([]state.Range, bool) { return ranges, ok },
	}, nil
}

func (t *tracker) closeImage() error {
	t.open = false
	if t.last != nil && !t.last.logged {
		return t.last.Close() // it keeps writers waiting
	}
	return nil
}

// letGo gives up a log that has grown too large, so that it can begin anew.
func (t *tracker) letGo(ctx context.Context) error {
	if t.last == nil || t.last.log == nil || t.last.log.Size() <= t.limit {
		return nil
	}
	t.module.log.InfoContext(ctx, "log of tracked database has grown too large", "path", t.path, "bytes", t.last.log.Size())
	if err := t.Close(); err != nil {
		return err
	}
	return t.module.use(ctx, t.path, func(c *connection) error { return c.exec(ctx, "PRAGMA wal_checkpoint(PASSIVE)") })
}

// advance pins the current moment, which may be the one before.
func (t *tracker) advance(ctx context.Context) (*pin, error) {
	if t.last == nil {
		return t.begin(ctx)
	}
	now, err := t.module.pin(ctx, t.path, t.last.log)
	if err != nil || !now.logged || now.log != nil {
		return now, err
	}
	// All of the log is in the file, so the new pin does not keep it. The one before does, if it is of the same moment.
	if err := now.Close(); err != nil {
		return nil, err
	}
	if t.last.log != nil && t.last.index.Head == now.index.Head {
		return t.last, nil
	}
	return t.begin(ctx)
}

// begin pins a moment that holds the log.
func (t *tracker) begin(ctx context.Context) (*pin, error) {
	for range pinAttempts {
		p, err := t.module.pin(ctx, t.path, nil)
		if err != nil || !p.logged || p.log != nil {
			return p, err
		}
		// All of the log is in the file, so any writer could begin it anew. Writing the header as it is puts a frame
		// into the log; images do not show it. The connection stays open until the next pin: the last one
		// to be closed would write the log back.
		if err := errors.Join(p.exec(ctx, "ROLLBACK"), p.touch(ctx)); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		next, err := t.module.pin(ctx, t.path, nil)
		if err = errors.Join(err, p.Close()); err != nil {
			return nil, err
		}
		if next.log != nil {
			return next, nil
		}
		if err := next.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s is checkpointed without end, so that its changes cannot be followed: %w", t.path, state.ErrInUse)
}

// touch commits a write that changes nothing.
func (c *connection) touch(ctx context.Context) error {
	if err := c.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	version, err := c.number(ctx, "PRAGMA user_version")
	if err != nil {
		return err
	}
	return c.exec(ctx, fmt.Sprintf("PRAGMA user_version=%d", version), "COMMIT")
}

// Close ends the tracking.
func (t *tracker) Close() error {
	p := t.last
	t.last, t.open = nil, false
	if p == nil {
		return nil
	}
	return p.Close()
}

// changes returns the ranges that differ between two moments.
func changes(before, now *pin) ([]state.Range, bool) {
	switch {
	case before == nil || before.pageSize != now.pageSize || before.logged != now.logged:
		return nil, false
	case before == now:
		return nil, true
	case !now.logged:
		return nil, before.counter == now.counter && before.pages == now.pages
	case before.log == nil || now.log != before.log:
		return nil, false
	}
	pages, smallest := now.log.Since(before.index.Frames)
	size := int64(now.pageSize)
	var ranges []state.Range
	for _, page := range pages {
		if page <= now.pages {
			ranges = extend(ranges, state.Range{Offset: int64(page-1) * size, Length: size})
		}
	}
	// What lay behind the end for a while, or was never there, counts as changed whether it was written or not.
	if from := min(smallest, before.pages); from < now.pages && smallest != math.MaxUint32 {
		rest := state.Range{Offset: int64(from) * size, Length: int64(now.pages-from) * size}
		for len(ranges) > 0 && ranges[len(ranges)-1].Offset >= rest.Offset {
			ranges = ranges[:len(ranges)-1]
		}
		if n := len(ranges); n > 0 && ranges[n-1].Offset+ranges[n-1].Length > rest.Offset {
			ranges[n-1].Length = rest.Offset - ranges[n-1].Offset
		}
		ranges = extend(ranges, rest)
	}
	return ranges, true
}

// extend appends a range, joining it to the last if they touch.
func extend(ranges []state.Range, r state.Range) []state.Range {
	if n := len(ranges); n > 0 && ranges[n-1].Offset+ranges[n-1].Length == r.Offset {
		ranges[n-1].Length += r.Length
		return ranges
	}
	return append(ranges, r)
}

// Package reconnect is a clip.Display that outlives the window system: when the connection ends, it waits for the next one, for a while.
package reconnect

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"orrery/clip"
)

// Config is what a Display needs.
type Config struct {
	// Open connects.
	Open func() (clip.Display, error)
	// Selections are those that Open's displays watch. After each new connection they are told to have no owner, unless they have one, so that what
	// they had can be offered again.
	Selections []clip.Selection
	// Patience is how long to wait for the next connection; 0 means a minute.
	Patience time.Duration
	Logger   *slog.Logger // nil discards
}

// pause is the time between attempts.
const pause = 200 * time.Millisecond

// Display connects again. Next is for one goroutine.
type Display struct {
	config Config
	lost   []clip.Selection // whose loss Next has not told of

	mu      sync.Mutex
	current clip.Display
	closed  bool
}

var _ clip.Display = (*Display)(nil)

// Open connects for the first time, without waiting.
func Open(c Config) (*Display, error) {
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	first, err := c.Open()
	if err != nil {
		return nil, err
	}
	return &Display{config: c, current: first}, nil
}

func (d *Display) display() clip.Display {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// Name is clip.Display's.
func (d *Display) Name() string { return d.display().Name() }

// Next is clip.Display's.
func (d *Display) Next(ctx context.Context) (clip.Offer, error) {
	for {
		if len(d.lost) > 0 {
			s := d.lost[0]
			d.lost = d.lost[1:]
			return ownerless(s), nil
		}
		o, err := d.display().Next(ctx)
		if err == nil || ctx.Err() != nil {
			return o, err
		}
		if err := d.again(ctx, err); err != nil {
			return nil, err
		}
	}
}

// again waits for the next connection.
func (d *Display) again(ctx context.Context, why error) error {
	log := d.config.Logger
	log.WarnContext(ctx, "the display is gone; waiting for it to come back", "display", d.Name(), "error", why, "for", d.config.Patience)
	if err := d.display().Close(); err != nil {
		log.DebugContext(ctx, "close", "error", err)
	}
	end := time.NewTimer(d.config.Patience)
	defer end.Stop()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		next, err := d.config.Open()
		if err == nil {
			d.lost = slices.Clone(d.config.Selections)
			log.InfoContext(ctx, "the display is back", "display", next.Name())
			return d.change(next)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return fmt.Errorf("%w, and it has not come back for %s: %w", why, d.config.Patience, err)
		case <-tick.C:
		}
	}
}

func (d *Display) change(next clip.Display) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return next.Close()
	}
	d.current = next
	return nil
}

// Offer is clip.Display's.
func (d *Display) Offer(s clip.Selection, contents []clip.Content) error {
	return d.display().Offer(s, contents)
}

// Clear is clip.Display's.
func (d *Display) Clear(s clip.Selection) error { return d.display().Clear(s) }

// Close is clip.Display's.
func (d *Display) Close() error {
	d.mu.Lock()
	d.closed = true
	current := d.current
	d.mu.Unlock()
	return current.Close()
}

// ownerless is the offer of a selection that nobody owns.
type ownerless clip.Selection

var _ clip.Offer = ownerless(0)

// Selection is clip.Offer's.
func (o ownerless) Selection() clip.Selection { return clip.Selection(o) }

// Types is clip.Offer's.
func (o ownerless) Types() []string { return nil }

// App is clip.Offer's.
func (o ownerless) App() string { return "" }

// Own is clip.Offer's.
func (o ownerless) Own() bool { return false }

// Cleared is clip.Offer's.
func (o ownerless) Cleared() bool { return false }

// Exited is clip.Offer's.
func (o ownerless) Exited() bool { return false }

// Read is clip.Offer's.
func (o ownerless) Read(context.Context, string, int64) ([]byte, error) { return nil, clip.ErrGone }

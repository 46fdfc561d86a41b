// Package wayland is a clip.Display on a Wayland compositor that lets a client watch its clipboards: by ext-data-control-v1, or by
// wlr-data-control-unstable-v1, which differs in names only.
//
// Content goes through pipes between this process and the owner, so an owner that does not answer costs its own transfer a time-out and delays nobody; nor does
// a program that asks for content and does not take it. One goroutine handles all events; it waits for nobody but the compositor.
package wayland

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// Config is what a Display needs.
type Config struct {
	Name string // of the display, or its socket's path; empty: $WAYLAND_DISPLAY
	// Selections are those that are watched; none: the clipboard.
	Selections []clip.Selection
	// Patience is how long an owner may be silent during a transfer, and the compositor at the beginning; 0 means 3 s.
	Patience time.Duration
	Logger   *slog.Logger // nil discards
}

// Display is a connection to a compositor.
type Display struct {
	config  Config
	client  *wire.Client
	manager *wire.Object
	name    string
	primary bool   // its protocol has the primary selection
	token   string // of this process, part of its sources' marks
	work    sync.WaitGroup
	news    chan struct{} // holds a token while a selection has changed

	mu      sync.Mutex
	seats   map[uint32]*seat // by the number of their global
	number  uint64           // of the newest change
	marks   int              // that were made
	sending []*os.File       // transfers to other programs, the oldest first
	focus   *window          // that has the keyboard's; nil: none, or the compositor does not tell
	closed  bool
}

var _ clip.Display = (*Display)(nil)

// Operations of the data-control protocols.
const (
	managerCreateSource = 0
	managerGetDevice    = 1

	deviceSetSelection = 0
	deviceDestroy      = 1
	deviceSetPrimary   = 2
	deviceOffer        = 0
	deviceSelection    = 1
	deviceFinished     = 2
	devicePrimary      = 3

	sourceOffer     = 0
	sourceDestroy   = 1
	sourceSend      = 0
	sourceCancelled = 1

	offerReceive = 0
	offerDestroy = 1
	offerType    = 0
)

// protocol is one by which clipboards can be watched.
type protocol struct {
	name, manager string
	version       uint32 // the newest that is known here
	primary       uint32 // the version that has the primary selection
}

// protocols, the best first.
var protocols = []protocol{ //nolint:gochecknoglobals // a table
	{"ext-data-control-v1", "ext_data_control_manager_v1", 1, 1},
	{"wlr-data-control-unstable-v1", "zwlr_data_control_manager_v1", 2, 2},
}

const seatInterface = "wl_seat"

// Open connects. An error wraps clip.ErrUnsupported if the compositor lets nobody watch its clipboards.
func Open(c Config) (*Display, error) {
	if len(c.Selections) == 0 {
		c.Selections = []clip.Selection{clip.Clipboard}
	}
	if c.Patience == 0 {
		c.Patience = 3 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	address, err := wire.Address(c.Name)
	if err != nil {
		return nil, err
	}
	client, err := wire.Dial(address, c.Patience)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the compositor at %s: %w", address, err)
	}
	d := &Display{config: c, client: client, token: rand.Text(), news: make(chan struct{}, 1), seats: map[uint32]*seat{}}
	if err := d.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("compositor at %s: %w", address, err), client.Close())
	}
	d.work.Go(func() { _ = client.Run() }) // Next says why it ended
	return d, nil
}

// setUp chooses a protocol, and looks at all seats.
func (d *Display) setUp() error {
	globals := d.client.Globals()
	for _, p := range protocols {
		at := slices.IndexFunc(globals, func(g wire.Global) bool { return g.Interface == p.manager })
		if at < 0 {
			continue
		}
		version := min(globals[at].Version, p.version)
		d.name, d.primary = "Wayland, "+p.name, version >= p.primary
		if version < p.primary {
			d.name += " (its version 1, without the primary selection)"
		}
		if version < p.primary && slices.Contains(d.config.Selections, clip.Primary) {
			d.config.Logger.Warn("the compositor does not let the primary selection be watched", "protocol", p.name, "version", version)
			d.config.Selections = slices.DeleteFunc(slices.Clone(d.config.Selections), func(s clip.Selection) bool { return s == clip.Primary })
		}
		var err error
		if d.manager, err = d.client.Bind(globals[at], version, (*wire.Message).Unknown); err != nil {
			return err
		}
		break
	}
	if d.manager == nil {
		return fmt.Errorf("its clipboards cannot be watched: %w: it has neither ext-data-control nor wlr-data-control (GNOME has none of them: watch XWayland's clipboard, by --display x11)", clip.ErrUnsupported)
	}
	if err := d.watchWindows(globals); err != nil {
		return err
	}
	d.client.Watch(d.announced)
	for _, g := range globals {
		if err := d.announced(g, false); err != nil {
			return err
		}
	}
	return nil
}

// Name is clip.Display's.
func (d *Display) Name() string { return d.name }

// announced is told of a seat that is there, or not any more.
func (d *Display) announced(g wire.Global, gone bool) error {
	if g.Interface != seatInterface {
		return nil
	}
	if gone {
		return d.leave(g.Name)
	}
	bound, err := d.client.Bind(g, 1, func(*wire.Message) error { return nil }) // what it can do does not matter
	if err != nil {
		return err
	}
	s := &seat{display: d, name: g.Name, pending: map[uint32]*pending{}, current: map[clip.Selection]*change{}, own: map[clip.Selection]*source{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.device, err = d.manager.Create("data control device", managerGetDevice, s.handle, wire.New, bound); err != nil {
		return err
	}
	d.seats[g.Name] = s
	return nil
}

// leave forgets a seat.
func (d *Display) leave(name uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.seats[name]
	if s == nil {
		return nil
	}
	delete(d.seats, name)
	for _, c := range s.current {
		c.supersede()
	}
	for _, p := range s.pending {
		_ = p.remote.Destroy(offerDestroy) // fails only if the connection does, which Run says
	}
	return s.device.Destroy(deviceDestroy)
}

// Next is clip.Display's.
func (d *Display) Next(ctx context.Context) (clip.Offer, error) {
	for {
		if c := d.untold(); c != nil {
			return &offer{display: d, change: c}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.client.Done():
			return nil, d.client.Err()
		case <-d.news:
		}
	}
}

// untold is the oldest change that Next has not delivered.
func (d *Display) untold() *change {
	d.mu.Lock()
	defer d.mu.Unlock()
	var first *change
	for _, s := range d.seats {
		for _, c := range s.current {
			if !c.told && (first == nil || c.number < first.number) {
				first = c
			}
		}
	}
	if first != nil {
		first.told = true
	}
	return first
}

// sync waits until the compositor has done what was asked before, and its events so far were handled.
func (d *Display) sync(end <-chan struct{}) error {
	answered, err := d.client.Sync()
	if err != nil {
		return err
	}
	timer := time.NewTimer(d.config.Patience)
	defer timer.Stop()
	select {
	case <-answered:
		return nil
	case <-end:
		return context.Canceled
	case <-d.client.Done():
		return d.client.Err()
	case <-timer.C:
		return fmt.Errorf("the compositor has not answered for %s: %w", d.config.Patience, context.DeadlineExceeded)
	}
}

// Close ends the connection; what this process owned has no owner then.
func (d *Display) Close() error {
	d.mu.Lock()
	defer d.work.Wait()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	err := d.client.Close()
	for _, to := range d.sending { // after the connection, so that who reads can know that this is not all
		_ = to.Close() // ends its goroutine, too
	}
	return err
}

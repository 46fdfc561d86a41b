// Package x11 is a clip.Display on an X server: selections watched by XFIXES, content read and served as the Inter-Client
// Communication Conventions Manual (ICCCM, section 2) says, INCR transfers both ways.
//
// Each transfer that is read has a window of its own, so that a late answer cannot mix with another transfer; an owner that does not answer costs a
// time-out and that window. One goroutine handles all events; it waits for nobody.
package x11

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xfixes"
	"github.com/jezek/xgb/xproto"

	"orrery/clip"
)

// Config is what a Display needs.
type Config struct {
	Name string // of the display; empty: $DISPLAY
	// Selections are those that are watched; none: the clipboard.
	Selections []clip.Selection
	// Patience is how long an owner may be silent during a transfer; 0 means 3 s.
	Patience time.Duration
	Logger   *slog.Logger // nil discards
}

// Display is a connection to an X server.
type Display struct {
	config Config
	x      *xgb.Conn
	window xproto.Window // owns selections, and is told of all
	root   xproto.Window
	names  *atoms
	time   xproto.Atom // property by which the server is asked for the time
	work   sync.WaitGroup
	done   chan struct{} // closed when the connection is over
	news   chan struct{} // holds a token while a selection has changed

	mu      sync.Mutex
	changes map[clip.Selection]*change // newest of each selection
	told    map[clip.Selection]uint64  // number of the newest that Next has delivered
	number  uint64
	reads   map[xproto.Window]*reading // transfers that run, by their windows
	idle    []xproto.Window            // windows of transfers that ended well
	owned   map[clip.Selection]*owned
	sending map[sendingKey]*sending
	closed  bool
}

var _ clip.Display = (*Display)(nil)

// change is that a selection has another owner.
type change struct {
	number     uint64
	selection  clip.Selection
	owner      xproto.Window // None: nobody
	time       xproto.Timestamp
	cleared    bool
	superseded chan struct{} // closed when there is a newer one
}

var logOnce sync.Once

// Open connects. An error wraps clip.ErrUnsupported if the server lacks XFIXES.
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
	logOnce.Do(func() { xgb.Logger.SetOutput(io.Discard) })
	x, err := xgb.NewConnDisplay(c.Name)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to X display %q: %w", c.Name, err)
	}
	d := &Display{
		config: c, x: x, done: make(chan struct{}), news: make(chan struct{}, 1),
		changes: map[clip.Selection]*change{}, told: map[clip.Selection]uint64{}, reads: map[xproto.Window]*reading{},
		owned: map[clip.Selection]*owned{}, sending: map[sendingKey]*sending{},
	}
	if err := d.setUp(); err != nil {
		x.Close()
		return nil, fmt.Errorf("display %q: %w", c.Name, err)
	}
	d.work.Go(d.listen)
	return d, nil
}

func (d *Display) setUp() (err error) {
	if err := xfixes.Init(d.x); err != nil {
		return fmt.Errorf("its clipboards cannot be watched: %w: no XFIXES", clip.ErrUnsupported)
	}
	if _, err := xfixes.QueryVersion(d.x, 5, 0).Reply(); err != nil {
		return err
	}
	d.names = newAtoms(d.x)
	screen := xproto.Setup(d.x).DefaultScreen(d.x)
	d.root = screen.Root
	if d.window, err = d.newWindow(); err != nil {
		return err
	}
	if d.time, err = d.names.get("ORRERY_TIME"); err != nil {
		return err
	}
	for _, s := range d.config.Selections {
		atom, err := d.names.get(atomName(s))
		if err != nil {
			return err
		}
		const mask = xfixes.SelectionEventMaskSetSelectionOwner | xfixes.SelectionEventMaskSelectionWindowDestroy | xfixes.SelectionEventMaskSelectionClientClose
		if err := xfixes.SelectSelectionInputChecked(d.x, d.window, atom, mask).Check(); err != nil {
			return err
		}
		owner, err := xproto.GetSelectionOwner(d.x, atom).Reply()
		if err != nil {
			return err
		}
		if owner.Owner != xproto.WindowNone { // what was copied before counts
			d.changed(s, owner.Owner, xproto.TimeCurrentTime, false)
		}
	}
	return nil
}

// newWindow makes an invisible window whose properties' changes are told.
func (d *Display) newWindow() (xproto.Window, error) {
	id, err := xproto.NewWindowId(d.x)
	if err != nil {
		return 0, err
	}
	return id, xproto.CreateWindowChecked(d.x, 0, id, d.root, -1, -1, 1, 1, 0, xproto.WindowClassInputOnly, 0,
		xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange}).Check()
}

func atomName(s clip.Selection) string {
	if s == clip.Primary {
		return "PRIMARY"
	}
	return "CLIPBOARD"
}

// Name is clip.Display's.
func (d *Display) Name() string { return "X11" }

// errClosed ends everything that waits.
var errClosed = errors.New("the connection to the X server is over")

// listen handles events until the connection ends.
func (d *Display) listen() {
	defer close(d.done)
	for {
		event, err := d.x.WaitForEvent()
		switch {
		case event != nil:
			d.handle(event)
		case err != nil:
			// Of a requestor's window that is gone, mostly.
			d.config.Logger.Debug("X11", "error", err.Error())
		default:
			return
		}
	}
}

func (d *Display) handle(event xgb.Event) {
	switch e := event.(type) {
	case xfixes.SelectionNotifyEvent:
		if s, ok := d.selection(e.Selection); ok {
			d.changed(s, e.Owner, e.SelectionTimestamp, e.Subtype == xfixes.SelectionEventSetSelectionOwner && e.Owner == xproto.WindowNone)
		}
	case xproto.SelectionNotifyEvent:
		d.answered(e)
	case xproto.PropertyNotifyEvent:
		if e.State == xproto.PropertyNewValue {
			d.more(e)
		} else {
			d.taken(sendingKey{e.Window, e.Atom})
		}
	case xproto.SelectionRequestEvent:
		d.serve(e)
	case xproto.SelectionClearEvent:
		if s, ok := d.selection(e.Selection); ok {
			d.lost(s)
		}
	case xproto.DestroyNotifyEvent:
		d.gone(e.Window)
	}
}

func (d *Display) selection(atom xproto.Atom) (clip.Selection, bool) {
	for _, s := range []clip.Selection{clip.Clipboard, clip.Primary} { // one that is not watched may be owned
		if known, err := d.names.get(atomName(s)); err == nil && known == atom {
			return s, true
		}
	}
	return 0, false
}

func (d *Display) changed(s clip.Selection, owner xproto.Window, at xproto.Timestamp, cleared bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.number++
	if before := d.changes[s]; before != nil {
		close(before.superseded)
	}
	d.changes[s] = &change{number: d.number, selection: s, owner: owner, time: at, cleared: cleared, superseded: make(chan struct{})}
	if own := d.owned[s]; own != nil && owner == d.window {
		own.time = at
	}
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// Next is clip.Display's.
func (d *Display) Next(ctx context.Context) (clip.Offer, error) {
	for {
		if c := d.untold(); c != nil {
			o := &offer{display: d, change: c}
			if err := o.describe(ctx); err == nil || c.owner == xproto.WindowNone {
				return o, nil
			} else if ctx.Err() != nil {
				return nil, ctx.Err()
			} else if errors.Is(err, errClosed) {
				return nil, err
			} else if !errors.Is(err, clip.ErrGone) {
				d.config.Logger.WarnContext(ctx, "the owner of the clipboard does not say what it has", "selection", c.selection.String(), "owner", o.app, "error", err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.done:
			return nil, errClosed
		case <-d.news:
		}
	}
}

// untold is the oldest change that Next has not delivered.
func (d *Display) untold() *change {
	d.mu.Lock()
	defer d.mu.Unlock()
	var first *change
	for s, c := range d.changes {
		if c.number > d.told[s] && (first == nil || c.number < first.number) {
			first = c
		}
	}
	if first != nil {
		d.told[first.selection] = first.number
	}
	return first
}

// Close ends the connection; what this process owned has no owner then.
func (d *Display) Close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.x.Close()
	d.work.Wait()
	return nil
}

// atoms knows the server's numbers of names.
type atoms struct {
	x *xgb.Conn

	mu    sync.Mutex
	ids   map[string]xproto.Atom
	names map[xproto.Atom]string
}

func newAtoms(x *xgb.Conn) *atoms {
	return &atoms{x: x, ids: map[string]xproto.Atom{}, names: map[xproto.Atom]string{}}
}

func (a *atoms) get(name string) (xproto.Atom, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if id, ok := a.ids[name]; ok {
		return id, nil
	}
	reply, err := xproto.InternAtom(a.x, false, uint16(len(name)), name).Reply() //nolint:gosec // names are at most clip.MaxType
	if err != nil {
		return 0, fmt.Errorf("atom %s: %w", name, err)
	}
	a.ids[name], a.names[reply.Atom] = reply.Atom, name
	return reply.Atom, nil
}

func (a *atoms) name(id xproto.Atom) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name, ok := a.names[id]; ok {
		return name, nil
	}
	reply, err := xproto.GetAtomName(a.x, id).Reply()
	if err != nil {
		return "", err
	}
	a.ids[reply.Name], a.names[id] = id, reply.Name
	return reply.Name, nil
}

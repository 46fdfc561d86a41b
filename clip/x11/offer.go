package x11

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"

	"orrery/clip"
)

// offer is what the owner of a selection offers.
type offer struct {
	display *Display
	change  *change
	types   []string
	app     string
}

var _ clip.Offer = (*offer)(nil)

// maxTargets bounds the list of types, in bytes.
const maxTargets = 4 * 1024

// protocol are targets that are no content.
var protocol = []string{"TARGETS", "MULTIPLE", "TIMESTAMP", "SAVE_TARGETS", "DELETE", "INSERT_SELECTION", "INSERT_PROPERTY"} //nolint:gochecknoglobals // a list

// describe asks the owner for its types.
func (o *offer) describe(ctx context.Context) error {
	if o.change.owner == xproto.WindowNone || o.Own() {
		return nil
	}
	o.app = o.display.class(o.change.owner)
	list, err := o.Read(ctx, "TARGETS", maxTargets)
	if err != nil {
		return err
	}
	for b := range slices.Chunk(list, 4) {
		if len(b) < 4 {
			break
		}
		name, err := o.display.names.name(xproto.Atom(binary.LittleEndian.Uint32(b)))
		if err != nil || len(name) > clip.MaxType || slices.Contains(protocol, name) || slices.Contains(o.types, name) {
			continue // an owner that names atoms which do not exist
		}
		o.types = append(o.types, name)
	}
	return nil
}

// Selection is clip.Offer's.
func (o *offer) Selection() clip.Selection { return o.change.selection }

// Types is clip.Offer's.
func (o *offer) Types() []string { return o.types }

// App is clip.Offer's.
func (o *offer) App() string { return o.app }

// Own is clip.Offer's.
func (o *offer) Own() bool { return o.change.owner == o.display.window }

// Cleared is clip.Offer's.
func (o *offer) Cleared() bool { return o.change.cleared }

// Exited is clip.Offer's.
func (o *offer) Exited() bool { return o.change.owner == xproto.WindowNone && !o.change.cleared }

// class is the application that a window is of: WM_CLASS, of itself or of what it is in, or of the window that has the focus.
func (d *Display) class(w xproto.Window) string {
	for range 16 {
		if name := classOf(d.x, w); name != "" {
			return name
		}
		tree, err := xproto.QueryTree(d.x, w).Reply()
		if err != nil || tree.Parent == tree.Root || tree.Parent == xproto.WindowNone {
			break
		}
		w = tree.Parent
	}
	active, err := d.names.get("_NET_ACTIVE_WINDOW")
	if err != nil {
		return ""
	}
	p, err := xproto.GetProperty(d.x, false, d.root, active, xproto.AtomWindow, 0, 1).Reply()
	if err != nil || len(p.Value) < 4 {
		return ""
	}
	return classOf(d.x, xproto.Window(binary.LittleEndian.Uint32(p.Value)))
}

// classOf is the second part of WM_CLASS (ICCCM 4.1.2.5).
func classOf(x *xgb.Conn, w xproto.Window) string {
	p, err := xproto.GetProperty(x, false, w, xproto.AtomWmClass, xproto.AtomString, 0, 64).Reply()
	if err != nil {
		return ""
	}
	parts := bytes.Split(p.Value, []byte{0})
	if len(parts) < 2 {
		return ""
	}
	return string(parts[1])
}

// reading is a transfer from an owner to a window.
type reading struct {
	property xproto.Atom
	event    chan struct{} // holds a token while something came
	answered bool          // under the display's lock
	refused  bool
}

// property is where owners put content; each transfer has a window of its own.
const property = "ORRERY_CLIP"

// Read is clip.Offer's.
func (o *offer) Read(ctx context.Context, kind string, limit int64) ([]byte, error) {
	d := o.display
	target, err := d.names.get(kind)
	if err != nil {
		return nil, err
	}
	selection, err := d.names.get(atomName(o.change.selection))
	if err != nil {
		return nil, err
	}
	into, err := d.names.get(property)
	if err != nil {
		return nil, err
	}
	w, err := d.begin(into)
	if err != nil {
		return nil, err
	}
	xproto.ConvertSelection(d.x, w, selection, target, into, o.change.time)
	content, err := o.receive(ctx, w, into, limit)
	d.end(w, err == nil)
	select {
	case <-o.change.superseded: // what came may be the new owner's
		return nil, fmt.Errorf("%s of %s: %w", kind, o.change.selection, clip.ErrGone)
	default:
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", kind, o.change.selection, err)
	}
	return content, nil
}

// begin finds a window for a transfer.
func (d *Display) begin(into xproto.Atom) (w xproto.Window, err error) {
	d.mu.Lock()
	if n := len(d.idle); n > 0 {
		w, d.idle = d.idle[n-1], d.idle[:n-1]
	}
	d.mu.Unlock()
	if w == 0 {
		if w, err = d.newWindow(); err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads[w] = &reading{property: into, event: make(chan struct{}, 1)}
	return w, nil
}

// end gives the window back, or destroys it, which tells an owner that still sends.
func (d *Display) end(w xproto.Window, well bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.reads, w)
	if well {
		d.idle = append(d.idle, w)
		return
	}
	xproto.DestroyWindow(d.x, w)
}

// answered is told that an owner has answered.
func (d *Display) answered(e xproto.SelectionNotifyEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.reads[e.Requestor]; r != nil {
		r.answered, r.refused = true, e.Property == xproto.AtomNone
		r.wake()
	}
}

// more is told that a property has a new value: the next piece of an INCR transfer, perhaps.
func (d *Display) more(e xproto.PropertyNotifyEvent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.reads[e.Window]; r != nil && r.property == e.Atom {
		r.wake()
	}
}

func (r *reading) wake() {
	select {
	case r.event <- struct{}{}:
	default:
	}
}

// receive waits for the owner's answer and takes it piece by piece.
func (o *offer) receive(ctx context.Context, w xproto.Window, into xproto.Atom, limit int64) ([]byte, error) {
	d := o.display
	d.mu.Lock()
	r := d.reads[w]
	d.mu.Unlock()
	for {
		if err := o.wait(ctx, r); err != nil {
			return nil, err
		}
		d.mu.Lock()
		answered, refused := r.answered, r.refused
		d.mu.Unlock()
		if refused {
			return nil, fmt.Errorf("the owner refused: %w", clip.ErrNotFound)
		}
		if answered {
			break
		}
	}
	content, incremental, err := d.take(w, into, limit)
	if err != nil || !incremental {
		return content, err
	}
	content = nil
	for {
		piece, _, err := d.take(w, into, limit-int64(len(content)))
		switch {
		case err != nil:
			return nil, err
		case piece == nil: // not there yet
			if err := o.wait(ctx, r); err != nil {
				return nil, err
			}
		case len(piece) == 0:
			return content, nil
		default:
			content = append(content, piece...)
		}
	}
}

// wait waits for the next event of a transfer, as long as an owner may be silent.
func (o *offer) wait(ctx context.Context, r *reading) error {
	timer := time.NewTimer(o.display.config.Patience)
	defer timer.Stop()
	select {
	case <-r.event:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-o.display.done:
		return errClosed
	case <-o.change.superseded:
		return clip.ErrGone
	case <-timer.C:
		return fmt.Errorf("the owner has not answered for %s: %w", o.display.config.Patience, context.DeadlineExceeded)
	}
}

// readSize is how much of a property is read at once, in units of 4 bytes.
const readSize = 256 << 10

// take reads a property and deletes it, which asks for the next piece; nil if it is not there.
func (d *Display) take(w xproto.Window, into xproto.Atom, limit int64) (content []byte, incremental bool, err error) {
	incr, err := d.names.get("INCR")
	if err != nil {
		return nil, false, err
	}
	var at uint32
	for {
		p, err := xproto.GetProperty(d.x, true, w, into, xproto.GetPropertyTypeAny, at/4, readSize).Reply()
		if err != nil {
			return nil, false, err
		}
		if p.Type == xproto.AtomNone {
			return content, false, nil
		}
		if p.Type == incr {
			return nil, true, nil
		}
		if int64(len(content))+int64(len(p.Value))+int64(p.BytesAfter) > limit {
			return nil, false, fmt.Errorf("%w: more than %d bytes", clip.ErrTooLarge, limit)
		}
		if content == nil {
			content = make([]byte, 0, len(p.Value)+int(p.BytesAfter))
		}
		content = append(content, p.Value...)
		if at += uint32(len(p.Value)); p.BytesAfter == 0 { //nolint:gosec // at most readSize*4
			return content, false, nil
		}
	}
}

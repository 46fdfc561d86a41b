package x11

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jezek/xgb/xproto"

	"orrery/clip"
)

// owned is what this process offers in a selection.
type owned struct {
	contents []clip.Content
	names    map[string]int // place in contents by type
	time     xproto.Timestamp
}

// pieceSize is how much is put into a property at once: a request's length has 16 bits of units of 4 bytes.
const pieceSize = 128 << 10

// Offer is clip.Display's.
func (d *Display) Offer(s clip.Selection, contents []clip.Content) error {
	selection, err := d.names.get(atomName(s))
	if err != nil {
		return err
	}
	names := clip.Names(contents)
	for name := range names { // so that nobody waits for the server later
		if _, err := d.names.get(name); err != nil {
			return err
		}
	}
	d.mu.Lock()
	before := d.owned[s]
	d.owned[s] = &owned{contents: contents, names: names}
	d.mu.Unlock()
	if err := xproto.SetSelectionOwnerChecked(d.x, d.window, selection, xproto.TimeCurrentTime).Check(); err != nil {
		d.mu.Lock()
		d.owned[s] = before
		d.mu.Unlock()
		return fmt.Errorf("cannot offer the %s: %w", s, err)
	}
	return nil
}

// Clear is clip.Display's.
func (d *Display) Clear(s clip.Selection) error {
	d.mu.Lock()
	own := d.owned[s]
	delete(d.owned, s)
	d.mu.Unlock()
	if own == nil {
		return nil
	}
	selection, err := d.names.get(atomName(s))
	if err != nil {
		return err
	}
	// With the time at which it was acquired: if somebody else has it by now, nothing happens.
	return xproto.SetSelectionOwnerChecked(d.x, xproto.WindowNone, selection, own.time).Check()
}

// lost is told that somebody else owns a selection.
func (d *Display) lost(s clip.Selection) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.owned, s)
}

// serve answers a request for content.
func (d *Display) serve(e xproto.SelectionRequestEvent) {
	into := e.Property
	if into == xproto.AtomNone { // of an obsolete client (ICCCM 2.2)
		into = e.Target
	}
	if !d.give(e, e.Target, into) {
		into = xproto.AtomNone
	}
	answer := xproto.SelectionNotifyEvent{Time: e.Time, Requestor: e.Requestor, Selection: e.Selection, Target: e.Target, Property: into}
	xproto.SendEvent(d.x, false, e.Requestor, 0, string(answer.Bytes()))
}

// give puts what is asked for into a property of the requestor.
func (d *Display) give(e xproto.SelectionRequestEvent, target, into xproto.Atom) bool {
	s, ok := d.selection(e.Selection)
	if !ok {
		return false
	}
	d.mu.Lock()
	own := d.owned[s]
	d.mu.Unlock()
	if own == nil {
		return false
	}
	name, err := d.names.name(target)
	if err != nil {
		return false
	}
	switch name {
	case "TARGETS":
		return d.giveAtoms(e.Requestor, into, own)
	case "TIMESTAMP":
		b := binary.LittleEndian.AppendUint32(nil, uint32(own.time))
		xproto.ChangeProperty(d.x, xproto.PropModeReplace, e.Requestor, into, xproto.AtomInteger, 32, 1, b)
		return true
	case "MULTIPLE":
		return d.giveMany(e, into)
	}
	at, ok := own.names[name]
	if !ok {
		return false
	}
	d.send(sendingKey{e.Requestor, into}, target, own.contents[at].Data)
	return true
}

func (d *Display) giveAtoms(to xproto.Window, into xproto.Atom, own *owned) bool {
	names := []string{"TARGETS", "MULTIPLE", "TIMESTAMP"}
	for _, c := range own.contents { // in the first owner's order
		names = append(names, c.Type)
	}
	for name := range own.names {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var b []byte
	for _, name := range names {
		id, err := d.names.get(name)
		if err != nil {
			return false
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	xproto.ChangeProperty(d.x, xproto.PropModeReplace, to, into, xproto.AtomAtom, 32, uint32(len(names)), b) //nolint:gosec // a few
	return true
}

// giveMany answers pairs of target and property (ICCCM 2.6.2); a pair that cannot be answered is marked.
func (d *Display) giveMany(e xproto.SelectionRequestEvent, list xproto.Atom) bool {
	p, err := xproto.GetProperty(d.x, false, e.Requestor, list, xproto.GetPropertyTypeAny, 0, 2*clip.MaxTypes).Reply()
	if err != nil || p.Format != 32 {
		return false
	}
	multiple, err := d.names.get("MULTIPLE")
	if err != nil {
		return false
	}
	for pair := range slices.Chunk(p.Value, 8) {
		if len(pair) < 8 {
			break
		}
		target, into := xproto.Atom(binary.LittleEndian.Uint32(pair)), xproto.Atom(binary.LittleEndian.Uint32(pair[4:]))
		if target == multiple || into == xproto.AtomNone || !d.give(e, target, into) {
			binary.LittleEndian.PutUint32(pair[4:], uint32(xproto.AtomNone))
		}
	}
	xproto.ChangeProperty(d.x, xproto.PropModeReplace, e.Requestor, list, p.Type, 32, uint32(len(p.Value)/4), p.Value) //nolint:gosec // a few
	return true
}

type sendingKey struct {
	to   xproto.Window
	into xproto.Atom
}

// sending is an INCR transfer to a requestor (ICCCM 2.7.2).
type sending struct {
	kind  xproto.Atom
	rest  []byte
	last  time.Time // when the requestor took a piece
	ended bool      // the empty piece was sent
}

// maxSending bounds transfers to requestors that run at a time; requestors that stopped taking give way.
const maxSending = 64

func (d *Display) send(key sendingKey, kind xproto.Atom, data []byte) {
	if len(data) <= pieceSize {
		xproto.ChangeProperty(d.x, xproto.PropModeReplace, key.to, key.into, kind, 8, uint32(len(data)), data) //nolint:gosec // at most pieceSize
		return
	}
	incr, err := d.names.get("INCR")
	if err != nil {
		return
	}
	d.mu.Lock()
	d.sending[key] = &sending{kind: kind, rest: data, last: time.Now()}
	d.dropSilent()
	d.mu.Unlock()
	xproto.ChangeWindowAttributes(d.x, key.to, xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange | xproto.EventMaskStructureNotify})
	size := binary.LittleEndian.AppendUint32(nil, uint32(min(len(data), 1<<31-1))) //nolint:gosec // bounded
	xproto.ChangeProperty(d.x, xproto.PropModeReplace, key.to, key.into, incr, 32, 1, size)
}

// dropSilent forgets requestors that stopped taking; the caller holds the lock.
func (d *Display) dropSilent() {
	for key, s := range d.sending {
		if time.Since(s.last) > 10*d.config.Patience || len(d.sending) > maxSending && time.Since(s.last) > d.config.Patience {
			delete(d.sending, key)
		}
	}
}

// taken is told that a requestor took the piece before.
func (d *Display) taken(key sendingKey) {
	d.mu.Lock()
	s := d.sending[key]
	if s == nil {
		d.mu.Unlock()
		return
	}
	if s.ended {
		delete(d.sending, key)
		d.mu.Unlock()
		return
	}
	piece := s.rest[:min(len(s.rest), pieceSize)]
	s.rest = s.rest[len(piece):]
	s.last, s.ended = time.Now(), len(piece) == 0
	d.mu.Unlock()
	xproto.ChangeProperty(d.x, xproto.PropModeReplace, key.to, key.into, s.kind, 8, uint32(len(piece)), piece) //nolint:gosec // at most pieceSize
}

// gone is told that a requestor's window was destroyed.
func (d *Display) gone(w xproto.Window) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.sending {
		if key.to == w {
			delete(d.sending, key)
		}
	}
}

package wayland

import (
	"fmt"
	"slices"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// seat is a keyboard and a mouse; each has clipboards of its own. All but device is under the display's lock.
type seat struct {
	display *Display
	name    uint32 // the number of its global
	device  *wire.Object
	pending map[uint32]*pending // offers that are no selection's yet
	current map[clip.Selection]*change
	own     map[clip.Selection]*source
}

// pending is an offer that the compositor tells of before it says which selection's it is.
type pending struct {
	remote *wire.Object
	types  []string
}

const (
	maxPending = 16
	// maxTypes bounds the types of an offer: more than an item may have, so that a secret's mark is not overlooked among many.
	maxTypes = 1024
)

// change is that a selection of a seat has another owner.
type change struct {
	number     uint64
	told       bool // Next has delivered it; under the display's lock
	selection  clip.Selection
	remote     *wire.Object // nil: nobody owns it
	types      []string
	app        string
	own        bool
	cleared    bool
	superseded chan struct{} // closed when there is a newer one
}

// supersede is called once, with the display's lock held.
func (c *change) supersede() {
	close(c.superseded)
	if c.remote != nil {
		_ = c.remote.Destroy(offerDestroy) // fails only if the connection does, which Run says
	}
}

// handle handles the events of the seat's device.
func (s *seat) handle(m *wire.Message) error {
	d := s.display
	switch m.Opcode {
	case deviceOffer:
		return s.offered(m.Uint())
	case deviceSelection:
		return s.changed(clip.Clipboard, m.Uint())
	case devicePrimary:
		return s.changed(clip.Primary, m.Uint())
	case deviceFinished:
		return d.leave(s.name)
	}
	return m.Unknown()
}

// offered is told of an offer, whose types follow.
func (s *seat) offered(id uint32) error {
	p := &pending{}
	var err error
	if p.remote, err = s.display.client.Adopt(id, "data control offer", func(m *wire.Message) error {
		if m.Opcode != offerType {
			return m.Unknown()
		}
		if kind := m.String(); kind != "" && len(kind) <= clip.MaxType && len(p.types) < maxTypes && !slices.Contains(p.types, kind) {
			p.types = append(p.types, kind)
		}
		return nil
	}); err != nil {
		return err
	}
	s.display.mu.Lock()
	defer s.display.mu.Unlock()
	if s.pending[id] = p; len(s.pending) > maxPending {
		return fmt.Errorf("%w: %d offers that are no selection's", wire.ErrProtocol, len(s.pending))
	}
	return nil
}

// changed is told which offer a selection has now; 0: none.
func (s *seat) changed(selection clip.Selection, id uint32) error {
	d := s.display
	d.mu.Lock()
	defer d.mu.Unlock()
	p := s.pending[id]
	delete(s.pending, id)
	if id != 0 && p == nil {
		return fmt.Errorf("%w: offer %d of the %s was not announced", wire.ErrProtocol, id, selection)
	}
	before := s.current[selection]
	if id == 0 && (before == nil || before.remote == nil) {
		return nil // it had no owner before
	}
	if !slices.Contains(d.config.Selections, selection) {
		return p.remote.Destroy(offerDestroy)
	}
	d.number++
	c := &change{number: d.number, selection: selection, superseded: make(chan struct{})}
	own := s.own[selection]
	if p != nil {
		c.remote, c.types = p.remote, slices.Clone(p.types) // whatever comes later
		if d.focus != nil {
			c.app = d.focus.app
		}
		c.own = own != nil && !own.cancelled && slices.Contains(c.types, own.mark)
	}
	switch {
	case own == nil:
	case c.own:
		own.seen = true
	case own.seen || own.cancelled: // else this was sent before the compositor knew of it
		c.cleared = p == nil // it was taken from this process, which still runs
		delete(s.own, selection)
	}
	if before != nil {
		before.supersede()
	}
	s.current[selection] = c
	select {
	case d.news <- struct{}{}:
	default:
	}
	return nil
}

package wayland

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// source is what this process offers in a selection of a seat. All but contents, names and mark is under the display's lock.
type source struct {
	contents  []clip.Content
	names     map[string]int // place in contents by type
	mark      string         // a type that no other offer has
	remote    *wire.Object
	seen      bool // the compositor has said that it is the selection
	cancelled bool // it is not any more
}

// markPrefix begins the type by which a source is known again. Recorders leave such types out (policy).
const markPrefix = "application/x-orrery-clip-"

// Offer is clip.Display's. It is offered at every seat.
func (d *Display) Offer(s clip.Selection, contents []clip.Content) error {
	if s == clip.Primary && !d.primary {
		return fmt.Errorf("cannot offer the %s: %w: the compositor's data-control has none", s, clip.ErrUnsupported)
	}
	if err := d.offer(s, contents); err != nil {
		return fmt.Errorf("cannot offer the %s: %w", s, err)
	}
	if err := d.sync(nil); err != nil {
		return fmt.Errorf("cannot offer the %s: %w", s, err)
	}
	return nil
}

func (d *Display) offer(s clip.Selection, contents []clip.Content) error {
	names := clip.Names(contents)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.seats) == 0 {
		return errors.New("the compositor has no seat, and so no clipboard")
	}
	for _, seat := range d.seats {
		d.marks++
		own := &source{contents: contents, names: names, mark: markPrefix + d.token + "-" + strconv.Itoa(d.marks)}
		if err := d.own(seat, s, own); err != nil {
			return err
		}
	}
	return nil
}

// own makes a source the selection of a seat; the caller holds the lock, so that events find it.
func (d *Display) own(at *seat, s clip.Selection, own *source) (err error) {
	own.remote, err = d.manager.Create("data control source", managerCreateSource, func(m *wire.Message) error { return d.told(own, m) }, wire.New)
	if err != nil {
		return err
	}
	for _, kind := range own.types() {
		if err := own.remote.Request(sourceOffer, wire.String(kind)); err != nil {
			return err
		}
	}
	request := uint16(deviceSetSelection)
	if s == clip.Primary {
		request = deviceSetPrimary
	}
	if err := at.device.Request(request, own.remote); err != nil {
		return err
	}
	at.own[s] = own
	return nil
}

// types are those of the contents in the first owner's order, their other names, and the mark.
func (own *source) types() []string {
	types := make([]string, 0, len(own.names)+1)
	for _, c := range own.contents {
		if !slices.Contains(types, c.Type) {
			types = append(types, c.Type)
		}
	}
	others := len(types)
	for name := range own.names {
		if !slices.Contains(types[:others], name) {
			types = append(types, name)
		}
	}
	slices.Sort(types[others:])
	return append(types, own.mark)
}

// Clear is clip.Display's. The source is destroyed, which changes nothing if somebody else has copied meanwhile.
func (d *Display) Clear(s clip.Selection) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, seat := range d.seats {
		if own := seat.own[s]; own != nil {
			errs = append(errs, own.remote.Destroy(sourceDestroy))
		}
	}
	return errors.Join(errs...)
}

// told handles the events of a source.
func (d *Display) told(own *source, m *wire.Message) error {
	switch m.Opcode {
	case sourceSend:
		kind, fd := m.String(), m.FD()
		if m.Err() == nil {
			d.send(own, kind, fd)
		}
		return nil
	case sourceCancelled:
		d.mu.Lock()
		defer d.mu.Unlock()
		own.cancelled = true
		return own.remote.Destroy(sourceDestroy)
	}
	return m.Unknown()
}

// maxSending bounds transfers to programs that run at a time; the oldest gives way.
const maxSending = 64

// send gives a program what it asked for.
func (d *Display) send(own *source, kind string, fd int) {
	err := syscall.SetNonblock(fd, true)
	to := os.NewFile(uintptr(fd), "transfer") //nolint:gosec // a descriptor is not negative here
	at, ok := own.names[kind]
	if err == nil && ok {
		err = to.SetWriteDeadline(time.Time{}) // only what can be waited for with a deadline: a pipe or a socket
	}
	if err != nil || !ok {
		d.config.Logger.Debug("content is not sent", "type", kind, "error", errors.Join(err, to.Close()))
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = to.Close()
		return
	}
	if d.sending = append(d.sending, to); len(d.sending) > maxSending {
		_ = d.sending[0].Close() // ends its goroutine, too
		d.sending = d.sending[1:]
	}
	d.work.Go(func() {
		if err := d.write(to, own.contents[at].Data); err != nil {
			d.config.Logger.Debug("a program did not take what it had asked for", "type", kind, "error", err)
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.sending = slices.DeleteFunc(d.sending, func(f *os.File) bool { return f == to })
		_ = to.Close()
	})
}

// write writes it all, as long as the reader is not silent for too long.
func (d *Display) write(to *os.File, data []byte) error {
	for len(data) > 0 {
		if err := to.SetWriteDeadline(time.Now().Add(10 * d.config.Patience)); err != nil {
			return err
		}
		n, err := to.Write(data[:min(len(data), pieceSize)])
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

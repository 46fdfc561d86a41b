package wayland

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"orrery/clip"
	"orrery/clip/wayland/wire"
)

// offer is what the owner of a selection offers.
type offer struct {
	display *Display
	change  *change
}

var _ clip.Offer = (*offer)(nil)

// Selection is clip.Offer's.
func (o *offer) Selection() clip.Selection { return o.change.selection }

// Types is clip.Offer's.
func (o *offer) Types() []string { return o.change.types }

// App is clip.Offer's: the application of the window that had the focus.
func (o *offer) App() string { return o.change.app }

// Own is clip.Offer's.
func (o *offer) Own() bool { return o.change.own }

// Cleared is clip.Offer's: known of what this process owned only.
func (o *offer) Cleared() bool { return o.change.cleared }

// Exited is clip.Offer's: a compositor does not tell.
func (o *offer) Exited() bool { return false }

// Read is clip.Offer's.
func (o *offer) Read(ctx context.Context, kind string, limit int64) ([]byte, error) {
	content, err := o.read(ctx, kind, limit)
	select {
	case <-o.change.superseded: // what came may be cut short
		err = clip.ErrGone
	default:
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", kind, o.change.selection, err)
	}
	return content, nil
}

func (o *offer) read(ctx context.Context, kind string, limit int64) ([]byte, error) {
	if !slices.Contains(o.change.types, kind) {
		return nil, fmt.Errorf("it is not offered: %w", clip.ErrNotFound)
	}
	from, err := o.ask(kind)
	if err != nil {
		return nil, err
	}
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { // closing the pipe ends the reading, and tells an owner that still sends
		defer from.Close() //nolint:errcheck // it was only read
		select {
		case <-over:
		case <-ctx.Done():
		case <-o.change.superseded:
		case <-o.display.client.Done():
		}
	})
	content, err := o.drain(from, limit)
	close(over)
	watch.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	// An owner that is killed in the middle closes the pipe, too. The compositor has then seen its end before it answers this.
	return content, o.display.sync(ctx.Done())
}

// ask gives the owner one end of a pipe.
func (o *offer) ask(kind string) (from *os.File, err error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	raw, err := to.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		if failed = syscall.SetNonblock(int(fd), false); failed != nil { // programs expect a pipe that takes all
			return
		}
		failed = o.change.remote.Request(offerReceive, wire.String(kind), wire.FD(fd)) //nolint:gosec // a descriptor is small
	})
	if errors.Is(failed, wire.ErrDestroyed) {
		failed = clip.ErrGone
	}
	if err = errors.Join(err, failed); err != nil {
		return nil, errors.Join(err, from.Close())
	}
	return from, nil
}

// pieceSize is how much is read at once: what a pipe holds.
const pieceSize = 64 << 10

// drain reads to the end, as long as the owner is not silent for too long.
func (o *offer) drain(from *os.File, limit int64) ([]byte, error) {
	patience := o.display.config.Patience
	content := []byte{}
	for {
		if err := from.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return nil, wire.ErrClosed // or the offer is over, which the caller looks at
		}
		content = slices.Grow(content, pieceSize)
		n, err := from.Read(content[len(content) : len(content)+pieceSize])
		content = content[:len(content)+n]
		switch {
		case int64(len(content)) > limit:
			return nil, fmt.Errorf("%w: more than %d bytes", clip.ErrTooLarge, limit)
		case errors.Is(err, io.EOF):
			return content, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("the owner has not answered for %s: %w", patience, context.DeadlineExceeded)
		case errors.Is(err, os.ErrClosed):
			return nil, wire.ErrClosed // likewise
		case err != nil:
			return nil, err
		}
	}
}

// Package cliptest has a display in memory, for tests of what uses one.
package cliptest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"orrery/clip"
)

// Display is a clip.Display whose other applications are the test.
type Display struct {
	mu      sync.Mutex
	news    chan clip.Offer
	current map[clip.Selection]*offer
	closed  chan struct{}
	end     func()
}

var _ clip.Display = (*Display)(nil)

// New makes a display on which nobody owns anything.
func New() *Display {
	d := &Display{news: make(chan clip.Offer, 1024), current: map[clip.Selection]*offer{}, closed: make(chan struct{})}
	d.end = sync.OnceFunc(func() { close(d.closed) })
	return d
}

type offer struct {
	selection clip.Selection
	app       string
	own       bool
	cleared   bool
	contents  []clip.Content
	hang      map[string]bool
	over      chan struct{}
	reads     *[]string
	mu        *sync.Mutex
}

// App is another application that copies.
type App struct {
	Name string
	Hang []string // types that it never gives
}

// Copy makes an application the owner of a selection. The returned function lists the types that were read so far.
func (d *Display) Copy(s clip.Selection, a App, contents ...clip.Content) (reads func() []string) {
	o := &offer{selection: s, app: a.Name, contents: contents, hang: map[string]bool{}}
	for _, t := range a.Hang {
		o.hang[t] = true
	}
	d.own(o)
	return func() []string {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Clone(*o.reads)
	}
}

// Exit ends the owner of a selection.
func (d *Display) Exit(s clip.Selection) { d.own(&offer{selection: s}) }

// LetGo makes the owner of a selection give it up on purpose.
func (d *Display) LetGo(s clip.Selection) { d.own(&offer{selection: s, cleared: true}) }

func (d *Display) own(o *offer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o.over, o.reads, o.mu = make(chan struct{}), new([]string), &d.mu
	if before := d.current[o.selection]; before != nil {
		close(before.over)
	}
	d.current[o.selection] = o
	d.news <- o
}

// Has is what a selection has now; own says that the code under test owns it.
func (d *Display) Has(s clip.Selection) (contents []clip.Content, own bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if o := d.current[s]; o != nil {
		return o.contents, o.own
	}
	return nil, false
}

// Name is clip.Display's.
func (d *Display) Name() string { return "memory" }

// Next is clip.Display's.
func (d *Display) Next(ctx context.Context) (clip.Offer, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.closed:
		return nil, clip.ErrGone
	case o := <-d.news:
		return o, nil
	}
}

// Offer is clip.Display's.
func (d *Display) Offer(s clip.Selection, contents []clip.Content) error {
	d.own(&offer{selection: s, own: true, contents: contents})
	return nil
}

// Clear is clip.Display's.
func (d *Display) Clear(s clip.Selection) error {
	if _, own := d.Has(s); own {
		d.own(&offer{selection: s, cleared: true})
	}
	return nil
}

// End ends the window system.
func (d *Display) End() { d.end() }

// Close is clip.Display's.
func (d *Display) Close() error {
	d.end()
	return nil
}

// Selection is clip.Offer's.
func (o *offer) Selection() clip.Selection { return o.selection }

// Types is clip.Offer's.
func (o *offer) Types() []string {
	var types []string
	for _, c := range o.contents {
		types = append(types, c.Type)
	}
	return types
}

// App is clip.Offer's.
func (o *offer) App() string { return o.app }

// Own is clip.Offer's.
func (o *offer) Own() bool { return o.own }

// Cleared is clip.Offer's.
func (o *offer) Cleared() bool { return o.cleared }

// Exited is clip.Offer's.
func (o *offer) Exited() bool { return false }

// Read is clip.Offer's.
func (o *offer) Read(ctx context.Context, kind string, limit int64) ([]byte, error) {
	o.mu.Lock()
	*o.reads = append(*o.reads, kind)
	o.mu.Unlock()
	if o.hang[kind] {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-o.over:
			return nil, clip.ErrGone
		}
	}
	select {
	case <-o.over:
		return nil, clip.ErrGone
	default:
	}
	for _, c := range o.contents {
		if c.Type == kind {
			if int64(len(c.Data)) > limit {
				return nil, clip.ErrTooLarge
			}
			return c.Data, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", kind, clip.ErrNotFound)
}

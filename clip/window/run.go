package window

import (
	"context"
	"errors"
	"image"
	"io"
	"sync"
	"time"

	"github.com/go-text/typesetting/font"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/picker"
	"orrery/clip/window/paint"
	"orrery/clip/window/typeset"
)

const (
	// maxItems is how many matches are listed: nobody scrolls further.
	maxItems = 1000
	// firstWait is how long the first frame waits for the first items and for the theme, so that it is not empty, and does not flash.
	firstWait = 30 * time.Millisecond
)

// Config is what a window needs.
type Config struct {
	Source  Source
	Actions action.Set
	Paste   bool // enter pastes, too
	Open    func(ctx context.Context) (Screen, error)
	// Theme says which colours to use. The first frame waits for it, for a moment; until it has answered they are light. nil: they stay so.
	Theme func(ctx context.Context) paint.Theme
	// Fonts finds fonts for characters that those that are built in lack; nil: there are none.
	Fonts func(ctx context.Context, missing []rune) map[rune]*font.Face
}

// Run shows a picker until somebody has picked, or ended it.
func Run(ctx context.Context, c Config) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{ctx: ctx, config: c, answers: make(chan func() []picker.Effect), searching: func() {}}
	defer l.work.Wait()
	defer cancel()
	var first []picker.Effect
	l.state, first = picker.Start(10, c.Actions, c.Paste)
	l.do(first) // while the window opens
	if l.waits = 1; c.Theme != nil {
		l.waits++
		l.start(func() func() []picker.Effect {
			theme := c.Theme(ctx)
			return func() []picker.Effect { l.painter.Theme = theme; l.waits--; return nil }
		})
	}
	set, err := typeset.New()
	if err != nil {
		return err
	}
	l.set, l.painter = set, paint.New(set, paint.Light)
	if l.screen, err = c.Open(ctx); err != nil {
		return err
	}
	events, ended := make(chan Event), make(chan error, 1)
	l.work.Go(func() { ended <- l.listen(events) })
	err = l.run(events, ended)
	cancel()
	return errors.Join(err, l.screen.Close())
}

// loop is a picker that runs. All but what is started by start is its goroutine's.
type loop struct {
	ctx     context.Context //nolint:containedctx // of Run
	config  Config
	screen  Screen
	state   *picker.State
	set     *typeset.Setter
	painter *paint.Painter
	work    sync.WaitGroup
	answers chan func() []picker.Effect

	sized     bool // it is known how large the window is
	waits     int  // for what the first frame waits yet
	found     bool // the first items are there
	busy      int  // programs that may take the keyboard, and gifts: they are waited for
	quit      bool
	failed    error
	composing string
	searching context.CancelFunc // ends the search before
	picture   image.Image        // of the item with this id
	pictured  clip.ID
}

// listen hands events on.
func (l *loop) listen(events chan<- Event) error {
	for {
		e, err := l.screen.Next(l.ctx)
		if err != nil {
			return err
		}
		select {
		case events <- e:
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
	}
}

func (l *loop) run(events <-chan Event, ended <-chan error) error {
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	for !l.quit {
		select {
		case e := <-events:
			l.take(e)
			l.rest(events)
		case a := <-l.answers:
			l.do(a())
		case <-timer.C:
			l.waits = 0
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if l.quit || !l.sized || l.waits > 0 {
			continue
		}
		if err := l.show(); err != nil {
			return err
		}
	}
	return l.failed
}

// rest takes what has come meanwhile, so that a frame is drawn once for all of it.
func (l *loop) rest(events <-chan Event) {
	for !l.quit {
		select {
		case e := <-events:
			l.take(e)
		case a := <-l.answers:
			l.do(a())
		default:
			return
		}
	}
}

func (l *loop) show() error {
	view := paint.View{State: l.state, Composing: l.composing}
	if item := l.state.Item; item != nil && item.ID == l.pictured {
		view.Picture = l.picture
	}
	if err := l.screen.Show(l.painter.Paint(view)); err != nil {
		return err
	}
	if missing := l.set.Missing(); len(missing) > 0 && l.config.Fonts != nil {
		l.start(func() func() []picker.Effect {
			faces := l.config.Fonts(l.ctx, missing)
			return func() []picker.Effect { l.set.Use(faces); return nil }
		})
	}
	return nil
}

// take takes an event in.
func (l *loop) take(event Event) {
	switch e := event.(type) {
	case Resized:
		l.state.Resize(l.painter.Resize(e.Width, e.Height, e.Scale))
		l.sized, l.pictured = true, 0
		l.decode()
	case Pressed:
		l.composing = e.Composing
		if e.Word != "" {
			l.do(l.state.Key(e.Word))
		}
		if e.Text != "" {
			l.do(l.state.Type(e.Text, 0))
		}
	case Erased:
		l.do(l.state.Type("", e.Bytes))
	case Clicked:
		if at, ok := l.painter.At(l.state, e.X, e.Y); ok {
			if l.state.Overlay == picker.Menu {
				l.state.Choice = at
			} else {
				l.state.Cursor = at
			}
			l.do(l.state.Key("enter"))
		}
	case Scrolled:
		word := "down"
		if e.Rows < 0 {
			word = "up"
		}
		for range min(max(e.Rows, -e.Rows), l.state.Rows) {
			l.do(l.state.Key(word))
		}
	case Left:
		l.quit = l.quit || l.busy == 0
	}
}

// start does something beside the loop; what it returns is done in it.
func (l *loop) start(f func() func() []picker.Effect) {
	l.work.Go(func() {
		answer := f()
		select {
		case l.answers <- answer:
		case <-l.ctx.Done():
		}
	})
}

// await is start for what the window waits for, also if it loses the keyboard.
func (l *loop) await(f func() func() []picker.Effect) {
	l.busy++
	l.start(func() func() []picker.Effect {
		answer := f()
		return func() []picker.Effect { l.busy--; return answer() }
	})
}

// do carries effects out.
func (l *loop) do(effects []picker.Effect) {
	for _, effect := range effects {
		l.one(effect)
	}
}

func (l *loop) one(effect picker.Effect) {
	source := l.config.Source
	switch e := effect.(type) {
	case picker.Search:
		l.searching()
		ctx, cancel := context.WithCancel(l.ctx)
		l.searching = cancel
		l.start(func() func() []picker.Effect {
			items, err := source.Search(ctx, e.Query, e.Mode, maxItems)
			return func() []picker.Effect {
				if ctx.Err() != nil {
					return nil
				}
				if !l.found {
					l.found = true
					l.waits--
				}
				return l.state.Found(e, items, err)
			}
		})
	case picker.Show:
		l.start(func() func() []picker.Effect {
			item, err := source.Show(l.ctx, e.ID)
			return func() []picker.Effect {
				effects := l.state.Shown(item, err)
				l.decode()
				return effects
			}
		})
	case picker.Give:
		l.await(func() func() []picker.Effect {
			err := source.Give(l.ctx, e.ID, e.Plain, e.Paste)
			return func() []picker.Effect { l.failed, l.quit = err, true; return nil }
		})
	case picker.Pin:
		l.start(func() func() []picker.Effect {
			err := source.Pin(l.ctx, e.ID, e.Pinned)
			return func() []picker.Effect { return l.state.Done(err) }
		})
	case picker.Delete:
		l.start(func() func() []picker.Effect {
			err := source.Delete(l.ctx, e.ID)
			return func() []picker.Effect { return l.state.Done(err) }
		})
	case picker.Edit:
		l.await(func() func() []picker.Effect {
			err := source.EditElsewhere(l.ctx, e.ID)
			return func() []picker.Effect { return l.state.Opened(err) } // the editor has the focus then
		})
	case picker.Open:
		l.await(func() func() []picker.Effect {
			err := source.Open(l.ctx, e.Address)
			return func() []picker.Effect { return l.state.Opened(err) }
		})
	case picker.Run:
		l.await(func() func() []picker.Effect {
			printed, err := source.Run(l.ctx, e.ID, e.Action)
			return func() []picker.Effect { return l.state.Ran(e.Action, printed, err) }
		})
	case picker.Quit:
		l.quit = true
	}
}

// decode makes the picture of the item under the cursor, if it has one.
func (l *loop) decode() {
	shows, size := l.state.Shows, l.painter.PreviewSize()
	if shows == nil || shows.Image == nil || l.state.Item.ID == l.pictured || size.X <= 0 || size.Y <= 0 {
		return
	}
	id, data := l.state.Item.ID, shows.Image.Data
	l.start(func() func() []picker.Effect {
		picture := thumbnail(data, size)
		return func() []picker.Effect { l.picture, l.pictured = picture, id; return nil }
	})
}

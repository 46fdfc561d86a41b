package window_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/png"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/go-text/typesetting/font"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/find"
	"orrery/clip/picker"
	"orrery/clip/window"
	"orrery/clip/window/paint"
	"orrery/clip/window/windowtest"
	"orrery/internal/testenv"
)

// screen is a window that the test looks at.
type screen struct {
	events chan window.Event
	closed chan struct{}

	mu      sync.Mutex
	picture *image.RGBA
	first   *image.RGBA
}

func (s *screen) Next(ctx context.Context) (window.Event, error) {
	select {
	case e, ok := <-s.events:
		if !ok {
			return nil, io.EOF
		}
		return e, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *screen) Show(picture *image.RGBA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.picture = image.NewRGBA(picture.Rect)
	copy(s.picture.Pix, picture.Pix)
	if s.first == nil {
		s.first = s.picture
	}
	return nil
}

func (s *screen) Close() error {
	close(s.closed)
	return nil
}

func (s *screen) shown() *image.RGBA {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.picture
}

// source is one whose searches the test answers.
type source struct {
	*windowtest.Source

	searches chan context.Context // of each search that waits for go
	answer   chan struct{}
	give     chan error
}

func (s *source) Search(ctx context.Context, query string, mode find.Mode, limit int) ([]clip.Summary, error) {
	if query == "" {
		return s.Source.Search(ctx, query, mode, limit)
	}
	s.searches <- ctx
	select {
	case <-s.answer:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Source.Search(ctx, query, mode, limit)
}

func (s *source) Give(ctx context.Context, id clip.ID, plain, paste bool) error {
	if err := <-s.give; err != nil {
		return err
	}
	return s.Source.Give(ctx, id, plain, paste)
}

type rig struct {
	t      *testing.T
	screen *screen
	want   *windowtest.Expected
	ended  chan error
}

// start runs a picker.
func start(t *testing.T, s window.Source, memory *windowtest.Source, change func(c *window.Config)) *rig {
	t.Helper()
	r := &rig{t: t, screen: &screen{events: make(chan window.Event, 16), closed: make(chan struct{})}, ended: make(chan error, 1)}
	c := window.Config{Source: s, Actions: action.Defaults(), Open: func(context.Context) (window.Screen, error) { return r.screen, nil }}
	if change != nil {
		change(&c)
	}
	go func() { r.ended <- window.Run(t.Context(), c) }()
	r.screen.events <- window.Resized{Width: paint.Width, Height: paint.Height, Scale: 1}
	r.want = windowtest.Expect(t, memory, paint.Width, paint.Height, 1)
	return r
}

func (r *rig) end() error {
	err := <-r.ended
	<-r.screen.closed
	return err
}

// TestCancel: the next key ends the search before, and its answer counts for nothing.
func TestCancel(t *testing.T) {
	t.Parallel()
	memory := windowtest.Texts("apple", "banana")
	s := &source{Source: memory, searches: make(chan context.Context), answer: make(chan struct{}), give: make(chan error)}
	r := start(t, s, memory, nil)
	r.want.Shows("all", r.screen.shown)
	r.screen.events <- window.Pressed{Text: "x"}
	first := <-s.searches
	r.screen.events <- window.Pressed{Word: "backspace"}
	r.screen.events <- window.Pressed{Text: "b"}
	<-first.Done()
	<-s.searches
	s.answer <- struct{}{}
	r.want.Type("b")
	r.want.Shows("what was typed last", r.screen.shown)
	close(r.screen.events)
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// TestGive: a window that loses the keyboard while it gives waits for that, and says how it went.
func TestGive(t *testing.T) {
	t.Parallel()
	for _, want := range []error{nil, errors.New("no recorder")} {
		memory := windowtest.Texts("apple", "banana")
		s := &source{Source: memory, give: make(chan error)}
		r := start(t, s, memory, func(c *window.Config) { c.Paste = true })
		testenv.Eventually(t, "a frame", func() bool { return r.screen.shown() != nil })
		r.screen.events <- window.Pressed{Word: "enter"}
		r.screen.events <- window.Left{}
		s.give <- want
		if err := r.end(); !errors.Is(err, want) {
			t.Fatal(err)
		}
		if got := memory.Given(); want == nil && (len(got) != 1 || got[0] != (windowtest.Given{ID: 2, Paste: true})) {
			t.Errorf("%v", got)
		}
	}
}

// TestTheme: the first frame has the theme's colours if that comes in time, and a later one if not; one that never comes is not waited for.
func TestTheme(t *testing.T) {
	t.Parallel()
	memory := windowtest.Texts("apple")
	var release chan struct{}
	for _, late := range []bool{false, true} {
		release = make(chan struct{})
		r := start(t, memory, memory, func(c *window.Config) {
			c.Theme = func(ctx context.Context) paint.Theme {
				if late {
					select {
					case <-release:
					case <-ctx.Done():
					}
				}
				return paint.Dark
			}
		})
		if late {
			r.want.Shows("light", r.screen.shown)
			close(release)
		}
		testenv.Eventually(t, "it is dark", func() bool { p := r.screen.shown(); return p != nil && p.RGBAAt(1, 1) == paint.Dark.Ground })
		r.screen.events <- window.Left{}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if first := r.screen.first.RGBAAt(1, 1); late && first != paint.Light.Ground {
			t.Errorf("the first frame is %v", first)
		}
	}
}

// TestFonts: fonts are looked for what the built-in ones lack, beside the frame, once.
func TestFonts(t *testing.T) {
	t.Parallel()
	memory := windowtest.Texts("apple", "日本")
	asked := make(chan []rune, 10)
	release := make(chan struct{})
	r := start(t, memory, memory, func(c *window.Config) {
		c.Fonts = func(_ context.Context, missing []rune) map[rune]*font.Face {
			asked <- missing
			<-release
			return nil
		}
	})
	if got := string(<-asked); got != "日本" {
		t.Errorf("%q", got)
	}
	r.want.Shows("a frame meanwhile", r.screen.shown)
	close(release)
	r.screen.events <- window.Pressed{Word: "down"}
	r.want.Key("down")
	r.want.Shows("second", r.screen.shown)
	if len(asked) != 0 {
		t.Errorf("%q again", string(<-asked))
	}
	r.screen.events <- window.Pressed{Word: "esc"}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// broken is a history that cannot be reached.
type broken struct{ *windowtest.Source }

func (broken) Search(context.Context, string, find.Mode, int) ([]clip.Summary, error) {
	return nil, errors.New("no recorder runs (start one: clip record)")
}

// TestBroken: why there is nothing is shown, and the window can be closed.
func TestBroken(t *testing.T) {
	t.Parallel()
	memory := windowtest.Texts()
	r := start(t, broken{memory}, memory, nil)
	r.want.State.Note = "no recorder runs (start one: clip record)"
	r.want.Shows("the error", r.screen.shown)
	r.screen.events <- window.Pressed{Word: "enter"}
	r.screen.events <- window.Clicked{X: 300, Y: 100}
	r.screen.events <- window.Pressed{Word: "esc"}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
}

// TestPictures: those that are too large, or none, are not decoded, and cost nothing; others are made to fit.
func TestPictures(t *testing.T) {
	t.Parallel()
	var good bytes.Buffer
	if err := png.Encode(&good, image.NewGray(image.Rect(0, 0, 3000, 1000))); err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Clone(good.Bytes())
	binary.BigEndian.PutUint32(bomb[16:], 1<<30) // its width
	for name, c := range map[string]struct {
		data []byte
		want string
	}{"good": {good.Bytes(), ""}, "bomb": {bomb, "image/png, "}, "cut": {good.Bytes()[:100], "image/png, "}, "none": {[]byte("x"), "image/png, "}} {
		memory := &windowtest.Source{}
		memory.Add(clip.Content{Type: "image/png", Data: c.data})
		r := start(t, memory, memory, nil)
		if c.want != "" {
			r.want.Shows(name, r.screen.shown)
		} else {
			testenv.Eventually(t, "a black picture", func() bool {
				p := r.screen.shown()
				return p != nil && p.RGBAAt(360, 430).R == 0
			})
		}
		r.screen.events <- window.Left{}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMany: of 100,000 items those that are shown are drawn; a frame takes as long as with few.
func TestMany(t *testing.T) {
	state, first := picker.Start(10, nil, false)
	items := make([]clip.Summary, 100_000)
	for i := range items {
		items[i] = clip.Summary{ID: clip.ID(i + 1), Kind: clip.Text, Preview: "item", Used: time.Unix(1, 0)} //nolint:gosec // a few
	}
	query, ok := first[0].(picker.Search)
	if !ok {
		t.Fatal(first)
	}
	want := windowtest.Expect(t, windowtest.Texts(), paint.Width, paint.Height, 1)
	state.Resize(want.State.Rows)
	state.Found(query, items, nil)
	state.Key("end")
	want.State = state
	many := testing.AllocsPerRun(10, func() { want.Picture() })
	state.Items = items[:50]
	state.Key("end")
	if few := testing.AllocsPerRun(10, func() { want.Picture() }); many > few+20 {
		t.Errorf("%v allocations for many, %v for few", many, few)
	}
}

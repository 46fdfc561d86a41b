package windowtest

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/clip/action"
	"orrery/clip/picker"
	"orrery/clip/window/paint"
	"orrery/clip/window/typeset"
	"orrery/internal/testenv"
)

// Expected is a picker beside the one that is tested, which is told of the same keys: what it draws is what the window is to show.
type Expected struct {
	State     *picker.State
	Source    *Source
	Composing string
	tb        testing.TB
	paint     *paint.Painter
}

// Expect makes one for a window of a size.
func Expect(tb testing.TB, s *Source, width, height int, scale float64) *Expected {
	tb.Helper()
	set, err := typeset.New()
	if err != nil {
		tb.Fatal(err)
	}
	e := &Expected{tb: tb, Source: s, paint: paint.New(set, paint.Light)}
	state, first := picker.Start(e.paint.Resize(width, height, scale), action.Defaults(), false)
	e.State = state
	e.do(first)
	return e
}

// Key is a key that the window is told of, too.
func (e *Expected) Key(word string) { e.do(e.State.Key(word)) }

// Type is text, likewise: a character at a time.
func (e *Expected) Type(text string) {
	for _, r := range text {
		e.do(e.State.Type(string(r), 0))
	}
}

func (e *Expected) do(effects []picker.Effect) {
	for _, effect := range effects {
		switch f := effect.(type) {
		case picker.Search:
			items, err := e.Source.Search(e.tb.Context(), f.Query, f.Mode, 1000)
			e.do(e.State.Found(f, items, err))
		case picker.Show:
			item, err := e.Source.Show(e.tb.Context(), f.ID)
			e.do(e.State.Shown(item, err))
		}
	}
}

// Picture is what the window is to show.
func (e *Expected) Picture() *image.RGBA {
	return e.paint.Paint(paint.View{State: e.State, Composing: e.Composing})
}

// Same says whether a photograph shows a picture. Both are opaque.
func Same(photograph, picture *image.RGBA) bool {
	if photograph == nil || photograph.Rect.Size() != picture.Rect.Size() {
		return false
	}
	for y := range picture.Rect.Dy() {
		if !bytes.Equal(photograph.Pix[y*photograph.Stride:][:4*picture.Rect.Dx()], picture.Pix[y*picture.Stride:][:4*picture.Rect.Dx()]) {
			return false
		}
	}
	return true
}

// Shows waits until what is photographed is the picture that the window is to show.
func (e *Expected) Shows(name string, photograph func() *image.RGBA) {
	e.tb.Helper()
	var last *image.RGBA
	want := e.Picture()
	defer func() {
		Keep(e.tb, name, last)
		if e.tb.Failed() {
			Keep(e.tb, name+"-expected", want)
		}
	}()
	testenv.Eventually(e.tb, "the window shows "+name, func() bool {
		last = photograph()
		return Same(last, want)
	})
}

// Keep writes a photograph into the folder that ORRERY_TEST_PICTURES names, if it names one.
func Keep(tb testing.TB, name string, photograph image.Image) {
	tb.Helper()
	folder := os.Getenv("ORRERY_TEST_PICTURES")
	if folder == "" || photograph == nil {
		return
	}
	f, err := os.Create(filepath.Join(folder, strings.ReplaceAll(tb.Name(), "/", "-")+"-"+name+".png"))
	if err != nil {
		tb.Fatal(err)
	}
	if err := png.Encode(f, photograph); err != nil {
		tb.Error(err)
	}
	if err := f.Close(); err != nil {
		tb.Error(err)
	}
}

// Package typeset sets text in lines and draws them: shaped by go-text (a port of HarfBuzz), in any script and direction, with fonts that are built in and
// those that it is given for characters that these lack.
//
// A Setter keeps what it has set and drawn before, in bounds, so that a frame costs what is new in it. It is used by one goroutine.
package typeset

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-text/typesetting/bidi"
	"github.com/go-text/typesetting/di"
	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/language"
	"github.com/go-text/typesetting/shaping"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/math/fixed"
)

const (
	// maxRunes bounds the text of a line that is looked at: more does not fit.
	maxRunes = 1024
	// maxLines and maxGlyphs bound what is kept.
	maxLines  = 512
	maxGlyphs = 4096
	ellipsis  = "…"
)

// Style is how a text looks.
type Style struct {
	Size float64 // pixels of an em
	Mono bool    // all characters are of one width
}

// Line is a text that is set.
type Line struct {
	Width int  // pixels
	Right bool // it is read from the right, and stands there
	runs  []shaping.Output
}

// Setter sets text.
type Setter struct {
	regular, mono *font.Face
	others        map[rune]*font.Face // of fonts that are not built in; nil: none has it
	missing       map[rune]bool

	shaper    shaping.HarfbuzzShaper
	segmenter shaping.Segmenter
	wrapper   shaping.LineWrapper
	paragraph bidi.Paragraph
	lines     map[lineKey]*Line
	glyphs    map[glyphKey]*glyph
	style     Style // that is being set
}

type lineKey struct {
	text  string
	style Style
	width int
}

// New makes a setter with the fonts that are built in: Go's, which have Latin, Greek and Cyrillic letters.
func New() (*Setter, error) {
	s := &Setter{others: map[rune]*font.Face{}, missing: map[rune]bool{}, lines: map[lineKey]*Line{}, glyphs: map[glyphKey]*glyph{}}
	var err error
	if s.regular, err = font.ParseTTF(bytes.NewReader(goregular.TTF)); err != nil {
		return nil, fmt.Errorf("the font that is built in: %w", err)
	}
	if s.mono, err = font.ParseTTF(bytes.NewReader(gomono.TTF)); err != nil {
		return nil, fmt.Errorf("the font that is built in: %w", err)
	}
	s.shaper.SetFontCacheSize(32)
	return s, nil
}

// Missing are characters that were set and that no font so far has; each is told once.
func (s *Setter) Missing() []rune {
	var runes []rune
	for r := range s.missing {
		runes = append(runes, r)
		s.others[r] = nil
	}
	clear(s.missing)
	slices.Sort(runes)
	return runes
}

// Use draws characters with faces from now on.
func (s *Setter) Use(faces map[rune]*font.Face) {
	maps.Copy(s.others, faces)
	clear(s.lines)
}

// ResolveFace is shaping.Fontmap's.
func (s *Setter) ResolveFace(r rune) *font.Face {
	first, second := s.regular, s.mono
	if s.style.Mono {
		first, second = second, first
	}
	for _, face := range []*font.Face{first, second} {
		if _, ok := face.NominalGlyph(r); ok {
			return face
		}
	}
	face, known := s.others[r]
	if !known && unicode.IsGraphic(r) && len(s.missing) < maxRunes {
		s.missing[r] = true
	}
	if face != nil {
		return face
	}
	return first
}

// Height is how high a line is, and how far its base is below its top.
func (s *Setter) Height(style Style) (height, base int) {
	extents, _ := s.face(style).FontHExtents() // the built-in fonts have them
	scale := style.Size / float64(s.regular.Upem())
	up, down := float64(extents.Ascender)*scale, -float64(extents.Descender)*scale
	return int(up + down + 1), int(up + 0.5)
}

func (s *Setter) face(style Style) *font.Face {
	if style.Mono {
		return s.mono
	}
	return s.regular
}

// Line sets a text on one line of at most so many pixels; what does not fit is left out, and an ellipsis says so.
func (s *Setter) Line(text string, style Style, width int) *Line {
	key := lineKey{text, style, width}
	if l, ok := s.lines[key]; ok {
		return l
	}
	if len(s.lines) >= maxLines {
		clear(s.lines)
	}
	l := &Line{}
	if lines := s.set(text, style, width, 1); len(lines) > 0 {
		l = lines[0]
	}
	s.lines[key] = l
	return l
}

// Lines sets a text on at most so many lines, broken where its words end.
func (s *Setter) Lines(text string, style Style, width, most int) (lines []*Line) {
	for line := range strings.Lines(text) {
		if len(lines) >= most {
			break
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			lines = append(lines, &Line{})
			continue
		}
		lines = append(lines, s.set(line, style, width, most-len(lines))...)
	}
	return lines
}

// clean makes text of one line of anything.
func clean(text string) []rune {
	runes := make([]rune, 0, min(len(text), maxRunes))
	for len(text) > 0 && len(runes) < maxRunes {
		r, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		switch {
		case r == '\t':
			runes = append(runes, ' ', ' ', ' ', ' ')
		case r == '\u2028' || r == '\u2029' || r == '\u0085':
			runes = append(runes, ' ')
		case unicode.IsControl(r):
			runes = append(runes, unicode.ReplacementChar)
		default:
			runes = append(runes, r)
		}
	}
	return runes
}

// set shapes a text and breaks it into lines.
func (s *Setter) set(text string, style Style, width, most int) (lines []*Line) {
	s.style = style
	runes := clean(text)
	if len(runes) == 0 || width <= 0 || most <= 0 {
		return nil
	}
	direction := di.DirectionLTR
	if rightToLeft(runes) {
		direction = di.DirectionRTL
	}
	input := shaping.Input{Text: runes, RunEnd: len(runes), Direction: direction, Size: fixed.Int26_6(style.Size * 64), Language: language.NewLanguage("en")}
	var outputs []shaping.Output
	for _, run := range s.segmenter.Split(input, s) {
		end := run.RunEnd
		for run.Face != s.face(style) && run.RunEnd > run.RunStart+1 && runes[run.RunEnd-1] == ' ' { // a font of pictures has wide ones
			run.RunEnd--
		}
		outputs = append(outputs, s.shape(run))
		if run.RunEnd < end {
			run.RunStart, run.RunEnd, run.Face = run.RunEnd, end, s.face(style)
			outputs = append(outputs, s.shape(run))
		}
	}
	levels := s.levels(runes, direction)
	config := shaping.WrapConfig{Direction: direction, TruncateAfterLines: most, Truncator: s.ellipsis(style, direction), DisableTrailingWhitespaceTrim: true}
	if most == 1 {
		config.BreakPolicy = shaping.Always
	}
	wrapped, left := s.wrapper.WrapParagraph(config, width, runes, shaping.NewSliceIterator(outputs))
	for i, line := range wrapped {
		at := make([]bidi.Level, len(line))
		for j := range line {
			at[j] = levels[min(line[j].Runes.Offset, len(levels)-1)]
		}
		if left > 0 && i == len(wrapped)-1 { // the ellipsis stands at the end of the line, whatever is before it
			at[len(at)-1] = slices.Min(levels)
		}
		l := &Line{Right: direction == di.DirectionRTL, runs: visual(line, at)}
		var advance fixed.Int26_6
		for i := range l.runs {
			advance += l.runs[i].Advance
		}
		l.Width = advance.Ceil()
		lines = append(lines, l)
	}
	return lines
}

func (s *Setter) shape(run shaping.Input) shaping.Output {
	if ppem := uint16(min(run.Size.Ceil(), 1000)); run.Face != s.regular && run.Face != s.mono { //nolint:gosec // bounded
		run.Face.SetPpem(ppem, ppem) // chooses among the sizes of a font of bitmaps
	}
	return s.shaper.Shape(run)
}

func (s *Setter) ellipsis(style Style, direction di.Direction) shaping.Output {
	runes := []rune(ellipsis)
	return s.shaper.Shape(shaping.Input{Text: runes, RunEnd: len(runes), Direction: direction, Face: s.face(style), Size: fixed.Int26_6(style.Size * 64), Script: language.Latin, Language: language.NewLanguage("en")})
}

// rightToLeft says whether the first letter that has a direction has that one (UAX #9, P2).
func rightToLeft(runes []rune) bool {
	for _, r := range runes {
		switch {
		case unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Samaritan, unicode.Mandaic, unicode.Adlam, unicode.Hanifi_Rohingya) && unicode.IsLetter(r):
			return true
		case unicode.IsLetter(r):
			return false
		}
	}
	return false
}

// levels are the levels of the text's characters (UAX #9).
func (s *Setter) levels(runes []rune, direction di.Direction) []bidi.Level {
	flow := bidi.LeftToRight
	if direction == di.DirectionRTL {
		flow = bidi.RightToLeft
	}
	levels := make([]bidi.Level, len(runes))
	runs := s.paragraph.Segment(runes, flow)
	for i := range runs.NumRuns() {
		run := runs.Run(i)
		for at := run.Start; at < run.End; at++ {
			levels[at] = run.Level
		}
	}
	return levels
}

// visual are a line's runs from left to right by their levels (UAX #9, L2). What they have is copied, because the wrapper uses its memory again.
func visual(line shaping.Line, levels []bidi.Level) []shaping.Output {
	runs := slices.Clone(line)
	for i := range runs {
		runs[i].Glyphs = slices.Clone(runs[i].Glyphs)
	}
	for level := slices.Max(levels); level >= 1; level-- {
		for i := 0; i < len(levels); i++ {
			end := i
			for end < len(levels) && levels[end] >= level {
				end++
			}
			slices.Reverse(runs[i:end])
			slices.Reverse(levels[i:end])
			i = max(i, end)
		}
	}
	return runs
}

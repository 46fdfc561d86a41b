package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// screen is where people watch: a terminal is drawn on anew and anew, anything else gets lines.
type screen struct {
	w     io.Writer
	live  bool
	color bool
	shown int // of a line: how many were reached
}

const (
	grey  = "\x1b[90m"
	amber = "\x1b[93m"
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

func (s *screen) say(format string, args ...any) { fmt.Fprintf(s.w, format, args...) }

func (s *screen) tint(color, text string) string {
	if !s.live || !s.color {
		return text
	}
	return color + text + plain
}

// begin draws the first frame.
func (s *screen) begin(p *spread) {
	s.shown = -1
	s.say("\n%s\n", p.title)
	if s.live {
		s.say("%s", s.disc(p, 0))
	}
}

// frame draws what is now. A line is not repeated.
func (s *screen) frame(p *spread) {
	now := time.Since(p.began)
	if s.live {
		text := s.disc(p, now)
		s.say("\x1b[%dA%s", strings.Count(text, "\n"), text)
		return
	}
	if p.count(now) == s.shown {
		return
	}
	s.shown = p.count(now)
	s.say("%6.2f s  %s  %d of %d %s\n", now.Seconds(), bar(p.count(now), p.total()), p.count(now), p.total(), p.verb)
}

// end says how it went.
func (s *screen) end(p *spread) {
	s.say("%s\n%s\n", p.summary(), curve(p))
}

// disc draws the nodes as a disc around the first one, and how many were reached.
func (s *screen) disc(p *spread, now time.Duration) string {
	at := places(len(p.at))
	top, left := 0, 0
	node := map[place]int{}
	for i, c := range at {
		node[c] = i
		top, left = max(top, -c.y), max(left, -c.x)
	}
	var b strings.Builder
	for y := -top; y <= top; y++ {
		b.WriteString("  ")
		for x := -left; x <= left; x++ {
			i, ok := node[place{x, y}]
			switch {
			case !ok:
				b.WriteString("  ")
			case p.dead[i]:
				b.WriteString(s.tint(grey, "×") + " ")
			case p.at[i] == never || p.at[i] > now:
				b.WriteString(s.tint(grey, "·") + " ")
			case now-p.at[i] < 100*time.Millisecond:
				b.WriteString(s.tint(amber, "●") + " ")
			default:
				b.WriteString(s.tint(red, "●") + " ")
			}
		}
		b.WriteString("\x1b[K\n")
	}
	fmt.Fprintf(&b, "  %5.2f s  %s  %d of %d %s\x1b[K\n", now.Seconds(), s.tint(red, bar(p.count(now), p.total())), p.count(now), p.total(), p.verb)
	return b.String()
}

// place is a cell of the disc.
type place struct{ x, y int }

// places are as many cells as there are nodes, around the middle, the nearest first.
func places(n int) []place {
	r := int(math.Ceil(math.Sqrt(float64(n)))) + 1
	var all []place
	for y := -r; y <= r; y++ {
		for x := -r; x <= r; x++ {
			all = append(all, place{x, y})
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return cmp.Compare(a.x*a.x+a.y*a.y, b.x*b.x+b.y*b.y) })
	return all[:n]
}

// bar is a bar as long as a part is of the whole.
func bar(n, of int) string {
	const length = 32
	full := n * length / max(1, of)
	return strings.Repeat("█", full) + strings.Repeat("░", length-full)
}

// curve is how many were reached over time, a character a step.
func curve(p *spread) string {
	const length = 48
	levels := []rune(" ▁▂▃▄▅▆▇█")
	var b strings.Builder
	for i := range length {
		within := p.dawn() + (p.part(1)-p.dawn())*time.Duration(i)/(length-1)
		b.WriteRune(levels[p.count(within)*(len(levels)-1)/max(1, p.total())])
	}
	return b.String()
}

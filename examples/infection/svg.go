package main

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"time"
)

// The picture's measures, about a pixel each. Each frame of a strip stands above its time on the curve's axis.
const (
	width     = 1000.0
	left      = 104.0 // the middle of the first frame, and time zero
	right     = 930.0 // the middle of the last frame
	frames    = 8
	radius    = 49.0 // of a frame
	head      = 62.0 // above the first section
	stripY    = 98.0 // the middle of the frames, in a section
	curveTop  = 190.0
	curveEnd  = 352.0
	sectionBy = 424.0
	foot      = 34.0
)

const style = `
svg { --paper: #fbfaf7; --ink: #22252b; --faint: #6b7078; --line: #dcd9d1; --healthy: #cfccc4; --fresh: #f59f00; --ill: #d6336c; --area: #d6336c1c }
@media (prefers-color-scheme: dark) {
  svg { --paper: #14171c; --ink: #e8e6e1; --faint: #969ca6; --line: #2d323a; --healthy: #3d444f; --fresh: #ffc53d; --ill: #f0588b; --area: #f0588b24 }
}
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink) }
.title { font-size: 19px; font-weight: 600 }
.section { font-size: 15px; font-weight: 600 }
.faint { fill: var(--faint) }
.paper { fill: var(--paper) }
.line { stroke: var(--line); stroke-width: 1; fill: none }
.drop { stroke: var(--line); stroke-width: 1; stroke-dasharray: 2 4 }
.healthy { fill: var(--healthy) }
.fresh { fill: var(--fresh) }
.ill { fill: var(--ill) }
.dead { stroke: var(--faint); stroke-width: 1.4; fill: none }
.first { stroke: var(--ink); stroke-width: 1.4; fill: none }
.area { fill: var(--area) }
.curve { stroke: var(--ill); stroke-width: 2.4; fill: none; stroke-linejoin: round }
.mark { fill: var(--paper); stroke: var(--ill); stroke-width: 2 }
.mid { text-anchor: middle }
.end { text-anchor: end }
`

// draw writes the picture: for each spread a strip of frames, and beneath it how many were reached over time.
func draw(w io.Writer, o options, all []*spread) error {
	b := bufio.NewWriter(w)
	height := head + sectionBy*float64(len(all)) + foot
	title := fmt.Sprintf("How gossip spreads among %d nodes", o.nodes)
	fmt.Fprintf(b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-labelledby="title">`+"\n", width, height)
	fmt.Fprintf(b, "<title id=\"title\">%s</title>\n<style>%s</style>\n", title, style)
	fmt.Fprintf(b, `<rect class="paper" width="%g" height="%g" rx="12"/>`+"\n", width, height)
	text(b, 34, 40, "title", title+lossNote(o.loss))
	legend(b)
	for i, p := range all {
		fmt.Fprintf(b, `<g transform="translate(0 %g)">`+"\n", head+sectionBy*float64(i))
		section(b, p)
		fmt.Fprintln(b, "</g>")
	}
	text(b, 34, height-20, "faint", "Each dot is a node with sockets of its own. Its place means nothing: any node tells any other.")
	fmt.Fprintln(b, "</svg>")
	return b.Flush()
}

func text(w io.Writer, x, y float64, class, content string) {
	fmt.Fprintf(w, `<text x="%.1f" y="%.1f" class="%s">%s</text>`+"\n", x, y, class, html.EscapeString(content))
}

func dot(w io.Writer, x, y, r float64, class string) {
	fmt.Fprintf(w, `<circle cx="%.1f" cy="%.1f" r="%.1f" class="%s"/>`+"\n", x, y, r, class)
}

func legend(w io.Writer) {
	x := right + radius
	for _, entry := range []struct{ class, text string }{{"ill", "longer"}, {"fresh", "reached since the frame before"}, {"healthy", "not reached"}} {
		x -= float64(len(entry.text)) * 6.7
		text(w, x, 40, "faint", entry.text)
		dot(w, x-11, 35.5, 4.5, entry.class)
		x -= 32
	}
}

func section(w io.Writer, p *spread) {
	end := niceEnd(p.part(1) - p.dawn()) // of the axis, which begins when the first node is reached
	x := func(t time.Duration) float64 { return left + (right-left)*(t-p.dawn()).Seconds()/end.Seconds() }
	y := func(n int) float64 { return curveEnd - (curveEnd-curveTop)*float64(n)/float64(p.total()) }

	text(w, 34, 22, "section", p.title)
	text(w, right+radius, 22, "faint end", p.summary())
	axes(w, p, end, y)
	fmt.Fprintf(w, `<path class="area" d="%s L%.1f %.1f L%.1f %.1f Z"/>`+"\n", steps(p, end, x, y), right, curveEnd, left, curveEnd)
	fmt.Fprintf(w, `<path class="curve" d="%s"/>`+"\n", steps(p, end, x, y))
	for i := range frames {
		now := p.dawn() + end*time.Duration(i)/(frames-1)
		fmt.Fprintf(w, `<path class="drop" d="M%.1f %.1f V%.1f"/>`+"\n", x(now), stripY+radius+6, y(p.count(now))-6)
		frame(w, p, x(now), now, end/(frames-1))
		dot(w, x(now), y(p.count(now)), 3.6, "mark")
	}
}

// frame draws who was reached by now.
func frame(w io.Writer, p *spread, cx float64, now, step time.Duration) {
	n := float64(len(p.at))
	r := radius / math.Sqrt(n) * 0.74
	seed := func(i int) (x, y float64) { // of a sunflower: equally dense everywhere
		far, angle := (radius-r)*math.Sqrt((float64(i)+0.5)/n), float64(i)*math.Pi*(3-math.Sqrt(5))
		return cx + far*math.Cos(angle), stripY + far*math.Sin(angle)
	}
	for i := range p.at {
		x, y := seed(i)
		switch at := p.at[i]; {
		case p.dead[i]:
			fmt.Fprintf(w, `<path class="dead" d="M%.1f %.1f l%[3]g %[3]g m0 -%[3]g l-%[3]g %[3]g"/>`+"\n", x-r*0.7, y-r*0.7, math.Round(r*14)/10)
		case at == never || at > now:
			dot(w, x, y, r, "healthy")
		case at > now-step:
			dot(w, x, y, r, "fresh")
		default:
			dot(w, x, y, r, "ill")
		}
	}
	for i, at := range p.at {
		if at == p.dawn() {
			x, y := seed(i)
			dot(w, x, y, r+1.8, "first")
		}
	}
}

// axes draws the axes: the time below, the nodes at the left.
func axes(w io.Writer, p *spread, end time.Duration, y func(int) float64) {
	for i := range 5 {
		n := p.total() * i / 4
		fmt.Fprintf(w, `<path class="line" d="M%.1f %.1f H%.1f"/>`+"\n", left, y(n), right)
		text(w, left-12, y(n)+4.5, "faint end", fmt.Sprint(n))
	}
	for i := range frames {
		t := end * time.Duration(i) / (frames - 1)
		text(w, left+(right-left)*float64(i)/(frames-1), curveEnd+21, "faint mid", seconds(t))
	}
	since := "time since then"
	if p.dawn() > 0 {
		since = fmt.Sprintf("time since the first node knew it, %s after it happened", seconds(p.dawn()))
	}
	text(w, (left+right)/2, curveEnd+43, "faint mid", since)
	fmt.Fprintf(w, `<text class="faint mid" transform="translate(40 %.1f) rotate(-90)">nodes that %s</text>`+"\n", (curveTop+curveEnd)/2, p.verb)
}

// steps is the path of how many were reached over time: a step up for each node.
func steps(p *spread, end time.Duration, x func(time.Duration) float64, y func(int) float64) string {
	n := p.count(p.dawn())
	var path strings.Builder
	fmt.Fprintf(&path, "M%.1f %.1f", left, y(n))
	for i := range 400 {
		t := p.dawn() + end*time.Duration(i+1)/400
		if now := p.count(t); now != n {
			fmt.Fprintf(&path, " H%.1f V%.1f", x(t), y(now))
			n = now
		}
	}
	fmt.Fprintf(&path, " H%.1f", right)
	return path.String()
}

// niceEnd is the end of an axis that has frames-1 round steps and shows all of d.
func niceEnd(d time.Duration) time.Duration {
	for unit := int64(time.Millisecond); ; unit *= 10 {
		for _, by := range []int64{1, 2, 3, 4, 5, 6, 8} {
			if end := time.Duration(unit * by * (frames - 1)); end >= d {
				return end
			}
		}
	}
}

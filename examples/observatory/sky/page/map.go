package page

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"time"
)

// sheet is the map of the orbits, in the coordinates of an SVG with the Sun at 0,0 and half a width of 500.
type sheet struct {
	Orbits []orbit
	Bodies []place
	Stars  []star
}

type orbit struct {
	R        float64
	Faint    bool // of a dwarf planet
	Selected bool
}

type place struct {
	ID, Name, Title string
	X, Y, R         float64
	Minor           bool // not a planet
	Selected        bool
	LabelX, LabelY  float64 // of the name's baseline
	Anchor          string
}

type star struct{ X, Y, R, O float64 }

// j2000 is when the catalog's mean longitudes hold.
var j2000 = time.Date(2000, 1, 1, 12, 0, 0, 0, time.UTC)

// The map shows what lies between these distances; the radius grows with the logarithm of the distance,
// or else the inner planets would be one dot.
const (
	nearest, farthest  = 0.3, 72.0 // astronomical units
	innermost, outmost = 52, 482
)

func radius(au float64) float64 {
	return innermost + (outmost-innermost)*math.Log(au/nearest)/math.Log(farthest/nearest)
}

// draw places the bodies around the Sun where their mean motion has brought them by now.
func draw(around []body, chosen body, now time.Time) sheet {
	selected := chosen.ID
	if chosen.Kind == "moon" {
		selected = chosen.Parent
	}
	s := sheet{Stars: stars()}
	days := now.Sub(j2000).Hours() / 24
	for _, b := range around {
		if b.OrbitAU == nil || b.PeriodDays == nil || b.LongitudeDeg == nil || *b.OrbitAU < nearest || *b.OrbitAU > farthest {
			continue
		}
		r := radius(*b.OrbitAU)
		minor := b.Kind != "planet"
		longitude := math.Mod(*b.LongitudeDeg + 360*days / *b.PeriodDays, 360)
		sin, cos := math.Sincos(longitude * math.Pi / 180)
		p := place{
			ID: b.ID, Name: b.Name, X: r * cos, Y: -r * sin, R: size(b), Minor: minor, Selected: b.ID == selected,
			Title: fmt.Sprintf("%s, %s, %s AU from the Sun", b.Name, b.Kind, strconv.FormatFloat(*b.OrbitAU, 'f', 1, 64)),
		}
		s.Orbits = append(s.Orbits, orbit{r, minor, p.Selected})
		s.Bodies = append(s.Bodies, p)
	}
	label(s.Bodies)
	// The big ones below, so that a small one before it can still be reached.
	slices.SortStableFunc(s.Bodies, func(a, b place) int { return cmp.Compare(b.R, a.R) })
	return s
}

// size is how large a body is drawn: between 4 and 20, by the logarithm of its radius.
func size(b body) float64 {
	if b.Radius == nil {
		return 4
	}
	return min(max(4+4.6*math.Log(*b.Radius/1000), 4), 20)
}

// stars are the same at each visit.
func stars() []star {
	all := make([]star, 140)
	seed := uint32(2463534242)
	next := func() float64 { // xorshift
		seed ^= seed << 13
		seed ^= seed >> 17
		seed ^= seed << 5
		return float64(seed) / math.MaxUint32
	}
	for i := range all {
		all[i] = star{next()*1000 - 500, next()*1000 - 500, 0.4 + next()*1.1, 0.15 + next()*0.55}
	}
	return all
}

var functions = template.FuncMap{
	"n":      func(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) },
	"number": func(f *float64) string { return number(*f) },
	"period": func(f *float64) string { return period(*f) },
	"day":    func(t time.Time) string { return t.Format("2 January 2006") },
	"moment": func(t time.Time) string { return t.UTC().Format("2 Jan 2006, 15:04") },
	"count":  func(n int64) string { return number(float64(n)) },
}

// number writes a number for people: up to 4 significant decimals, thousands set apart by a narrow space.
func number(f float64) string {
	digits := 0
	if f < 1000 {
		digits = 2
		if f < 10 {
			digits = 3
		}
	}
	text := strconv.FormatFloat(f, 'f', digits, 64)
	if digits > 0 {
		for text[len(text)-1] == '0' {
			text = text[:len(text)-1]
		}
		if text[len(text)-1] == '.' {
			text = text[:len(text)-1]
		}
		return text
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// period writes a period of days in the unit that suits it.
func period(days float64) string {
	if days > 1000 {
		return number(days/365.25) + " years"
	}
	return number(days) + " days"
}

package dashboard

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The map's measures, in its own units; about a pixel each.
const (
	planetR    = 54
	moonR      = 15
	dotR       = 4.5
	firstRing  = 122 // of moons with names
	ringGap    = 82
	firstDots  = 84 // of moons without
	dotGap     = 13
	margin     = 58
	namedMoons = 21 // a node with more shows dots
	maxName    = 15 // characters
	tints      = 6  // colours of sessions, as in the style
	manyLanes  = 150
)

// atlas is the map, laid out.
type atlas struct {
	Width, Height float64
	Planets       []planet
	Moons         []moon
	Lanes         []lane
	Many          bool // lanes, so that each is drawn faintly
}

// planet is a node.
type planet struct {
	Node
	X, Y  float64
	Rings []float64
	Tint  int
}

// moon is a service, a session's instance of one, or a service on its way.
type moon struct {
	X, Y, R     float64
	Node, Name  string
	Label, Note string // a name that fits, and a second line
	Class       string
	Title       string

	planetX, planetY float64
}

// lane is a line between two moons.
type lane struct {
	Path, Class, Title string
}

// slot is a moon before it has a place.
type slot struct {
	key  string
	moon moon
}

// key of a moon among all; a service on its way has two.
func key(kind, session, service string) string { return kind + "\x00" + session + "\x00" + service }

// layOut places nodes in a grid with at most columns columns, and around each what runs there.
func layOut(v View, columns int) atlas {
	nodes, slots := residents(v)
	half := 0.0
	for i := range nodes {
		rings, _ := ringsFor(len(slots[i]))
		half = max(half, rings[len(rings)-1]+margin)
	}
	columns = min(max(columns, 1), max(len(nodes), 1))
	a := atlas{Width: 2 * half * float64(columns), Height: 2 * half * float64((len(nodes)+columns-1)/columns)}
	at := map[string]moon{}
	for i, n := range nodes {
		p := planet{Node: n, X: half + 2*half*float64(i%columns), Y: half + 2*half*float64(i/columns), Tint: i % tints}
		var capacity []int
		p.Rings, capacity = ringsFor(len(slots[i]))
		for j, m := range around(p, i, slots[i], capacity) {
			at[slots[i][j].key] = m
			a.Moons = append(a.Moons, m)
		}
		a.Planets = append(a.Planets, p)
	}
	// Where the nodes stand in one column, lanes have to go round those in between.
	bend := 0.16
	if columns == 1 {
		bend = 0.42
	}
	a.Lanes = lanes(v, at, bend)
	a.Many = len(a.Lanes) > manyLanes
	return a
}

// residents are the nodes, also those that only services know of, and what is on each.
func residents(v View) ([]Node, [][]slot) {
	nodes := slices.Clone(v.Nodes)
	slots := slices.Repeat([][]slot{nil}, len(nodes))
	index := map[string]int{}
	for i, n := range nodes {
		index[n.Name] = i
	}
	put := func(node string, s slot) {
		i, ok := index[node]
		if !ok {
			i = len(nodes)
			index[node] = i
			nodes, slots = append(nodes, Node{Name: node, State: "unknown"}), append(slots, nil)
		}
		s.moon.Node = node
		slots[i] = append(slots[i], s)
	}
	for _, s := range v.Services {
		put(s.Node, slot{key("service", "", s.Name), serviceMoon(s)})
		if s.MovingTo != "" && s.MovingTo != s.Node {
			put(s.MovingTo, slot{key("arriving", "", s.Name), moon{
				Name: s.Name, Note: "arriving", Class: "moon arriving", Title: s.Name + " is on its way here from " + s.Node,
			}})
		}
	}
	for i, session := range v.Sessions {
		for _, o := range session.Overrides {
			put(o.Node, slot{key("session", session.Name, o.Service), moon{
				Name: o.Service, Note: session.Name, Class: fmt.Sprintf("moon session t%d", i%tints),
				Title: fmt.Sprintf("%s of session %s (%s), by %s", o.Service, session.Name, o.Kind, session.Owner),
			}})
		}
	}
	return nodes, slots
}

func serviceMoon(s Service) moon {
	m := moon{Name: s.Name, Class: "moon", Title: s.Name + ", " + s.Phase}
	if s.Phase != "" {
		m.Class += " " + class(s.Phase)
	}
	switch {
	case s.MovingTo != "" && s.MovingTo != s.Node:
		m.Class, m.Note = m.Class+" moving", "to "+s.MovingTo
	case s.Held:
		m.Note = "held"
	case s.Phase == "failed":
		m.Note = "failed"
	case s.Public != "":
		m.Note = s.Public
	}
	if s.Held {
		m.Class += " held"
		m.Title += ", requests wait"
	}
	if s.Public != "" {
		m.Class += " public"
		m.Title += ", public at " + s.Public
	}
	if s.Detail != "" {
		m.Title += ": " + s.Detail
	}
	return m
}

// class keeps a word of outside from being more than one class.
func class(word string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r == '-' {
			return r
		}
		return -1
	}, word)
}

// ringsFor returns the radii of the rings that n moons need and how many each takes.
func ringsFor(n int) (radii []float64, capacity []int) {
	first, gap, room := float64(firstRing), float64(ringGap), 95.0
	if n > namedMoons {
		first, gap, room = firstDots, dotGap, 12
	}
	for r := first; n > 0 || len(radii) == 0; r += gap {
		fits := max(int(2*math.Pi*r/room), 1)
		radii, capacity = append(radii, r), append(capacity, min(n, fits))
		n -= min(n, fits)
	}
	return radii, capacity
}

// around places the moons of the i-th planet on its rings.
func around(p planet, i int, slots []slot, capacity []int) []moon {
	moons := make([]moon, 0, len(slots))
	ring, on := 0, 0
	for _, s := range slots {
		if on == capacity[ring] {
			ring, on = ring+1, 0
		}
		// Each planet and each further ring is turned a little, or else everything would be in line.
		turn := (float64(on)+0.5*float64(ring%2))/float64(capacity[ring]) - 0.25 + 0.045*float64(1+i%3)
		sin, cos := math.Sincos(2 * math.Pi * turn)
		m := s.moon
		m.X, m.Y, m.R = p.X+p.Rings[ring]*cos, p.Y+p.Rings[ring]*sin, moonR
		m.planetX, m.planetY = p.X, p.Y
		if len(slots) > namedMoons {
			m.R, m.Note = dotR, ""
		} else {
			m.Label = shorten(m.Name)
		}
		moons = append(moons, m)
		on++
	}
	return moons
}

func shorten(name string) string {
	if r := []rune(name); len(r) > maxName {
		return string(r[:maxName-1]) + "…"
	}
	return name
}

// lanes are the lines for dependencies, moves, and from a service to a session's instance of it.
func lanes(v View, at map[string]moon, bend float64) []lane {
	var all []lane
	add := func(from, to, class, title string) {
		a, known := at[from]
		b, alsoKnown := at[to]
		if known && alsoKnown && from != to {
			all = append(all, lane{curve(a, b, bend), class, title})
		}
	}
	for _, s := range v.Services {
		for _, d := range s.DependsOn {
			add(key("service", "", s.Name), key("service", "", d), "depends", s.Name+" depends on "+d)
		}
	}
	for i, session := range v.Sessions {
		for _, o := range session.Overrides {
			add(key("service", "", o.Service), key("session", session.Name, o.Service), fmt.Sprintf("overlay t%d", i%tints),
				"session "+session.Name+" has its own "+o.Service)
		}
	}
	for _, s := range v.Services {
		add(key("service", "", s.Name), key("arriving", "", s.Name), "moves", s.Name+" moves to "+s.MovingTo)
	}
	return all
}

// curve is a path from the edge of one moon to that of another, bent so that two ways differ and that it
// goes round a planet that both belong to.
func curve(a, b moon, bend float64) string {
	dx, dy := b.X-a.X, b.Y-a.Y
	d := math.Hypot(dx, dy)
	if d < 1 {
		return ""
	}
	middleX, middleY := (a.X+b.X)/2, (a.Y+b.Y)/2
	off := min(bend*d, 420*bend)
	cx, cy := middleX+dy/d*off, middleY-dx/d*off
	if a.planetX == b.planetX && a.planetY == b.planetY {
		// A quadratic curve comes half as near as its control point.
		side := (middleX-a.planetX)*dy - (middleY-a.planetY)*dx // on which side of the planet the straight line is
		out := math.Copysign(max(2*(planetR+28)-math.Abs(side)/d, 0), side)
		cx, cy = middleX+dy/d*out, middleY-dx/d*out
	}
	ax, ay := edge(a, cx, cy, a.R+2)
	bx, by := edge(b, cx, cy, b.R+7)
	return fmt.Sprintf("M%.1f %.1fQ%.1f %.1f %.1f %.1f", ax, ay, cx, cy, bx, by)
}

// edge is the point at a distance from a moon's middle towards x, y.
func edge(m moon, x, y, distance float64) (ex, ey float64) {
	dx, dy := x-m.X, y-m.Y
	d := max(math.Hypot(dx, dy), 0.001)
	return m.X + dx/d*distance, m.Y + dy/d*distance
}

package page

import "math"

// box is a rectangle of the map.
type box struct{ x0, y0, x1, y1 float64 }

func (b box) overlaps(o box) bool { return b.x0 < o.x1 && o.x0 < b.x1 && b.y0 < o.y1 && o.y0 < b.y1 }

// anchors of names that lie to the left, in the middle and to the right: a larger font grows away from the body.
var anchors = map[float64]string{-1: "end", 0: "middle", 1: "start"}

// label gives each body's name a place beside it: away from the Sun if nothing is there, else
// on the other side, below or above.
func label(places []place) {
	taken := make([]box, len(places), 2*len(places))
	for i, p := range places {
		taken[i] = box{p.X - p.R, p.Y - p.R, p.X + p.R, p.Y + p.R}
	}
	for i := range places {
		p := &places[i]
		width, height := 8.6*float64(len([]rune(p.Name))), 15.0
		if p.Minor {
			width, height = 0.8*width, 12
		}
		gap, out := p.R+7, math.Copysign(1, p.X)
		best := math.MaxInt
		for _, at := range [][2]float64{{out, 0}, {-out, 0}, {0, 1}, {0, -1}} {
			x, y := p.X+at[0]*(gap+width/2), p.Y+at[1]*(gap+height/2)
			b := box{x - width/2, y - height/2, x + width/2, y + height/2}
			hits := 0
			for j, t := range taken {
				if j != i && t.overlaps(b) {
					hits++
				}
			}
			if hits < best {
				best = hits
				p.LabelX, p.LabelY, p.Anchor = p.X+at[0]*gap, y+height/3, anchors[at[0]]
				taken = append(taken[:len(places)+i], b)
			}
			if hits == 0 {
				break
			}
		}
	}
}

package action

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Colour is a colour, without what shines through.
type Colour struct{ R, G, B uint8 }

// String is it as CSS writes it.
func (c Colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// Dark says whether light text is read better on it.
func (c Colour) Dark() bool {
	return 299*int(c.R)+587*int(c.G)+114*int(c.B) < 128_000 // as YIQ has it
}

var (
	hexColour = regexp.MustCompile(`^#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})$`)
	functions = regexp.MustCompile(`^(rgb|hsl)a?\(\s*([0-9.]+%?)(?:deg)?\s*[, ]\s*([0-9.]+%?)\s*[, ]\s*([0-9.]+%?)\s*(?:[,/]\s*[0-9.]+%?\s*)?\)$`)
)

// ParseColour reads a colour as CSS writes it: #rgb, #rrggbb, either with a letter or two more for opacity, rgb() and hsl(). Names are left out: too many are ordinary words.
func ParseColour(text string) (Colour, bool) {
	if hexColour.MatchString(text) {
		return parseHex(text[1:]), true
	}
	if m := functions.FindStringSubmatch(strings.ToLower(text)); m != nil {
		return parseFunction(m[1], m[2:])
	}
	return Colour{}, false
}

// parseHex takes digits that are checked.
func parseHex(digits string) Colour {
	wide := 2
	if len(digits) < 6 {
		wide = 1
	}
	var out [3]uint8
	for i := range out {
		n, _ := strconv.ParseUint(strings.Repeat(digits[i*wide:(i+1)*wide], 3-wide), 16, 8)
		out[i] = uint8(n)
	}
	return Colour{out[0], out[1], out[2]}
}

func parseFunction(name string, values []string) (Colour, bool) {
	var v [3]float64
	for i, text := range values {
		digits, percent := strings.CutSuffix(text, "%")
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil || percent && n > 100 {
			return Colour{}, false
		}
		switch {
		case name == "rgb" && percent:
			n = n * 255 / 100
		case name == "hsl" && i > 0:
			n /= 100
		}
		v[i] = n
	}
	if name == "rgb" {
		if max(v[0], v[1], v[2]) > 255 {
			return Colour{}, false
		}
		return Colour{byteOf(v[0]), byteOf(v[1]), byteOf(v[2])}, true
	}
	if v[1] > 1 || v[2] > 1 {
		return Colour{}, false
	}
	return fromHSL(v[0], v[1], v[2]), true
}

func byteOf(v float64) uint8 { return uint8(math.Round(v)) }

// fromHSL is CSS Color 4's.
func fromHSL(hue, saturation, light float64) Colour {
	channel := func(n float64) uint8 {
		k := math.Mod(n+hue/30, 12)
		return byteOf(255 * (light - saturation*min(light, 1-light)*max(-1, min(k-3, 9-k, 1))))
	}
	return Colour{channel(0), channel(8), channel(4)}
}

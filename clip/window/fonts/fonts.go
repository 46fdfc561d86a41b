// Package fonts finds fonts of the system for characters that the built-in ones lack. What fonts there are is found once and kept in a file, because to look
// into hundreds of them takes a second; the file says itself when fonts have changed.
package fonts

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/font/opentype"
	"github.com/go-text/typesetting/fontscan"
	"golang.org/x/sys/unix"
)

// maxFile bounds the fonts that are loaded, in bytes of their file: those of all Chinese characters have 20 to 100 million.
const maxFile = 128 << 20

// System are the fonts of the system.
type System struct {
	Cache string // folder of the file that keeps what fonts there are

	mu     sync.Mutex
	once   bool
	all    []fontscan.Footprint
	loaded map[fontscan.Location]*font.Face // nil: it cannot be read
}

// Find finds a face for each of some characters; those that no font has are left out.
func (s *System) Find(ctx context.Context, missing []rune) map[rune]*font.Face {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.once {
		s.once, s.loaded = true, map[fontscan.Location]*font.Face{}
		s.all = list(s.Cache)
		slices.SortStableFunc(s.all, func(a, b fontscan.Footprint) int { return cmp.Compare(rank(&a), rank(&b)) })
	}
	faces := map[rune]*font.Face{}
	for _, r := range missing {
		if ctx.Err() != nil {
			break
		}
		if face := s.find(r); face != nil {
			faces[r] = face
		}
	}
	return faces
}

// list are the system's fonts; none: those that are built in have to do. Where the folder cannot be written, which there are is found out each time.
func list(folder string) []fontscan.Footprint {
	if os.MkdirAll(folder, 0o700) != nil || unix.Access(folder, unix.W_OK) != nil {
		other, err := os.MkdirTemp("", "clip-fonts-")
		if err != nil {
			return nil
		}
		defer func() { _ = os.RemoveAll(other) }()
		folder = other
	}
	all, _ := fontscan.SystemFonts(silent{}, folder)
	return all
}

// find is the first face that has a character. For pictures it is one of colours, if there is one.
func (s *System) find(r rune) *font.Face {
	var best *font.Face
	for i := range s.all {
		f := &s.all[i]
		if !f.Runes.Contains(r) || best != nil && !isEmoji(f) {
			continue
		}
		face := s.load(f.Location)
		if face == nil {
			continue
		}
		if _, ok := face.NominalGlyph(r); !ok {
			continue
		}
		if !picture(r) || isEmoji(f) {
			return face
		}
		best = face
	}
	return best
}

// picture says whether a character is one of those that are pictures unless they are told otherwise.
func picture(r rune) bool { return r >= 0x1f000 && r <= 0x1faff }

func isEmoji(f *fontscan.Footprint) bool { return strings.Contains(f.Family, "emoji") }

// rank orders fonts: upright ones of usual weight first, those without serifs before others, those that are for all languages before those for one.
func rank(f *fontscan.Footprint) int {
	n := 0
	if f.Aspect.Style != font.StyleNormal {
		n += 100
	}
	if f.Aspect.Weight != font.WeightNormal {
		n += 50
	}
	if f.Aspect.Stretch != font.StretchNormal {
		n += 25
	}
	switch {
	case isEmoji(f):
		n += 20
	case strings.Contains(f.Family, "mono"), strings.Contains(f.Family, "serif") && !strings.Contains(f.Family, "sans"):
		n += 10
	case strings.HasPrefix(f.Family, "notosans"), strings.HasPrefix(f.Family, "dejavusans"):
	default:
		n += 5
	}
	return n
}

func (s *System) load(at fontscan.Location) *font.Face {
	if face, ok := s.loaded[at]; ok {
		return face
	}
	s.loaded[at] = read(at)
	return s.loaded[at]
}

func read(at fontscan.Location) *font.Face {
	file, err := os.Open(at.File)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || info.Size() > maxFile {
		return nil
	}
	loaders, err := opentype.NewLoaders(file)
	if err != nil || int(at.Index) >= len(loaders) {
		return nil
	}
	f, err := font.NewFont(loaders[at.Index])
	if err != nil {
		return nil
	}
	return font.NewFace(f)
}

// silent is a log that nobody reads: fonts that cannot be read are left out.
type silent struct{}

// Printf is fontscan.Logger's.
func (silent) Printf(string, ...any) {}

package picture_test

import (
	"bytes"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"orrery/matrix/media/picture"
)

// red is a picture that is red in its left upper quarter.
func red(w, h int) *image.RGBA {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(x), uint8(y), uint8(x * y), 255}
			if x < w/2 && y < h/2 {
				c = color.RGBA{255, 0, 0, 255}
			}
			p.SetRGBA(x, y, c)
		}
	}
	return p
}

func encoded(t *testing.T, encode func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func shrunk(t *testing.T, file []byte, width, height int, crop bool) (*picture.Picture, *image.RGBA) {
	t.Helper()
	p, err := picture.Examine(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	small, err := p.Shrink(bytes.NewReader(file), width, height, crop)
	if err != nil {
		t.Fatal(err)
	}
	return p, small
}

// TestMemory: it takes at most as much memory to make a picture smaller as was said before; and what was said is not much more.
func TestMemory(t *testing.T) {
	files := map[string][]byte{
		"large.jpg": encoded(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, red(1600, 1200), nil) }),
		"large.png": encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, red(800, 600)) }),
		"large.gif": encoded(t, func(b *bytes.Buffer) error { return gif.Encode(b, red(800, 600), nil) }),
		"gray.png":  encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, image.NewGray(image.Rect(0, 0, 900, 900))) }),
		"deep.png":  encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, image.NewNRGBA64(image.Rect(0, 0, 500, 500))) }),
	}
	kept, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	const few = 200 << 10 // for buffers and tables of the decoders
	for name, file := range files {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p, _ := shrunk(t, file, 96, 96, true)
			runtime.ReadMemStats(&after)
			took := int64(after.TotalAlloc - before.TotalAlloc)
			t.Logf("%d x %d: %d bytes, %d were said", p.Width, p.Height, took, p.Memory)
			if took > p.Memory+few || p.Memory > 4*took+few {
				t.Errorf("%d bytes, and %d were said", took, p.Memory)
			}
		})
	}
}

// TestSizes: a smaller picture fits into a size, or fills it, and is never larger than what it was.
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		w, h, width, height int
		crop                bool
		wantW, wantH        int
	}{
		{400, 200, 100, 100, false, 100, 50},
		{200, 400, 100, 100, false, 50, 100},
		{400, 200, 100, 100, true, 100, 100},
		{200, 400, 96, 32, true, 96, 32},
		{40, 20, 100, 100, false, 40, 20},
		{40, 20, 100, 100, true, 20, 20},
		{1000, 1, 100, 100, false, 100, 1},
		{101, 67, 100, 66, false, 99, 66},
	} {
		file := encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, red(c.w, c.h)) })
		if _, got := shrunk(t, file, c.width, c.height, c.crop); got.Rect.Dx() != c.wantW || got.Rect.Dy() != c.wantH || got.Rect.Min != (image.Point{}) {
			t.Errorf("%d x %d within %d x %d (crop: %v) is %v, not %d x %d", c.w, c.h, c.width, c.height, c.crop, got.Rect, c.wantW, c.wantH)
		}
	}
}

// TestAverage: each pixel is the mean of the area that it covers, also where pixels are shared.
func TestAverage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same pictures each time
	for range 40 {
		w, h := 1+r.IntN(30), 1+r.IntN(30)
		of := image.NewNRGBA(image.Rect(0, 0, w, h))
		for i := range of.Pix {
			of.Pix[i] = uint8(r.Uint32())
		}
		file := encoded(t, func(b *bytes.Buffer) error { return png.Encode(b, of) })
		_, got := shrunk(t, file, 1+r.IntN(w), 1+r.IntN(h), false)
		gw, gh := got.Rect.Dx(), got.Rect.Dy()
		for y := range gh {
			for x := range gw {
				want := mean(of, float64(x*w)/float64(gw), float64((x+1)*w)/float64(gw), float64(y*h)/float64(gh), float64((y+1)*h)/float64(gh))
				have := got.RGBAAt(x, y)
				for c, v := range [4]uint8{have.R, have.G, have.B, have.A} {
					if d := float64(v) - want[c]; d > 1 || d < -1 {
						t.Fatalf("%d x %d made %d x %d: at %d, %d channel %d is %d, not %.2f", w, h, gw, gh, x, y, c, v, want[c])
					}
				}
			}
		}
	}
}

// mean is what colours are on average between columns and rows, as it is defined.
func mean(of image.Image, left, right, top, bottom float64) (sums [4]float64) {
	b := of.Bounds()
	for y := range b.Dy() {
		for x := range b.Dx() {
			part := overlap(float64(x), left, right) * overlap(float64(y), top, bottom) / ((right - left) * (bottom - top))
			c, _ := color.RGBAModel.Convert(of.At(x, y)).(color.RGBA)
			for i, v := range [4]uint8{c.R, c.G, c.B, c.A} {
				sums[i] += part * float64(v)
			}
		}
	}
	return sums
}

func overlap(at, from, to float64) float64 { return max(0, min(at+1, to)-max(at, from)) }

// TestOrientation: a picture is turned as its file says, whatever way the camera was held.
func TestOrientation(t *testing.T) {
	plain := encoded(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, red(80, 40), &jpeg.Options{Quality: 95}) })
	isRed := func(p *image.RGBA, x, y int) bool { c := p.RGBAAt(x, y); return c.R > 200 && c.G < 60 && c.B < 60 }
	// where the red quarter is afterwards, as right and lower halves, by orientation
	for o, at := range []struct{ right, lower, turned bool }{
		1: {}, 2: {right: true}, 3: {right: true, lower: true}, 4: {lower: true},
		5: {turned: true}, 6: {right: true, turned: true}, 7: {right: true, lower: true, turned: true}, 8: {lower: true, turned: true}, 9: {}, 200: {},
	} {
		for _, little := range []bool{false, true} {
			_, got := shrunk(t, withOrientation(plain, o, little), 40, 40, false)
			w, h := 40, 20
			if at.turned {
				w, h = h, w
			}
			if got.Rect.Dx() != w || got.Rect.Dy() != h {
				t.Fatalf("orientation %d: %v, not %d x %d", o, got.Rect, w, h)
			}
			x, y := w/4, h/4
			if at.right {
				x += w / 2
			}
			if at.lower {
				y += h / 2
			}
			if !isRed(got, x, y) || isRed(got, w-1-x, h-1-y) {
				t.Errorf("orientation %d: the red quarter is not around %d, %d of %v", o, x, y, got.Rect)
			}
		}
	}
	file, err := os.ReadFile("testdata/right.jpg")
	if err != nil {
		t.Fatal(err)
	}
	if _, got := shrunk(t, file, 100, 100, false); got.Rect.Dx() != 75 || got.Rect.Dy() != 100 || !isRed(got, 60, 10) {
		t.Errorf("a file of another program is %v, and at its right upper corner %v", got.Rect, got.RGBAAt(60, 10))
	}
}

// withOrientation is a JPEG file with a segment of Exif.
func withOrientation(file []byte, o int, little bool) []byte {
	exif := []byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string([]byte{byte(o)}) + "\x00\x00")
	if little {
		exif = []byte("Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00" + string([]byte{byte(o)}) + "\x00\x00\x00")
	}
	out := append([]byte{}, file[:2]...)
	out = append(out, 0xFF, 0xE1, 0, byte(len(exif)+2))
	return append(append(out, exif...), file[2:]...)
}

// FuzzPicture: whatever a file says, nothing is taken beyond its end, and what is made fits.
func FuzzPicture(f *testing.F) {
	kept, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range kept {
		file, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := picture.Examine(bytes.NewReader(file))
		if err != nil || p.Memory > 8<<20 {
			return
		}
		small, err := p.Shrink(bytes.NewReader(file), 32, 32, true)
		if err == nil && (small.Rect.Dx() > 32 || small.Rect.Dy() > 32) {
			t.Fatalf("it is %v", small.Rect)
		}
	})
}

func BenchmarkShrink(b *testing.B) {
	var file bytes.Buffer
	if err := jpeg.Encode(&file, red(4032, 3024), &jpeg.Options{Quality: 88}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := picture.Examine(bytes.NewReader(file.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Shrink(bytes.NewReader(file.Bytes()), 800, 600, false); err != nil {
			b.Fatal(err)
		}
	}
}

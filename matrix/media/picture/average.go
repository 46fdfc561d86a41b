package picture

import (
	"image"
	"image/draw"
)

// stripRows is how many rows are converted at a time: those of a whole block of a JPEG.
const stripRows = 16

// channels of a pixel: red, green, blue, alpha.
const channels = 4

// average is a part of a picture made smaller: each pixel is the mean of the area that it covers. It goes through the picture in strips, so that there is
// no second copy of it.
func average(of image.Image, from image.Rectangle, width, height int) *image.RGBA {
	small := image.NewRGBA(image.Rect(0, 0, width, height))
	columns, rows := from.Dx(), from.Dy()
	strip := image.NewRGBA(image.Rect(0, 0, columns, min(stripRows, rows)))
	across, down := make([]uint64, width*channels), make([]uint64, width*channels)
	for y := range rows {
		if y%stripRows == 0 {
			draw.Draw(strip, strip.Rect, of, image.Pt(from.Min.X, from.Min.Y+y), draw.Src)
		}
		i := y % stripRows * strip.Stride
		squeeze(across, strip.Pix[i:i+columns*channels], columns, width)
		row, here, next := share(y, rows, height)
		gather(down, across, here)
		if (y+1)*height < (row+1)*rows { // the row of the small picture goes on
			continue
		}
		area := uint64(columns) * uint64(rows)
		to := small.Pix[row*small.Stride:]
		for j, sum := range down {
			to[j] = uint8((sum + area/2) / area) //nolint:gosec // a mean of bytes
			down[j] = across[j] * next
		}
	}
	return small
}

// squeeze adds up the pixels of a row for each of those that the small row has.
func squeeze(sums []uint64, row []byte, columns, width int) {
	clear(sums)
	for x := range columns {
		i, here, next := share(x, columns, width)
		pixel, sum := row[x*channels:x*channels+channels], sums[i*channels:]
		for c := range channels {
			sum[c] += uint64(pixel[c]) * here
		}
		if next > 0 {
			for c := range channels {
				sum[channels+c] += uint64(pixel[c]) * next
			}
		}
	}
}

// gather adds a row to what was added up of rows.
func gather(sums, row []uint64, weight uint64) {
	for i := range sums {
		sums[i] += row[i] * weight
	}
}

// share says which of few pixels one of many lies in, and how much of it lies there and in the next one. One of the many has a length of few, one of the few a
// length of many: all are whole numbers.
func share(at, many, few int) (in int, here, next uint64) {
	in = at * few / many
	over := (at+1)*few - (in+1)*many
	if over <= 0 {
		return in, uint64(few), 0 //nolint:gosec // it is positive
	}
	return in, uint64(few - over), uint64(over) //nolint:gosec // they are positive
}

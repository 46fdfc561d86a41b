package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// photo is a picture of 12 megapixels as telephones make them, of 4 MB.
func photo() ([]byte, error) {
	p := image.NewYCbCr(image.Rect(0, 0, 4032, 3024), image.YCbCrSubsampleRatio420)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same photo each time
	for i := range p.Y {
		p.Y[i] = uint8(i/64 + r.IntN(24))
	}
	for i := range p.Cb {
		p.Cb[i], p.Cr[i] = uint8(i/97), uint8(i/41)
	}
	var b bytes.Buffer
	err := jpeg.Encode(&b, p, &jpeg.Options{Quality: 85})
	return b.Bytes(), err
}

// photos has members upload photos at the same time, and look at two small copies of each.
func (o *options) photos(ctx context.Context, c *crowd) error {
	file, err := photo()
	if err != nil {
		return err
	}
	const people, each = 6, 3
	var f figures
	var mu sync.Mutex
	own, database := c.server.used()
	var all sync.WaitGroup
	for i := range people {
		all.Go(func() {
			for n := range each {
				begun := time.Now()
				e := c.share(ctx, c.tokens[i], append(bytes.Clone(file), byte(i), byte(n))) // what follows the picture makes it another file
				mu.Lock()
				f.each, err = append(f.each, time.Since(begun)), errors.Join(err, e)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	f.n = len(f.each)
	f.own, f.database = c.server.used()
	f.own, f.database = f.own-own, f.database-database
	fmt.Printf("  %d photos of 12 megapixels, %d at a time, each with two thumbnails: p50 %s ms, %s\n", f.n, people, ms(quantile(f.each, .5)), f.cpu())
	return err
}

// share uploads a file and asks for its thumbnails.
func (c *crowd) share(ctx context.Context, token string, file []byte) error {
	var up struct {
		URI string `json:"content_uri"`
	}
	if err := c.exchange(ctx, token, "POST", "media/v3/upload?filename=photo.jpg", file, &up); err != nil {
		return err
	}
	for _, size := range []string{"width=640&height=480&method=scale", "width=96&height=96&method=crop"} {
		if err := c.exchange(ctx, token, "GET", "client/v1/media/thumbnail/"+strings.TrimPrefix(up.URI, "mxc://")+"?"+size, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// exchange makes a request about media.
func (c *client) exchange(ctx context.Context, token, method, path string, body []byte, out any) error {
	q, err := http.NewRequestWithContext(ctx, method, c.base+"/_matrix/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Authorization", "Bearer "+token)
	q.Header.Set("Content-Type", "image/jpeg")
	resp, err := c.http.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return err
}

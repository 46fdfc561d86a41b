// Package preview makes previews of pages (clause client-server API, GET /preview_url): what a page says of itself by OpenGraph, or its title, with a picture that
// is kept as media. It fetches with a client that reaches only what it may, and little of it.
package preview

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"orrery/matrix/media"
	"orrery/matrix/store"
)

var (
	// ErrURL says that an address is none of a page.
	ErrURL = errors.New("not the address of a page")
	// ErrFetch says that a page could not be fetched.
	ErrFetch = errors.New("the page cannot be fetched")
)

// Limits of what is fetched and kept.
const (
	maxPage    = 1 << 20
	maxPicture = 10 << 20
	lifetime   = time.Hour
	maxKept    = 1000
	maxFetches = 4 // at a time
)

// Config says what previews need.
type Config struct {
	Server string       // its name
	Client *http.Client // reaches only what it may
	Media  *media.Media
	Now    func() time.Time
}

// Previews makes them, and keeps them for a while.
type Previews struct {
	c     Config
	fetch chan struct{}

	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	at      time.Time
	preview map[string]any
}

// New is previews.
func New(c Config) *Previews {
	return &Previews{c: c, fetch: make(chan struct{}, maxFetches), kept: map[string]kept{}}
}

// Of is the preview of a page.
func (p *Previews) Of(ctx context.Context, user, address string) (map[string]any, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || len(address) > 2048 {
		return nil, fmt.Errorf("%.200q is %w", address, ErrURL)
	}
	u.Fragment = ""
	if found := p.known(u.String()); found != nil {
		return found, nil
	}
	select {
	case p.fetch <- struct{}{}:
		defer func() { <-p.fetch }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	made, err := p.make(ctx, user, u)
	if err == nil {
		p.keep(u.String(), made)
	}
	return made, err
}

func (p *Previews) known(address string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	if k, ok := p.kept[address]; ok && p.c.Now().Sub(k.at) < lifetime {
		return k.preview
	}
	return nil
}

func (p *Previews) keep(address string, made map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.c.Now()
	for other, k := range p.kept {
		if len(p.kept) >= maxKept || now.Sub(k.at) >= lifetime {
			delete(p.kept, other)
		}
	}
	p.kept[address] = kept{now, made}
}

// get asks for something; the caller closes the body.
func (p *Previews) get(ctx context.Context, u *url.URL) (*http.Response, string, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrURL, err)
	}
	q.Header.Set("User-Agent", "Orrery homeserver (preview for a chat)")
	q.Header.Set("Accept", "text/html, application/xhtml+xml, image/*;q=0.9")
	resp, err := p.c.Client.Do(q)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, "", fmt.Errorf("%w: status %d", ErrFetch, resp.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	return resp, kind, nil
}

func (p *Previews) make(ctx context.Context, user string, u *url.URL) (map[string]any, error) {
	resp, kind, err := p.get(ctx, u)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	made := map[string]any{}
	switch {
	case strings.HasPrefix(kind, "image/"):
		return made, p.picture(ctx, user, kind, resp.Body, made)
	case kind != "text/html" && kind != "application/xhtml+xml":
		return made, nil
	}
	page, err := Read(io.LimitReader(resp.Body, maxPage), resp.Header.Get("Content-Type"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	maps.Copy(made, anyOf(page))
	address, _ := made["og:image"].(string)
	delete(made, "og:image")
	if address == "" {
		return made, nil
	}
	at, err := resp.Request.URL.Parse(address)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" {
		return made, nil // a page without its picture
	}
	picture, kind, err := p.get(ctx, at)
	if err != nil {
		return made, nil // a page without its picture
	}
	defer func() { _ = picture.Body.Close() }()
	if strings.HasPrefix(kind, "image/") {
		_ = p.picture(ctx, user, kind, picture.Body, made) // a page without its picture
	}
	return made, nil
}

func anyOf(page map[string]string) map[string]any {
	all := map[string]any{}
	for name, v := range page {
		all[name] = v
	}
	return all
}

// picture keeps a picture as media, and says where.
func (p *Previews) picture(ctx context.Context, user, kind string, content io.Reader, made map[string]any) error {
	limited := &io.LimitedReader{R: content, N: maxPicture + 1}
	row, err := p.c.Media.Upload(ctx, user, kind, "", limited)
	if err != nil {
		return err
	}
	if limited.N == 0 {
		return errors.Join(fmt.Errorf("%w: the picture is too large", ErrFetch), p.c.Media.Delete(ctx, row.ID))
	}
	made["og:image"], made["og:image:type"], made["matrix:image:size"] = "mxc://"+p.c.Server+"/"+row.ID, kind, row.Size
	if width, height, ok := p.size(row); ok {
		made["og:image:width"], made["og:image:height"] = width, height
	}
	return nil
}

func (p *Previews) size(row store.Media) (width, height int, ok bool) {
	f, err := p.c.Media.Content(row)
	if err != nil {
		return 0, 0, false
	}
	defer func() { _ = f.Close() }()
	info, _, err := image.DecodeConfig(f)
	return info.Width, info.Height, err == nil
}

// names are what a page may say of itself that is passed on.
var names = []string{"og:title", "og:description", "og:image", "og:url", "og:type", "og:site_name", "og:locale", "og:video", "og:audio"}

func isName(name string) bool { return slices.Contains(names, name) }

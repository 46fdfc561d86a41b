package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// calm is how long changes are gathered before the page is drawn again.
	calm = 120 * time.Millisecond
	// beat is how often the page is drawn again though no change was reported; it also keeps the stream alive.
	beat = 10 * time.Second
	// maxStreams is how many browsers may watch at once.
	maxStreams = 32
	// writeTime is how long a browser may take to read what it is sent.
	writeTime = 20 * time.Second
)

// Config is what a Handler needs.
type Config struct {
	Source Source
	Logger *slog.Logger // nil: discard
}

// Handler shows a source's views to whoever came by a one-time link. It serves
//
//	GET /login?token=   exchanges a link for a cookie and leads to the page
//	GET /               the page
//	GET /events         the page's sections as they change (server-sent events)
//	GET /view.json      the View
//
// to requests whose Host is a loopback name, on a listener that is expected to be
// on loopback. It starts no goroutines of its own.
type Handler struct {
	source  Source
	logger  *slog.Logger
	cookie  string
	door    *door
	mux     *http.ServeMux
	streams chan struct{}
	closed  chan struct{}
	close   sync.Once
}

var _ http.Handler = (*Handler)(nil)

// New returns a handler. Close it when the server that uses it shuts down.
func New(c Config) *Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	id, _ := secret()
	h := &Handler{
		source: c.Source, logger: c.Logger, cookie: cookiePrefix + id[:8], door: newDoor(), mux: http.NewServeMux(),
		streams: make(chan struct{}, maxStreams), closed: make(chan struct{}),
	}
	h.mux.HandleFunc("GET /login", h.login)
	h.mux.HandleFunc("GET /{$}", h.inside(h.page))
	h.mux.HandleFunc("GET /events", h.inside(h.stream))
	h.mux.HandleFunc("GET /view.json", h.inside(h.json))
	return h
}

// Close ends all streams, which would keep http.Server.Shutdown waiting: pass it to RegisterOnShutdown.
func (h *Handler) Close() { h.close.Do(func() { close(h.closed) }) }

// NewLink returns a link to the page that works once, within five minutes. Base is where the
// handler is served: http://127.0.0.1:7070
func (h *Handler) NewLink(base string) string {
	return strings.TrimSuffix(base, "/") + "/login?token=" + url.QueryEscape(h.door.link(time.Now()))
}

// ServeHTTP answers a browser.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	if !loopback(r.Host) {
		http.Error(w, "the dashboard is reached by a loopback address only", http.StatusForbidden)
		return
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	cookie, ok := h.door.exchange(r.URL.Query().Get("token"), time.Now())
	if !ok {
		refuse(w, "this link was used before or is too old")
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: h.cookie, Value: cookie, Path: "/", MaxAge: int(visitLife / time.Second),
		HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func refuse(w http.ResponseWriter, why string) {
	http.Error(w, why+"; for a new link, run: orrery dashboard", http.StatusUnauthorized)
}

// inside lets only those in who were let in before.
func (h *Handler) inside(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie(h.cookie)
		if err != nil || !h.door.admits(cookie.Value, time.Now()) {
			refuse(w, "you are not logged in")
			return
		}
		next(w, r)
	}
}

func (h *Handler) json(w http.ResponseWriter, r *http.Request) {
	v, err := h.source.View(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		h.logger.DebugContext(r.Context(), "dashboard not answered", "error", err)
	}
}

// draw renders the sections of what is now.
func (h *Handler) draw(ctx context.Context) (sheet, error) {
	v, err := h.source.View(ctx)
	if err != nil {
		return sections(View{}, err.Error())
	}
	return sections(v, "")
}

func (h *Handler) page(w http.ResponseWriter, r *http.Request) {
	drawn, err := h.draw(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	nonce, _ := secret()
	var out bytes.Buffer
	if err := writePage(&out, drawn, nonce); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%s'; "+
		"script-src 'nonce-%s'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", nonce, nonce))
	_, _ = out.WriteTo(w) // the browser is gone if this fails
}

// stream sends all sections and then each that changes.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case h.streams <- struct{}{}:
		defer func() { <-h.streams }()
	default:
		http.Error(w, "too many browsers are watching", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	changes := h.source.Changes(ctx)
	w.Header().Set("Content-Type", "text/event-stream")
	s := sender{w: w, control: http.NewResponseController(w), sent: map[string]string{}}
	timer := time.NewTimer(0) // the first drawing at once
	defer timer.Stop()
	due, rest := true, calm
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.closed:
			return
		case _, open := <-changes:
			if !open {
				changes = nil
			}
			if !due { // or else a source that never rests would never be drawn
				timer.Reset(rest)
				due = true
			}
			continue
		case <-timer.C:
		}
		began := time.Now()
		drawn, err := h.draw(ctx)
		if err == nil {
			err = s.send(drawn)
		}
		if err != nil {
			h.logger.DebugContext(ctx, "dashboard stream ended", "error", err)
			return
		}
		due, rest = false, max(calm, 4*time.Since(began)) // of a large cluster, at most a fifth of a core
		timer.Reset(beat)
	}
}

// sender sends sections to one browser and knows what it has.
type sender struct {
	w       http.ResponseWriter
	control *http.ResponseController
	sent    map[string]string // hash by section
}

func (s *sender) send(drawn sheet) error {
	var out bytes.Buffer
	for _, section := range drawn {
		if s.sent[section.ID] == section.Hash {
			continue
		}
		data, err := json.Marshal(section)
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "event: section\ndata: %s\n\n", data)
		s.sent[section.ID] = section.Hash
	}
	if out.Len() == 0 {
		out.WriteString(": still here\n\n")
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := out.WriteTo(s.w); err != nil {
		return err
	}
	return s.control.Flush()
}

package adminpage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"orrery/internal/amount"
	"orrery/matrix/admin"
)

// tile is a figure of the server's load, and how it was.
type tile struct {
	Name, Value, Peak string
	Chart             template.HTML
}

func (p *Pages) overview(v *visit) error {
	data, err := p.now(v.Context())
	if err != nil {
		return err
	}
	data["Title"] = "Overview"
	return v.render(http.StatusOK, "overview", data)
}

// now is how the server is.
func (p *Pages) now(ctx context.Context) (map[string]any, error) {
	t, err := p.totals.get(p.c.Now(), func() (totals, error) { return p.count(ctx) })
	if err != nil {
		return nil, err
	}
	kind, bytes := p.c.Stores(ctx)
	return map[string]any{
		"Tiles": tiles(p.c.Load.Samples()), "Warnings": p.c.Warnings(), "Users": t.users, "Rooms": t.rooms, "Reports": t.reports, "Database": kind, "Bytes": bytes,
		"Uptime": lasting(p.c.Now().Sub(p.c.Began)), "Server": p.c.Server,
	}, nil
}

// totals are how many there are of what is counted.
type totals struct{ users, rooms, reports int }

// counting is how long what was counted is shown: a page that is watched asks often.
const counting = 15 * time.Second

// recent is the totals that were counted last.
type recent struct {
	mu    sync.Mutex
	at    time.Time
	value totals
}

func (r *recent) get(now time.Time, look func() (totals, error)) (totals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && now.Sub(r.at) < counting {
		return r.value, nil
	}
	found, err := look()
	if err == nil {
		r.value, r.at = found, now
	}
	return found, err
}

func (p *Pages) count(ctx context.Context) (t totals, err error) {
	if _, t.users, err = p.c.Admin.Users(ctx, admin.UserQuery{Deactive: new(false)}); err != nil {
		return t, err
	}
	if _, t.rooms, err = p.c.Admin.List(ctx, admin.RoomQuery{}); err != nil {
		return t, err
	}
	_, t.reports, err = p.c.Admin.Reports(ctx, admin.ReportQuery{})
	return t, err
}

// lasting is how long something lasts, for people.
func lasting(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(int(d/(24*time.Hour)), "day")
	case d >= 2*time.Hour:
		return count(int(d/time.Hour), "hour")
	case d >= 2*time.Minute:
		return count(int(d/time.Minute), "minute")
	}
	return count(int(d/time.Second), "second")
}

// tiles are the figures that are drawn.
func tiles(samples []Sample) (all []tile) {
	for _, one := range []struct {
		name  string
		of    func(Sample) float64
		shown func(float64) string
	}{
		{"Requests a second", func(s Sample) float64 { return s.Requests }, plain},
		{"Messages a second", func(s Sample) float64 { return s.Messages }, plain},
		{"Answer time, usual", func(s Sample) float64 { return s.Usual }, seconds},
		{"Answer time, slowest 1 %", func(s Sample) float64 { return s.Slow }, seconds},
		{"Waiting clients", func(s Sample) float64 { return float64(s.Waiting) }, plain},
		{"Processor cores", func(s Sample) float64 { return s.Processor }, plain},
		{"Memory", func(s Sample) float64 { return s.Memory }, func(f float64) string { return amount.Bytes(int64(f)) }},
	} {
		t := tile{Name: one.name, Value: "–", Peak: "–"}
		var values []float64
		for _, s := range samples {
			values = append(values, one.of(s))
		}
		if n := len(values); n > 0 {
			top := 0.0
			for _, f := range values {
				top = max(top, f)
			}
			t.Value, t.Peak = one.shown(values[n-1]), one.shown(top)
		}
		t.Chart = drawChart(values)
		all = append(all, t)
	}
	return all
}

// Size of a chart.
const (
	chartWidth  = 240.0
	chartHeight = 48.0
)

// drawChart is a line of values, the last one at the right.
func drawChart(values []float64) template.HTML {
	var line strings.Builder
	top := 0.0
	for _, f := range values {
		top = max(top, f)
	}
	step := chartWidth / max(float64(len(values)-1), 1)
	for i, f := range values {
		if math.IsNaN(f) || top == 0 {
			f = 0
		} else {
			f /= top
		}
		fmt.Fprintf(&line, "%.1f,%.1f ", float64(i)*step, chartHeight-1-f*(chartHeight-4))
	}
	area := ""
	if len(values) > 1 {
		area = fmt.Sprintf(`<polygon class="area" points="0,%g %s%g,%g"/><polyline class="line" points="%s"/>`, chartHeight, line.String(), chartWidth, chartHeight, line.String())
	}
	//nolint:gosec // of numbers only
	return template.HTML(fmt.Sprintf(`<svg class="chart" viewBox="0 0 %g %g" preserveAspectRatio="none" aria-hidden="true">%s</svg>`, chartWidth, chartHeight, area))
}

func (p *Pages) check(v *visit) error {
	return v.render(http.StatusOK, "check", map[string]any{"Title": "Check", "Findings": p.c.Check(v.Context())})
}

// liveInterval is how often a part of a page that is watched is drawn again, and liveBeat how often something is sent at least.
const (
	liveInterval = 2 * time.Second
	liveBeat     = 20 * time.Second
	liveWrite    = 20 * time.Second
)

// live sends a part of a page as it changes (server-sent events), as long as its reader is logged in.
func (p *Pages) live(v *visit) error {
	parts := map[string]func() (map[string]any, error){
		"overview":  func() (map[string]any, error) { return p.now(v.Context()) },
		"deletions": func() (map[string]any, error) { return map[string]any{"Deletions": p.c.Admin.Deletions()}, nil },
	}
	draw := parts[v.PathValue("part")]
	if draw == nil {
		http.NotFound(v.w, v.Request)
		return nil
	}
	v.w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(v.w)
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	var last []byte
	sent := p.c.Now()
	for {
		data, err := draw()
		if err != nil {
			return nil // the page asks again
		}
		var part bytes.Buffer
		if err := pages().ExecuteTemplate(&part, "live-"+v.PathValue("part"), data); err != nil {
			return err
		}
		text := []byte(": still here\n\n")
		if !bytes.Equal(part.Bytes(), last) {
			last = part.Bytes()
			html, err := json.Marshal(part.String())
			if err != nil {
				return err
			}
			text = fmt.Appendf(nil, "data: %s\n\n", html)
		}
		if text[0] == 'd' || p.c.Now().Sub(sent) > liveBeat {
			sent = p.c.Now()
			_ = control.SetWriteDeadline(sent.Add(liveWrite))
			if _, err := v.w.Write(text); err != nil {
				return nil // the browser is gone
			}
			if err := control.Flush(); err != nil {
				return nil // the browser is gone
			}
		}
		select {
		case <-tick.C:
		case <-v.Context().Done():
			return nil
		}
		if v.recognise() != nil || v.p.gone(v.key) {
			return nil
		}
	}
}

// gone says whether a session has ended.
func (p *Pages) gone(key [32]byte) bool {
	p.visits.mu.Lock()
	defer p.visits.mu.Unlock()
	return p.visits.all[key] == nil
}

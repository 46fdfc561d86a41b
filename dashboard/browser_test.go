package dashboard

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"orrery/internal/testenv/browser"
)

// serve serves a source's dashboard.
func serve(t *testing.T, s Source) (*Handler, *httptest.Server) {
	t.Helper()
	h := New(Config{Source: s})
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(h.Close)
	return h, server
}

func do(ctx context.Context, t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	browser.Do(ctx, t, steps...)
}

// until waits for an expression to be true.
func until(ctx context.Context, t *testing.T, expression string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond))); err != nil {
		t.Fatalf("waiting for %s: %v", expression, err)
	}
}

func eval[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

const live = `document.querySelector(".live.on") !== null`

// misplaced names the moons of the visible map that are not nearest to the planet of their node.
const misplaced = `(() => {
  const svg = [...document.querySelectorAll("#map svg")].find((s) => s.getBoundingClientRect().height > 50);
  const middle = (g) => { const b = g.querySelector(".ball, .body").getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; };
  const planets = [...svg.querySelectorAll("[data-planet]")].map((g) => [g.dataset.planet, ...middle(g)]);
  const moons = [...svg.querySelectorAll("[data-service]")];
  const wrong = moons.length ? [] : ["no moons"];
  for (const g of moons) {
    const [x, y] = middle(g);
    planets.sort((a, b) => Math.hypot(a[1] - x, a[2] - y) - Math.hypot(b[1] - x, b[2] - y));
    if (planets[0][0] !== g.dataset.node) wrong.push(g.dataset.service + " is at " + planets[0][0] + ", not " + g.dataset.node);
  }
  return wrong.join("; ");
})()`

func TestBrowser(t *testing.T) {
	ctx := browser.Start(t, time.Minute)
	source := show(observatory())
	h, server := serve(t, source)
	link := h.NewLink(server.URL)

	do(ctx, t, chromedp.EmulateViewport(1400, 900), chromedp.Navigate(link))
	until(ctx, t, live)
	if got := eval[string](ctx, t, `document.querySelector("h1").textContent`); got != "observatory 3 nodes, 3 services, 1 session" {
		t.Errorf("heading %q", got)
	}
	if wrong := eval[string](ctx, t, misplaced); wrong != "" {
		t.Error(wrong)
	}
	browser.Shot(ctx, t, "still")

	// What changes arrives without loading the page again.
	eval[chromedp.Void](ctx, t, `window.sameDocument = true`)
	source.set(moving)
	until(ctx, t, `document.querySelector("#deployment .step") && document.querySelector("svg.wide .lane.moves") !== null`)
	browser.Shot(ctx, t, "moving")
	source.set(moved)
	until(ctx, t, `document.querySelector('svg.wide .moon[data-service="notes"][data-node="three"]:not(.session, .arriving)') !== null`)
	if wrong := eval[string](ctx, t, misplaced); wrong != "" {
		t.Error(wrong)
	}
	if !eval[bool](ctx, t, `window.sameDocument === true`) {
		t.Error("the page was loaded again")
	}

	// A narrow screen has a map of its own.
	do(ctx, t, chromedp.EmulateViewport(420, 900))
	if wrong := eval[string](ctx, t, misplaced); wrong != "" {
		t.Error(wrong)
	}
	if wide := eval[int](ctx, t, `document.documentElement.scrollWidth`); wide > 420 {
		t.Errorf("the page is %d pixels wide", wide)
	}
	browser.Shot(ctx, t, "narrow")

	// A link works once.
	do(ctx, t, chromedp.Navigate(link))
	want := "this link was used before or is too old; for a new link, run: orrery dashboard"
	if got := eval[string](ctx, t, `document.body.textContent.trim()`); got != want {
		t.Errorf("second use of the link says %q", got)
	}
}

func TestBrowserConnectsAgain(t *testing.T) {
	ctx := browser.Start(t, time.Minute)
	source := show(observatory())
	h, server := serve(t, source)
	do(ctx, t, chromedp.EmulateViewport(1400, 900), chromedp.Navigate(h.NewLink(server.URL)))
	until(ctx, t, live)
	server.CloseClientConnections()
	until(ctx, t, `document.querySelector(".live.off") !== null`)
	source.set(func(v *View) {
		v.Events = append([]Event{{Time: at("14:05:00"), Kind: "member", Text: "two left"}}, v.Events...)
	})
	until(ctx, t, live+` && document.querySelector("#events").textContent.includes("two left")`)
}

func TestBrowserCrowd(t *testing.T) {
	ctx := browser.Start(t, time.Minute)
	h, server := serve(t, show(crowd(6, 1000)))
	do(ctx, t, chromedp.EmulateViewport(1400, 900), chromedp.Navigate(h.NewLink(server.URL)))
	until(ctx, t, live)
	if wrong := eval[string](ctx, t, misplaced); wrong != "" {
		t.Error(wrong)
	}
	if n := eval[int](ctx, t, `document.querySelectorAll("svg.wide .moon").length`); n != 1000 {
		t.Errorf("%d moons", n)
	}
	browser.Shot(ctx, t, "crowd")
}

// pale returns the texts whose contrast with what is behind them is under 4.5 (WCAG AA).
const pale = `(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll("h1, h2, p, td, th, li span, li time, .badge, .live, .soft, a, .moon text")) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const svg = e.closest("svg"), style = getComputedStyle(e);
    const front = light(rgb(svg ? style.fill : style.color)), back = light(svg ? rgb(style.stroke) : behind(e));
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (contrast < 4.5) found.push(e.textContent.trim().slice(0, 30) + " " + contrast.toFixed(2));
  }
  return [...new Set(found)].join("; ");
})()`

func TestBrowserContrast(t *testing.T) {
	ctx := browser.Start(t, time.Minute)
	v := observatory()
	moving(&v)
	v.Nodes[2].State, v.Cluster.Warning = "suspect", "three does not answer"
	v.Services[0].Phase, v.Services[0].Detail = "failed", "exit status 1"
	h, server := serve(t, show(v))
	for _, scheme := range []string{"light", "dark"} {
		do(ctx, t, chromedp.EmulateViewport(1400, 900), prefers(scheme), chromedp.Navigate(h.NewLink(server.URL)))
		until(ctx, t, live)
		if found := eval[string](ctx, t, pale); found != "" {
			t.Errorf("%s: %s", scheme, found)
		}
		browser.Shot(ctx, t, scheme)
		do(ctx, t, chromedp.EmulateViewport(420, 900))
		browser.Shot(ctx, t, scheme+"-narrow")
	}
}

// prefers makes the browser ask for a colour scheme.
func prefers(scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
}

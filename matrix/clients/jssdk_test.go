package clients

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"orrery/internal/testenv/browser"
	"orrery/matrix/server/servertest"
)

// wasm is the crypto of matrix-js-sdk, which its script loads from beside it.
const wasm = "pkg/matrix_sdk_crypto_wasm_bg.wasm"

// serveScript serves a page that runs a script of testdata/js, with all that it imports. The script starts the homeserver again by POST /restart.
func serveScript(t *testing.T, dir, script string, h *servertest.Server) *httptest.Server {
	t.Helper()
	code := bundle(t, filepath.Join(dir, script))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>client</title><script type="module" src="/main.js"></script>`))
	})
	mux.HandleFunc("GET /main.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(code)
	})
	mux.HandleFunc("GET /"+wasm, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/wasm")
		http.ServeFile(w, r, filepath.Join(dir, "node_modules/@matrix-org/matrix-sdk-crypto-wasm", wasm))
	})
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.Restart(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// runScript runs a script of testdata/js in a real browser, against a homeserver of its own, until it says that it is done.
func runScript(t *testing.T, script string) {
	t.Helper()
	h := servertest.Run(t)
	page := serveScript(t, modules(t, "js"), script, h)
	ctx := browser.Start(t, 8*time.Minute)
	if err := chromedp.Do(ctx, chromedp.Navigate(page.URL+"/?server="+url.QueryEscape(h.URL))); err != nil {
		t.Fatal(err)
	}
	outcome, err := chromedp.Run(ctx, chromedp.Poll[string]("window.outcome", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0)))
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	steps, _ := chromedp.Run(late, chromedp.Evaluate[string](`window.steps.join("\n")`))
	t.Log(steps)
	if err != nil || outcome != "done" {
		t.Fatal(outcome, err)
	}
}

// TestEncrypted: what testdata/js/encrypted.js does with matrix-js-sdk.
func TestEncrypted(t *testing.T) { runScript(t, "encrypted.js") }

// TestSliding: what testdata/js/sliding.js does with matrix-js-sdk, by sliding sync.
func TestSliding(t *testing.T) { runScript(t, "sliding.js") }

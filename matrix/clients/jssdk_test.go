package clients

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/evanw/esbuild/pkg/api"

	"orrery/internal/testenv"
	"orrery/internal/testenv/browser"
	"orrery/matrix/server"
)

// modules installs the packages that testdata/js/package-lock.json names, as they were when it was written: npm compares their hashes.
func modules(t *testing.T) string {
	t.Helper()
	testenv.Need(t, "npm", "apt-get install npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/js")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Packages that ask for a newer Node are run in a browser here.
	npm := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		testenv.Missing(t, fmt.Sprintf("the packages of matrix-js-sdk (%v: %s)", err, out), "npm ci in matrix/clients/testdata/js")
	}
	return dir
}

// wasm is the crypto of matrix-js-sdk, which its script loads from beside it.
const wasm = "pkg/matrix_sdk_crypto_wasm_bg.wasm"

// serveScript serves a page that runs a script of testdata/js, with all that it imports.
func serveScript(t *testing.T, dir, script string) *httptest.Server {
	t.Helper()
	built := api.Build(api.BuildOptions{
		EntryPoints: []string{filepath.Join(dir, script)}, Bundle: true, Format: api.FormatESModule, Platform: api.PlatformBrowser,
		Target: api.ES2022, Define: map[string]string{"global": "globalThis", "process.env.NODE_ENV": `"production"`}, LogLevel: api.LogLevelSilent,
	})
	for _, m := range built.Errors {
		t.Fatalf("%s: %v", m.Text, m.Location)
	}
	code := built.OutputFiles[0].Contents
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
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// homeserver is one with open registration, on SQLite.
func homeserver(t *testing.T) *httptest.Server {
	t.Helper()
	path, err := server.Init("orrery.test", filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "open_registration: false", "open_registration: true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := server.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	config.Limits = server.Limits{}
	s, err := server.Open(t.Context(), config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestEncrypted: what testdata/js/encrypted.js does with matrix-js-sdk, in a real browser.
func TestEncrypted(t *testing.T) {
	page := serveScript(t, modules(t), "encrypted.js")
	h := homeserver(t)
	ctx := browser.Start(t, 4*time.Minute)
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

package clients

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"

	"orrery/internal/testenv"
	"orrery/matrix/server"
)

// modules copies a folder of testdata and installs there the packages that its package-lock.json names, as they were when it was written: npm compares
// their hashes.
func modules(t *testing.T, folder string) string {
	t.Helper()
	testenv.Need(t, "npm", "apt-get install npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", folder))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Packages that ask for a newer Node are run in a browser here.
	npm := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		testenv.Missing(t, fmt.Sprintf("the packages of a client (%v: %s)", err, out), "npm ci in matrix/clients/testdata/"+folder)
	}
	return dir
}

// bundle is a script with all that it imports, for browsers, but for what packages would import in Node only.
func bundle(t *testing.T, script string, node ...string) []byte {
	t.Helper()
	built := api.Build(api.BuildOptions{
		EntryPoints: []string{script}, Bundle: true, Format: api.FormatESModule, Platform: api.PlatformBrowser,
		Target: api.ES2022, Define: map[string]string{"global": "globalThis", "process.env.NODE_ENV": `"production"`}, External: node, LogLevel: api.LogLevelSilent,
	})
	for _, m := range built.Errors {
		t.Fatalf("%s: %v", m.Text, m.Location)
	}
	return built.OutputFiles[0].Contents
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

package clients

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/evanw/esbuild/pkg/api"

	"orrery/internal/testenv"
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

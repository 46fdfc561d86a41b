// Package testenv finds and starts the real programs that tests talk to.
//
// A test that needs a program that is missing is skipped and says how to install it; with
// ORRERY_TEST_NO_SKIP=1 it fails instead. Servers listen on loopback only, keep their data in a
// temporary folder, and end with the test binary, however that ends.
package testenv

import (
	"cmp"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Missing skips the test because what is not there, or fails it with ORRERY_TEST_NO_SKIP=1. Install is
// the command that would install it.
func Missing(t testing.TB, what, install string) {
	t.Helper()
	const format = "needs %s, which is not installed (%s)"
	if os.Getenv("ORRERY_TEST_NO_SKIP") == "1" {
		t.Fatalf(format, what, install)
		return
	}
	t.Skipf(format, what, install)
}

// Need returns the path of the first of the programs that is installed, in PATH or matching one of the
// patterns of filepath.Glob; it calls Missing if none is. Of several matches of a pattern it takes the last.
func Need(t testing.TB, program, install string, patterns ...string) string {
	t.Helper()
	for _, pattern := range patterns {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		// Longer names sort later, so that version 15 is newer than 9.
		slices.SortFunc(matches, func(a, b string) int {
			return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
		})
		if len(matches) > 0 {
			return matches[len(matches)-1]
		}
	}
	path, err := exec.LookPath(program)
	if err != nil {
		Missing(t, program, install)
	}
	return path
}

// Chromium returns the path of a Chromium or Chrome.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return Need(t, "chromium", "apt-get install chromium")
}

// Nginx returns the path of nginx.
func Nginx(t testing.TB) string {
	t.Helper()
	return Need(t, "nginx", "apt-get install nginx-light", "/usr/sbin/nginx")
}

// FreePort returns a loopback port that nothing listened on a moment ago.
func FreePort(t testing.TB) int {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// Eventually waits until condition holds, looking often, and fails the test after a minute.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never happened: %s", what)
		}
	}
}

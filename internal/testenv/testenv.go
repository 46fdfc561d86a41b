// Package testenv finds and starts the real programs that tests talk to.
//
// A test that needs a program that is missing is skipped and says how to install it; with
// ORRERY_TEST_NO_SKIP=1 it fails instead. Servers listen on loopback only, keep their data in a
// temporary folder, and end with the test binary, however that ends.
package testenv

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
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
func Missing(tb testing.TB, what, install string) {
	tb.Helper()
	const format = "needs %s, which is not installed (%s)"
	if os.Getenv("ORRERY_TEST_NO_SKIP") == "1" {
		tb.Fatalf(format, what, install)
		return
	}
	tb.Skipf(format, what, install)
}

// Need returns the path of the first of the programs that is installed, in PATH or matching one of the
// patterns of filepath.Glob; it calls Missing if none is. Of several matches of a pattern it takes the last.
func Need(tb testing.TB, program, install string, patterns ...string) string {
	tb.Helper()
	for _, pattern := range patterns {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
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
		Missing(tb, program, install)
	}
	return path
}

// Chromium returns the path of a Chromium or Chrome.
func Chromium(tb testing.TB) string {
	tb.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return Need(tb, "chromium", "apt-get install chromium")
}

// Nginx returns the path of nginx.
func Nginx(tb testing.TB) string {
	tb.Helper()
	return Need(tb, "nginx", "apt-get install nginx-light", "/usr/sbin/nginx")
}

// FreePort returns a loopback port that nobody listens on, and that nobody gets until the test ends: neither another test, not even one of another
// process, nor the system for an outgoing connection, which is why it is none of those that the system gives away (ip_local_port_range, from
// 32768). So a server may be ended and started on it again.
func FreePort(tb testing.TB) int {
	tb.Helper()
	var config net.ListenConfig
	for range 1000 {
		port := 12_000 + rand.IntN(20_000)                                                          //nolint:gosec // no secret
		kept, err := config.Listen(tb.Context(), "unix", fmt.Sprintf("@orrery-test-port-%d", port)) // is gone with the process
		if err != nil {
			continue
		}
		tcp, err := config.Listen(tb.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			_ = kept.Close()
			continue
		}
		_ = tcp.Close()
		tb.Cleanup(func() { _ = kept.Close() })
		return port
	}
	tb.Fatal("no port is free")
	return 0
}

// Eventually waits until condition holds, looking often, and fails the test after a minute.
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("never happened: %s", what)
		}
	}
}

// Package servertest runs a homeserver in the process of a test, for tests of what speaks to one.
package servertest

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/matrix/server"
)

// Name is the name of the server.
const Name = "orrery.test"

// Start runs a homeserver on SQLite with open registration and without limits until the test ends, and is its address. Edits are pairs of what the default
// configuration says and what it is to say instead.
func Start(tb testing.TB, edits ...string) string {
	tb.Helper()
	path, err := server.Init(Name, filepath.Join(tb.TempDir(), "data"))
	if err != nil {
		tb.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	edited := strings.NewReplacer(append(edits, "open_registration: false", "open_registration: true")...).Replace(string(text))
	if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
		tb.Fatal(err)
	}
	config, err := server.ReadConfig(path)
	if err != nil {
		tb.Fatal(err)
	}
	config.Limits = server.Limits{}
	s, err := server.Open(tb.Context(), config, slog.New(slog.NewTextHandler(tb.Output(), nil)))
	if err != nil {
		tb.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	s.BeginServices(tb.Context())
	tb.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h.URL
}

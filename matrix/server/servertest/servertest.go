// Package servertest runs a homeserver in the process of a test, for tests of what speaks to one.
package servertest

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orrery/matrix/server"
)

// Name is the name of the server.
const Name = "orrery.test"

// Server is a homeserver that serves until its test ends, and may be ended and started again meanwhile.
type Server struct {
	URL string

	tb     testing.TB
	config *server.Config
	mu     sync.RWMutex // held by requests, and by who starts the server again
	open   *server.Server
	ctx    context.Context //nolint:containedctx // that of requests
	end    context.CancelFunc
}

// Start runs a homeserver on SQLite with open registration and without limits until the test ends, and is its address. Edits are pairs of what the default
// configuration says and what it is to say instead.
func Start(tb testing.TB, edits ...string) string {
	tb.Helper()
	return Run(tb, edits...).URL
}

// Run is as Start, of a server that can be started again.
func Run(tb testing.TB, edits ...string) *Server {
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
	s := &Server{tb: tb}
	if s.config, err = server.ReadConfig(path); err != nil {
		tb.Fatal(err)
	}
	s.config.Limits = server.Limits{}
	if err := s.start(); err != nil {
		tb.Fatal(err)
	}
	h := httptest.NewServer(s)
	s.URL = h.URL
	tb.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
		s.end()
		if err := s.open.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func (s *Server) start() (err error) {
	s.ctx, s.end = context.WithCancel(s.tb.Context())
	if s.open, err = server.Open(s.tb.Context(), s.config, slog.New(slog.NewTextHandler(s.tb.Output(), nil))); err == nil {
		s.open.BeginServices(s.ctx)
	}
	return err
}

// Restart ends the server, as a signal does: those who wait get their answers. Requests that come meanwhile wait until it has started again.
func (s *Server) Restart() error {
	s.mu.RLock()
	end := s.end
	s.mu.RUnlock()
	end()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open.Close(); err != nil {
		return err
	}
	return s.start()
}

// ServeHTTP answers with the server that is open.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	s.open.Handler().ServeHTTP(w, r.WithContext(ctx))
}

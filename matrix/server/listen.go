package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// listener is an address at which requests are answered.
type listener struct {
	net.Listener

	server *http.Server
	ended  chan struct{}
}

// listen opens one, with TLS if there is a certificate. The context of requests is that of the second argument.
func (s *Server) listen(ctx, requests context.Context, address, cert, key string, h http.Handler) (*listener, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", s.config.path(path)
		if err := dropSocket(ctx, address); err != nil {
			return nil, err
		}
	}
	pair, err := s.config.certificate(cert, key, s.logger)
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, network, address)
	if err != nil {
		return nil, cannotListen(err)
	}
	if pair != nil {
		l = tls.NewListener(l, pair.config())
	}
	return &listener{l, &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}, make(chan struct{})}, nil
}

// cannotListen is why nothing can be answered at an address, with what to do.
func cannotListen(err error) error {
	what := "set another address: listen in the configuration, or --listen"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		what = "end what listens there, perhaps another homeserver, or " + what
	case errors.Is(err, syscall.EACCES):
		what = "this user may not: ports below 1024 are for root, a socket's folder must be this user's; " + what
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		what = "this machine has no such address: 0.0.0.0 is all that it has; " + what
	case errors.Is(err, os.ErrNotExist):
		what = "make the folder for the socket, or " + what
	}
	return fmt.Errorf("cannot listen: %w (%s)", err, what)
}

// serve answers until shutdown; what else ends it is said.
func (l *listener) serve(failed chan<- error) {
	defer close(l.ended)
	if err := l.server.Serve(l.Listener); !errors.Is(err, http.ErrServerClosed) {
		failed <- err
	}
}

// shutdown ends what serve does, and waits for that.
func (l *listener) shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	<-l.ended
	return err
}

// dropSocket removes the socket of a server that has ended.
func dropSocket(ctx context.Context, path string) error {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("cannot listen at %s: another server does (end it; each server has a configuration in a folder of its own)", path)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil //nolint:nilerr // there is none
	}
	return os.Remove(path)
}

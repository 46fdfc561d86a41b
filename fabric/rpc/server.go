package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
)

// streamProtocol is the ALPN name of stream sessions, and the line that begins one on a Unix socket.
const streamProtocol = "orrery-stream/1"

const (
	handshakeTimeout = 10 * time.Second
	headerTimeout    = 10 * time.Second
	idleTimeout      = 2 * time.Minute
	graceTimeout     = 5 * time.Second
	strangerTimeout  = 30 * time.Second // the whole life of a connection without a certificate
	maxHandshakes    = 128
	maxStrangers     = 16
	defaultMaxConns  = 1024
)

// Config is what a Server needs.
type Config struct {
	Authority *authority.Authority
	Listen    string // host:port of the TCP listener; port 0 chooses one
	Unix      string // path of the Unix socket; empty: none
	Admit     Admit  // asked about every connection with a certificate
	// MaxConnections bounds the connections with a certificate; 0 means 1024. Others have a small bound of their own.
	MaxConnections int
	// Refused is told why something was turned away; nil: nobody is. It is called by many goroutines.
	Refused func(why string)
	Logger  *slog.Logger // nil discards
}

// Server offers a Mux on a TCP port and a Unix socket.
type Server struct {
	config   Config
	mux      *Mux
	tcp      net.Listener
	unix     net.Listener
	http     *http.Server
	handoff  *handoff
	work     sync.WaitGroup
	shaking  chan struct{}
	members  chan struct{}
	stranger chan struct{}
	linked   linked
}

// Listen opens the sockets; connections wait until Run.
func Listen(ctx context.Context, config Config, mux *Mux) (*Server, error) {
	config.Logger = orDiscard(config.Logger)
	if config.MaxConnections == 0 {
		config.MaxConnections = defaultMaxConns
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for nodes at %s: %w", config.Listen, err)
	}
	s := &Server{
		config: config, mux: mux, tcp: tcp, handoff: newHandoff(tcp.Addr()),
		shaking:  make(chan struct{}, maxHandshakes),
		members:  make(chan struct{}, config.MaxConnections),
		stranger: make(chan struct{}, maxStrangers),
	}
	mux.refused = s.refuse
	if config.Unix != "" {
		if s.unix, err = listenUnix(ctx, config.Unix); err != nil {
			return nil, errors.Join(err, tcp.Close())
		}
	}
	return s, nil
}

// listenUnix opens the socket with mode 0600. A socket that nobody answers on, left by a crash, is replaced.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %s: another node answers there (stop it first)", path), c.Close())
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot replace a dead socket: %w", err)
		}
	}
	l, err := listenPrivate(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return l, nil
}

// Addr is the TCP listener's host:port.
func (s *Server) Addr() string { return s.tcp.Addr().String() }

// Run serves until ctx ends, then lets requests finish for a few seconds, closes everything and returns nil. Run it once; a Server that is never run is
// closed by Close.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s.http = &http.Server{
		Handler:           s.mux.http,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.config.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(base, stopKey{}, ctx) },
		ConnContext:       connContext,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	s.work.Go(func() { s.accept(ctx, s.tcp, s.welcomeTLS) })
	if s.unix != nil {
		s.work.Go(func() { s.accept(ctx, s.unix, s.welcomeUnix) })
	}
	s.work.Go(func() {
		if err := s.http.Serve(s.handoff); !errors.Is(err, http.ErrServerClosed) {
			s.config.Logger.ErrorContext(ctx, "http server ended", "error", err)
		}
	})
	<-ctx.Done()
	err := s.Close()
	grace, stop := context.WithTimeout(base, graceTimeout)
	defer stop()
	if shut := s.http.Shutdown(grace); shut != nil {
		cancel()
		err = errors.Join(err, s.http.Close())
	}
	s.handoff.drain()
	s.work.Wait()
	return err
}

// Close closes the sockets. Run calls it.
func (s *Server) Close() error {
	var errs []error
	for _, l := range []net.Listener{s.tcp, s.unix} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// connContext tells handlers who is on the other side.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if g, ok := c.(*guarded); ok {
		return context.WithValue(ctx, callerKey{}, g.caller)
	}
	return ctx
}

// Cut ends the connections of those who are out. To be told that they are is the next thing that happens to them, by Config.Admit.
func (s *Server) Cut(out func(id fabric.NodeID) bool) { s.linked.cut(out) }

// identify is what a finished handshake says of the far side. The connection can be cut from before the far side is judged, so that
// whoever is put out meanwhile does not slip through.
func (s *Server) identify(ctx context.Context, g *guarded, t *tls.Conn) caller {
	chain := t.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return caller{}
	}
	id, err := s.config.Authority.Verify(chain)
	if err == nil && s.config.Admit != nil {
		s.linked.add(g, id.ID)
		g.releases = append(g.releases, func() { s.linked.remove(g) })
		if err = s.config.Admit(ctx, id); err != nil {
			s.linked.remove(g)
			s.config.Logger.WarnContext(ctx, "certificate refused", "from", t.RemoteAddr().String(), "error", err)
		}
	}
	if err != nil {
		s.refuse(RefusedCertificate)
		return caller{refused: err}
	}
	return caller{identity: id, known: true}
}

func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: append([]string{"h2", "http/1.1", streamProtocol}, slices.Sorted(maps.Keys(s.mux.conns))...),
		// Records of 16 KiB from the beginning: what is written at once has gathered while something else was on its way.
		DynamicRecordSizingDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := s.config.Authority.Certificate()
			return &c, err
		},
		// Who has no certificate may join, and one of another cluster is told so in words: identify decides.
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
}

// unixCaller is whoever opened the socket: the file's mode lets nobody in but its owner and root.
func (s *Server) unixCaller(c net.Conn) caller {
	return caller{known: true, identity: fabric.Identity{
		Cluster: s.config.Authority.Identity().Cluster, Name: userOf(c), Role: fabric.RoleOperator,
	}}
}

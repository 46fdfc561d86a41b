package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/session"
)

// echoRouter answers every connection with what was asked for.
type echoRouter struct{}

func (echoRouter) ServeConn(_ context.Context, conn net.Conn, service, name string) error {
	_, err := fmt.Fprintf(conn, "%s for %s", service, name)
	return errors.Join(err, conn.Close())
}

// rig is a node and a developer's machine, joined over real sockets.
type rig struct {
	t       *testing.T
	tunnels *Tunnels
	client  *Client
	mu      sync.Mutex
	conns   []net.Conn // the node's ends
}

func newRig(t *testing.T, config ClientConfig) *rig {
	t.Helper()
	r := &rig{t: t, tunnels: NewTunnels(echoRouter{}, nil)}
	ctx, cancel := context.WithCancel(t.Context())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, conn)
			r.mu.Unlock()
			work.Go(func() { _ = r.tunnels.Accept(ctx, conn, "t1", "blue") })
		}
	})
	config.Pause = time.Millisecond
	if r.client, err = NewClient(ctx, config); err != nil {
		t.Fatal(err)
	}
	work.Go(func() {
		err := r.client.Run(ctx, func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", l.Addr().String())
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		work.Wait()
	})
	r.until(func() bool { return r.tunnels.Alive("t1") })
	return r
}

func (r *rig) until(condition func() bool) {
	r.t.Helper()
	for !condition() {
		select {
		case <-r.t.Context().Done():
			r.t.Fatal("waited in vain")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestBothWays(t *testing.T) {
	local := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer local.Close()
	address := local.Listener.Addr().String()
	r := newRig(t, ClientConfig{Allow: []string{address}, Services: []string{"notes"}})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return r.tunnels.Dial(ctx, "t1", address)
	}}
	client := &http.Client{Transport: transport}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // several windows
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			res, err := client.Post("http://x/", "application/octet-stream", bytes.NewReader(big))
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, big) {
				t.Errorf("%d of %d bytes came back: %v", len(got), len(big), err)
			}
		})
	}
	clients.Wait()
	transport.CloseIdleConnections()
	conn, err := net.Dial("tcp", r.client.Addresses()["notes"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != "notes for blue" {
		t.Errorf("%q %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	r := newRig(t, ClientConfig{Allow: []string{"127.0.0.1:1"}})
	for address, want := range map[string]string{"127.0.0.1:22": "not allowed", "127.0.0.1:1": "refused"} {
		if _, err := r.tunnels.Dial(t.Context(), "t1", address); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := r.tunnels.Dial(t.Context(), "t2", "127.0.0.1:1"); !errors.Is(err, session.ErrNotFound) {
		t.Error(err)
	}
}

// TestConnectionKilled cuts the tunnel's connection in the middle of a transfer: the transfer
// ends with an error, and the tunnel comes back by itself.
func TestConnectionKilled(t *testing.T) {
	release := make(chan struct{})
	local := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release
	}))
	defer local.Close()
	defer close(release)
	address := local.Listener.Addr().String()
	r := newRig(t, ClientConfig{Allow: []string{address}})
	conn, err := r.tunnels.Dial(t.Context(), "t1", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := conn.Read(one); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	_ = r.conns[0].Close()
	r.mu.Unlock()
	_, _ = io.Copy(io.Discard, conn) // ends
	r.until(func() bool {
		again, err := r.tunnels.Dial(t.Context(), "t1", address)
		if err == nil {
			_ = again.Close()
		}
		return err == nil
	})
}

// TestSilentMachine has a developer's machine that vanishes without a word. It takes real seconds: yamux keeps its timers in a
// pool that all of a process share, so that it cannot be used both inside and outside a bubble of fake time.
func TestSilentMachine(t *testing.T) {
	t.Parallel()
	tunnels := NewTunnels(echoRouter{}, nil)
	here, there := net.Pipe()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, there)
	}()
	if err := tunnels.Accept(t.Context(), here, "t1", "blue"); err != nil {
		t.Error(err)
	}
	if tunnels.Alive("t1") {
		t.Error("a silent machine is alive")
	}
	_ = there.Close()
	<-drained
}

func TestNewerConnectionWins(t *testing.T) {
	r := newRig(t, ClientConfig{})
	r.mu.Lock()
	first := len(r.conns)
	r.mu.Unlock()
	here, there := net.Pipe()
	defer there.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.tunnels.Accept(t.Context(), here, "t1", "blue")
	}()
	// The client whose connection was replaced connects again, and wins in turn.
	r.until(func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.conns) > first
	})
	<-done
}

func TestPermanentError(t *testing.T) {
	c, err := NewClient(t.Context(), ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the session ended")
	err = c.Run(t.Context(), func(context.Context) (net.Conn, error) { return nil, &Permanent{gone} })
	if !errors.Is(err, gone) {
		t.Error(err)
	}
}

func FuzzFrame(f *testing.F) {
	for _, seed := range []string{
		"", "\x00", "\x00\x00", "\x00\x02{}", "\xff\xff{}", "\x10\x01",
		"\x00\x33{\"version\":1,\"kind\":\"dial\",\"address\":\"127.0.0.1:80\"}",
		"\x00\x10{\"error\":\"nope\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, err := readHeader(r, kindDial)
		if err == nil && (h.Version != version || h.Kind != kindDial) {
			t.Errorf("accepted %+v", h)
		}
		if read := len(data) - r.Len(); read > MaxFrame+2 {
			t.Errorf("read %d bytes", read)
		}
		_ = ReadReply(bytes.NewReader(data))
	})
}

package rpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/rpc"
)

// careless is an HTTP client that verifies nothing and shows a's certificate, if any.
func careless(t *testing.T, a *authority.Authority) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: carelessTLS(t, a, "h2"), ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func carelessTLS(t *testing.T, a *authority.Authority, protocol string) *tls.Config {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}
	if a != nil {
		pair, err := a.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func TestStream(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	socket := rpc.Unix(alpha.socket, known())
	t.Cleanup(socket.Close)
	c := client(t, cluster.Admit(t, "dev", fabric.RoleDeveloper))
	for _, p := range []*rpc.Peer{c.Address(alpha.server.Addr()), socket} {
		s, err := p.Stream(t.Context(), "echo", text{"x"})
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		sent := bytes.Repeat([]byte("orrery "), 1<<18)
		go func() {
			_, _ = s.Write(sent)
			_ = s.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d bytes came back of %d, %v", p, len(got), len(sent), err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		_, err = p.Stream(t.Context(), "refuse", text{"y"})
		if !errors.Is(err, errOdd) || err.Error() != `cannot serve {"value":"y"}: odd` {
			t.Errorf("%s: %v", p, err)
		}
		if _, err = p.Stream(t.Context(), "none", nil); !errors.Is(err, rpc.ErrNoSuchKind) {
			t.Errorf("%s: %v", p, err)
		}
		if _, err = p.Stream(t.Context(), "panic", nil); err == nil {
			t.Errorf("%s: a panic is no error", p)
		}
		if _, err = p.Stream(t.Context(), "echo", text{strings.Repeat("x", 70000)}); err == nil {
			t.Errorf("%s: a huge header was sent", p)
		}
	}
}

// TestStreamsUnderLoad has many streams on one session at once, among calls.
func TestStreamsUnderLoad(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	p := client(t, cluster.First, alpha).Node(cluster.First.Identity().ID)
	var work sync.WaitGroup
	for i := range 64 {
		work.Go(func() {
			for range 4 {
				exchange(t, p, bytes.Repeat([]byte{byte(i)}, 100_000))
			}
			if _, err := rpc.Call[text, text](t.Context(), p, procEcho, &text{"x"}); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
}

func exchange(t *testing.T, p *rpc.Peer, sent []byte) {
	t.Helper()
	s, err := p.Stream(t.Context(), "echo", nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	var work sync.WaitGroup
	work.Go(func() { _, _ = s.Write(sent); _ = s.(interface{ CloseWrite() error }).CloseWrite() })
	got, err := io.ReadAll(s)
	work.Wait()
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
	}
}

// TestCloseEndsWaiting closes a stream while both sides are stuck: reads here, writes there.
func TestCloseEndsWaiting(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	ended, wrote := make(chan error, 1), make(chan struct{}, 1)
	alpha := serve(t, cluster.First, func(m *rpc.Mux) {
		m.HandleStream("pour", fabric.RoleNode, func(_ context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
			c, err := accept()
			for err == nil {
				_, err = c.Write(make([]byte, 100_000))
				select {
				case wrote <- struct{}{}:
				default:
				}
			}
			ended <- err
			return err
		})
		m.HandleStream("last words", fabric.RoleNode, func(_ context.Context, _ fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
			c, err := accept()
			if err == nil {
				_, err = c.Write(make([]byte, 500_000))
			}
			return err
		})
	})
	p := client(t, cluster.First).Address(alpha.server.Addr())
	s, err := p.Stream(t.Context(), "pour", nil)
	if err != nil {
		t.Fatal(err)
	}
	<-wrote
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the far side's write: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	s, err = p.Stream(t.Context(), "echo", nil)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read that waits: %v", err)
	}
	s, err = p.Stream(t.Context(), "last words", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := io.ReadAll(s); err != nil || len(got) != 500_000 {
		t.Errorf("%d bytes were read after the far side closed, %v", len(got), err)
	}
}

// TestMuteFarSide opens a stream to a listener that never answers: ctx ends the attempt.
func TestMuteFarSide(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	p := client(t, cluster.First).Address(mute.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Stream(ctx, "echo", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := rpc.Call[text, text](ctx, p, procEcho, &text{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestGarbage throws bytes at every protocol of the server; afterwards it answers.
func TestGarbage(t *testing.T) {
	cluster := authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, cluster.First, nil)
	garbage := append(binary.BigEndian.AppendUint32(nil, 1<<31), bytes.Repeat([]byte{0xff, 0, 'o', '\n'}, 1000)...)
	for _, dial := range []func() (net.Conn, error){
		func() (net.Conn, error) { return net.Dial("tcp", alpha.server.Addr()) },
		func() (net.Conn, error) {
			return tls.Dial("tcp", alpha.server.Addr(), carelessTLS(t, cluster.First, "orrery-stream/1"))
		},
		func() (net.Conn, error) {
			return tls.Dial("tcp", alpha.server.Addr(), carelessTLS(t, nil, "orrery-stream/1"))
		},
		func() (net.Conn, error) {
			return tls.Dial("tcp", alpha.server.Addr(), carelessTLS(t, cluster.First, "h2"))
		},
		func() (net.Conn, error) { return net.Dial("unix", alpha.socket) },
		func() (net.Conn, error) {
			c, err := net.Dial("unix", alpha.socket)
			if err == nil {
				_, err = c.Write([]byte("orrery-stream/2\n"))
			}
			return c, err
		},
	} {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(garbage)
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	if _, err := rpc.Call[text, text](t.Context(), client(t, cluster.First).Address(alpha.server.Addr()), procEcho, &text{}); err != nil {
		t.Error(err)
	}
}

// TestStreamsOfStrangers opens streams with a certificate of another cluster, with none, and of a client that does not
// look at the server's.
func TestStreamsOfStrangers(t *testing.T) {
	ours, theirs := authoritytest.NewCluster(t, "alpha"), authoritytest.NewCluster(t, "alpha")
	alpha := serve(t, ours.First, nil)
	for shown, want := range map[*authority.Authority]error{theirs.First: fabric.ErrOtherCluster, nil: fabric.ErrForbidden} {
		c, err := tls.Dial("tcp", alpha.server.Addr(), carelessTLS(t, shown, "orrery-stream/1"))
		if err != nil {
			t.Fatal(err)
		}
		session, err := yamux.Client(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Open(); err != nil { // for control
			t.Fatal(err)
		}
		stream, err := session.Open()
		if err != nil {
			t.Fatal(err)
		}
		opening := `{"kind":"echo"}`
		if _, err := stream.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(opening))), opening...)); err != nil {
			t.Fatal(err)
		}
		if verdict, err := io.ReadAll(stream); err != nil || !strings.Contains(string(verdict), want.Error()) {
			t.Errorf("%q, %v, want %v", verdict, err, want)
		}
		_ = session.Close()
	}
}

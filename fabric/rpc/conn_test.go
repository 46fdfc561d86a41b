package rpc

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
)

// TestGivenUpEarly: the opener closes a stream before this side has taken it, and says so on another stream.
func TestGivenUpEarly(t *testing.T) {
	here, there := net.Pipe()
	server, err := yamux.Server(there, sessionConfig())
	if err != nil {
		t.Fatal(err)
	}
	opener, err := open(here)
	if err != nil {
		t.Fatal(err)
	}
	control, err := server.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	m := newMultiplex(server, control)
	listened := make(chan struct{})
	go func() {
		defer close(listened)
		m.listen()
	}()
	raw, err := opener.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	_ = opener.add(raw).Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for early := 0; early == 0; <-tick.C {
		m.mu.Lock()
		early = len(m.early)
		m.mu.Unlock()
	}
	late, err := server.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	c := m.add(late)
	if _, err := c.Write(make([]byte, 2<<20)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("writing to nobody: %v", err)
	}
	_ = c.Close()
	if len(m.early) > 0 || len(m.conns) > 0 {
		t.Errorf("kept %v, %v", m.early, m.conns)
	}
	_ = opener.Close()
	_ = server.Close()
	<-listened
}

package rpc

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"
)

// multiplex is one session, from either side. yamux lets a stream that one side has closed fill its window and then
// block the other side's writer for minutes. So the first stream of a session carries the ids (4 bytes, big endian) of streams that
// their sender will read no more, and writing to those fails at once.
type multiplex struct {
	*yamux.Session
	control *yamux.Stream

	mu     sync.Mutex
	conns  map[uint32]*conn
	newest uint32          // the highest id in conns so far
	early  map[uint32]bool // ids of streams that are still to be accepted
}

func newMultiplex(s *yamux.Session, control *yamux.Stream) *multiplex {
	return &multiplex{Session: s, control: control, conns: map[uint32]*conn{}, early: map[uint32]bool{}}
}

// listen takes the far side's ids in until the session ends.
func (m *multiplex) listen() {
	var id [4]byte
	for {
		if _, err := io.ReadFull(m.control, id[:]); err != nil {
			return
		}
		m.abandon(binary.BigEndian.Uint32(id[:]))
	}
}

// abandon notes that the far side reads a stream no more. It may say so before this side has taken the stream.
func (m *multiplex) abandon(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.conns[id]; c != nil {
		c.abandoned()
	} else if id > m.newest && len(m.early) < maxStreams {
		m.early[id] = true
	}
}

// add makes a connection of a stream.
func (m *multiplex) add(s *yamux.Stream) *conn {
	c := &conn{Stream: s, session: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	id := s.StreamID()
	m.conns[id], m.newest = c, max(m.newest, id)
	if m.early[id] {
		delete(m.early, id)
		c.abandoned()
	}
	return c
}

func (m *multiplex) remove(c *conn) {
	m.mu.Lock()
	delete(m.conns, c.StreamID())
	m.mu.Unlock()
	if !c.ended.Load() {
		_, _ = m.control.Write(binary.BigEndian.AppendUint32(nil, c.StreamID()))
	}
}

// abandoned ends writes.
func (c *conn) abandoned() {
	c.unread.Store(true)
	_ = c.SetWriteDeadline(past)
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// conn is a stream that behaves as a TCP connection does: it can be closed for writing alone, and closing it
// ends reads and writes that wait, here and there.
type conn struct {
	*yamux.Stream
	session *multiplex
	closed  atomic.Bool
	ended   atomic.Bool // the far side ended what it sends
	unread  atomic.Bool // the far side reads no more
}

// Read reads; io.EOF once the far side has closed, or closed for writing, and all is read.
func (c *conn) Read(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.Stream.Read(b)
	switch {
	case err == nil:
	case c.closed.Load():
		err = net.ErrClosed
	case err == io.EOF: //nolint:errorlint // what a Reader returns is io.EOF itself
		c.ended.Store(true)
	}
	return n, err
}

// Write writes; io.ErrClosedPipe once the far side has closed.
func (c *conn) Write(b []byte) (int, error) {
	if c.unread.Load() {
		return 0, io.ErrClosedPipe
	}
	n, err := c.Stream.Write(b)
	switch {
	case err == nil:
	case c.closed.Load():
		err = net.ErrClosed
	case c.unread.Load():
		err = io.ErrClosedPipe
	}
	return n, err
}

// CloseWrite ends what this side sends; the far side reads io.EOF. Reading goes on, for at
// most five minutes.
func (c *conn) CloseWrite() error { return c.Stream.Close() }

// Close ends the stream. What was written before arrives.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	err := c.Stream.Close()
	_ = c.SetReadDeadline(past)
	c.session.remove(c)
	return err
}

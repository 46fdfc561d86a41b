package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// maxFiles bounds descriptors that came and that no message took: those that the kernel passes at once, and some.
	maxFiles = 256
	// kernelFiles is how many descriptors the kernel passes at once.
	kernelFiles = 253
	// pieceSize is how much is received at once, and maxPieces how many pieces may wait to be read. A compositor disconnects who leaves some 200 KB
	// unreceived, so what comes is received at once, whatever the reader does.
	pieceSize = 64 << 10
	maxPieces = 256
	// writeTime is how long the far side may leave what is sent unread, before it is taken for dead.
	writeTime = 10 * time.Second
)

// Conn carries messages over a socket. One goroutine may read while others write.
type Conn struct {
	socket *net.UnixConn
	pieces chan piece    // that were received; closed after the last
	over   chan struct{} // closed by Close
	end    func() error

	in    []byte // what was received and not yet read
	files []int
	err   error // of the last piece

	mu     sync.Mutex // one message is written at a time
	broken error      // why nothing more can be written
}

// piece is what was received at once.
type piece struct {
	bytes []byte
	files []int
	err   error
}

// NewConn takes a socket over.
func NewConn(socket *net.UnixConn) *Conn {
	c := &Conn{socket: socket, pieces: make(chan piece, maxPieces), over: make(chan struct{})}
	c.end = sync.OnceValue(func() error {
		close(c.over)
		return socket.Close()
	})
	go c.receive() // until the socket is closed; Drop waits for it
	return c
}

// receive receives until the end.
func (c *Conn) receive() {
	defer close(c.pieces)
	buffer, rights := make([]byte, pieceSize), make([]byte, syscall.CmsgSpace(kernelFiles*4))
	for {
		n, control, flags, _, err := c.socket.ReadMsgUnix(buffer, rights)
		p := piece{bytes: append([]byte(nil), buffer[:max(n, 0)]...), err: err}
		if control > 0 {
			p.files = passed(rights[:control])
		}
		if err == nil && flags&syscall.MSG_CTRUNC != 0 {
			p.err = fmt.Errorf("%w: file descriptors were lost (more than this process may open?)", ErrProtocol)
		}
		select {
		case c.pieces <- p:
		case <-c.over:
			p.drop()
			return
		}
		if p.err != nil {
			return
		}
	}
}

// passed are the descriptors of control messages.
func passed(control []byte) (files []int) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil // the kernel's are well-formed
	}
	for i := range messages {
		if fds, err := syscall.ParseUnixRights(&messages[i]); err == nil { // other messages carry none
			files = append(files, fds...)
		}
	}
	return files
}

func (p *piece) drop() {
	for _, fd := range p.files {
		_ = syscall.Close(fd)
	}
}

// Read waits for the next message, which is valid until the next call. An error is final; io.EOF is the far side's end.
func (c *Conn) Read() (*Message, error) {
	for {
		m, size, err := parse(c.in)
		switch {
		case err != nil:
			return nil, err
		case size > 0:
			c.in = c.in[size:]
			m.files = &c.files
			return &m, nil
		case c.err != nil && errors.Is(c.err, io.EOF) && len(c.in) > 0:
			return nil, fmt.Errorf("%w: it ends in the middle of a message", ErrProtocol)
		case c.err != nil:
			return nil, c.err
		}
		p, ok := <-c.pieces
		if !ok {
			return nil, net.ErrClosed
		}
		c.in = append(slices.Clip(c.in), p.bytes...) // a copy: the message before may still be in use, and what was read is let go
		c.files, c.err = append(c.files, p.files...), p.err
		if len(c.files) > maxFiles {
			return nil, fmt.Errorf("%w: %d file descriptors that no message is about", ErrProtocol, len(c.files))
		}
	}
}

// Write sends a message.
func (c *Conn) Write(object uint32, opcode uint16, args ...Arg) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(object, opcode, 0, args)
}

// write sends a message; the caller holds the lock. After an error half a message may be sent, so it is the last.
func (c *Conn) write(object uint32, opcode uint16, made uint32, args []Arg) error {
	m, err := encode(object, opcode, made, args)
	if err != nil {
		return err
	}
	if c.broken != nil {
		return c.broken
	}
	if err := c.send(m); err != nil {
		c.broken = fmt.Errorf("%w: %w", ErrClosed, err)
		_ = c.socket.CloseRead() // ends who reads, after what has come
	}
	return c.broken
}

// isBroken says that nothing more can be written.
func (c *Conn) isBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken != nil
}

func (c *Conn) send(m *outgoing) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	var rights []byte
	if len(m.files) > 0 {
		rights = syscall.UnixRights(m.files...)
	}
	for rest := m.bytes; len(rest) > 0; rights = nil {
		n, _, err := c.socket.WriteMsgUnix(rest, rights, nil)
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// Close ends the connection, and who reads.
func (c *Conn) Close() error { return c.end() }

// Drop closes the connection and the file descriptors that nobody took. Call it after the last Read.
func (c *Conn) Drop() {
	_ = c.Close()
	for p := range c.pieces {
		p.drop()
	}
	(&piece{files: c.files}).drop()
	c.files = nil
}

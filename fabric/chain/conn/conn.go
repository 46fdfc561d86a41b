// Package conn is one connection of the chains' protocol: frames that come in, without a copy, and frames that go out, gathered while the one
// before is written.
//
// Whoever has something to send copies it into the connection's buffer. One goroutine flushes what has gathered, so that many small frames share a
// record of TLS and a system call. The buffer is bounded: who appends to a full one waits, which is how a slow reader slows
// its writers down. A goroutine that reads requests and answers them itself holds its answers back (Hold) and flushes once it has
// nothing more to read.
package conn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Framing finds the frames in a stream.
type Framing struct {
	Head int // bytes at the beginning of a frame that tell its size
	// Size is the size of a whole frame, head included, or an error if that is no beginning of one.
	Size func(head []byte) (int, error)
}

// Config says how a connection behaves.
type Config struct {
	Framing Framing
	// Room is about how many bytes may wait to be written; 0: 1 MiB.
	Room int
	// WriteTimeout ends a connection whose far side takes nothing for so long; 0: 30 s.
	WriteTimeout time.Duration
}

const (
	defaultRoom         = 1 << 20
	defaultWriteTimeout = 30 * time.Second
	readBuffer          = 64 << 10
	keepBuffer          = 256 << 10 // a larger buffer is given back once it is written
)

// Conn is a connection. Read is for one goroutine, all else for many.
type Conn struct {
	raw    net.Conn
	config Config

	reader *bufio.Reader
	large  []byte // a frame that does not fit into the reader's buffer
	last   int    // bytes of the reader's buffer that the last frame occupies

	Received, Sent atomic.Uint64 // bytes

	mu      sync.Mutex
	wake    sync.Cond // there is something to flush, or the connection ended
	room    sync.Cond // the buffer was taken
	buffer  []byte
	spare   []byte
	holding int
	writing bool
	err     error
	done    chan struct{}
	flusher sync.WaitGroup
}

// New takes over a connection. Close it.
func New(raw net.Conn, config Config) *Conn {
	if config.Room == 0 {
		config.Room = defaultRoom
	}
	if config.WriteTimeout == 0 {
		config.WriteTimeout = defaultWriteTimeout
	}
	c := &Conn{raw: raw, config: config, reader: bufio.NewReaderSize(raw, readBuffer), done: make(chan struct{})}
	c.wake.L, c.room.L = &c.mu, &c.mu
	c.flusher.Go(c.flush)
	return c
}

// RemoteAddr is the far side's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended; nil while it has not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and waits for its writer. What was appended and not written is lost.
func (c *Conn) Close() error {
	c.End(net.ErrClosed)
	c.flusher.Wait()
	return nil
}

// End closes the connection for a reason; the first one counts. Writers that wait are woken at once.
func (c *Conn) End(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	close(c.done)
	c.wake.Broadcast()
	c.room.Broadcast()
	c.mu.Unlock()
	// TLS says goodbye first, which takes seconds where the far side does not read. Whoever writes must not wait for that.
	_ = c.raw.Close()
}

// Read returns the next frame, which is valid until the next Read.
func (c *Conn) Read() ([]byte, error) {
	frame, err := c.read()
	if err != nil {
		c.End(err)
		return nil, err
	}
	c.Received.Add(uint64(len(frame)))
	return frame, nil
}

func (c *Conn) read() ([]byte, error) {
	if c.last > 0 {
		if _, err := c.reader.Discard(c.last); err != nil {
			return nil, err
		}
		c.last = 0
	}
	c.large = nil
	head, err := c.reader.Peek(c.config.Framing.Head)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	size, err := c.config.Framing.Size(head)
	if err != nil {
		return nil, err
	}
	if size < c.config.Framing.Head {
		return nil, fmt.Errorf("frame of %d bytes", size)
	}
	if size <= c.reader.Size() {
		frame, err := c.reader.Peek(size)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		c.last = size
		return frame, err
	}
	return c.readLarge(size)
}

// readLarge reads a frame piece by piece, so that a size that is a lie costs no more memory than what arrives.
func (c *Conn) readLarge(size int) ([]byte, error) {
	for len(c.large) < size {
		n := min(size-len(c.large), max(len(c.large), readBuffer))
		begin := len(c.large)
		c.large = append(c.large, make([]byte, n)...)
		if _, err := io.ReadFull(c.reader, c.large[begin:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return c.large, nil
}

// More says whether another whole frame has arrived.
func (c *Conn) More() bool {
	have := c.reader.Buffered() - c.last
	if have < c.config.Framing.Head {
		return false
	}
	head, err := c.reader.Peek(c.last + c.config.Framing.Head)
	if err != nil {
		return false
	}
	size, err := c.config.Framing.Size(head[c.last:])
	return err != nil || size <= have
}

// Write appends frames, which it copies, to what is to be written. While the buffer is full it waits.
func (c *Conn) Write(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && len(c.buffer) >= c.config.Room {
		c.wake.Signal()
		c.room.Wait()
	}
	if c.err != nil {
		return c.err
	}
	c.buffer = append(c.buffer, frames...)
	c.signal()
	return nil
}

// TryWrite is Write that does not wait: full says that there was no room.
func (c *Conn) TryWrite(frames []byte) (full bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false, c.err
	}
	if len(c.buffer) >= c.config.Room {
		return true, nil
	}
	c.buffer = append(c.buffer, frames...)
	c.signal()
	return false, nil
}

// Push is Write that neither waits nor refuses, for frames whose number something else bounds.
func (c *Conn) Push(frames []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.buffer = append(c.buffer, frames...)
		c.signal()
	}
}

func (c *Conn) signal() {
	if !c.writing && c.holding == 0 && len(c.buffer) > 0 {
		c.wake.Signal()
	}
}

// Hold keeps the writer from flushing until Release, or until the buffer is full.
func (c *Conn) Hold() {
	c.mu.Lock()
	c.holding++
	c.mu.Unlock()
}

// Release undoes a Hold. The caller writes what has gathered itself, if nobody else does: it saves a change of goroutines.
func (c *Conn) Release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding--
	if c.holding == 0 && !c.writing {
		c.write()
	}
}

// flush writes what has gathered until the connection ends.
func (c *Conn) flush() {
	for c.wait() {
		// Others that are ready to run may have something to add.
		runtime.Gosched()
		c.mu.Lock()
		if !c.writing {
			c.write()
		}
		c.mu.Unlock()
	}
}

// wait returns true once there is something for the flusher to do.
func (c *Conn) wait() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (c.writing || len(c.buffer) == 0 || c.holding > 0 && len(c.buffer) < c.config.Room) {
		c.wake.Wait()
	}
	return c.err == nil
}

// write writes the buffer, with mu held before and after, and not meanwhile.
func (c *Conn) write() {
	if len(c.buffer) == 0 || c.err != nil {
		return
	}
	full := c.buffer
	c.buffer, c.spare = c.spare[:0], nil
	c.writing = true
	c.room.Broadcast()
	c.mu.Unlock()
	err := c.raw.SetWriteDeadline(time.Now().Add(c.config.WriteTimeout))
	if err == nil {
		_, err = c.raw.Write(full)
	}
	c.Sent.Add(uint64(len(full)))
	if err != nil {
		c.End(err)
	}
	c.mu.Lock()
	c.writing = false
	if cap(full) <= keepBuffer {
		c.spare = full[:0]
	}
	if len(c.buffer) > 0 || c.err != nil {
		c.wake.Signal()
	}
}

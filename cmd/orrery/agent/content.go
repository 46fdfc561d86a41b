package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"orrery/fabric"
	"orrery/state"
)

// The content of a snapshot travels in frames of 4 bytes of length, big endian, and so many bytes. An empty frame is its
// end; without one, it was cut. The other side's Ending follows, on a take in the same direction.

const (
	contentFrame = 256 << 10 // what is sent at once
	maxFrame     = 1 << 20   // what is taken at once
	maxEnding    = 64 << 10
)

// frames writes content as frames.
type frames struct{ w io.Writer }

func (f frames) Write(b []byte) (n int, err error) {
	for part := range slices.Chunk(b, contentFrame) {
		if err := f.frame(part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

func (f frames) frame(b []byte) error {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(b))) //nolint:gosec // at most contentFrame
	_, err := (&net.Buffers{length[:], b}).WriteTo(f.w)
	return err
}

// end says that the content is whole.
func (f frames) end() error { return f.frame(nil) }

// unframed reads content out of frames, to the empty one.
type unframed struct {
	r     io.Reader
	left  uint32
	ended bool
}

func (u *unframed) Read(b []byte) (int, error) {
	for u.left == 0 {
		if u.ended {
			return 0, io.EOF
		}
		var length [4]byte
		if _, err := io.ReadFull(u.r, length[:]); err != nil {
			return 0, fmt.Errorf("the connection ended before the content did: %w", io.ErrUnexpectedEOF)
		}
		u.left = binary.BigEndian.Uint32(length[:])
		u.ended = u.left == 0
		if u.left > maxFrame {
			return 0, fmt.Errorf("a frame of %d bytes: %w", u.left, state.ErrCorrupt)
		}
	}
	n, err := u.r.Read(b[:min(len(b), int(u.left))])
	u.left -= uint32(n) //nolint:gosec // at most what was left
	if n == 0 && errors.Is(err, io.EOF) {
		err = fmt.Errorf("the connection ended before the content did: %w", io.ErrUnexpectedEOF)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func endingOf(g state.Generation, err error) Ending {
	e := Ending{Generation: g}
	if err != nil {
		e.Error = err.Error()
		for _, s := range sentinels() {
			if errors.Is(err, s.Err) {
				e.Names = append(e.Names, s.Name)
			}
		}
	}
	return e
}

// farError is an error of the other side, in its words.
type farError struct {
	text  string
	wraps []error
}

// Error implements error.
func (e farError) Error() string { return e.text }

// Unwrap returns the sentinel errors that it wrapped there.
func (e farError) Unwrap() []error { return e.wraps }

func (e Ending) err() error {
	if e.Error == "" {
		return nil
	}
	far := farError{text: e.Error}
	for _, s := range sentinels() {
		if slices.Contains(e.Names, s.Name) {
			far.wraps = append(far.wraps, s.Err)
		}
	}
	return far
}

func readEnding(r io.Reader) (Ending, error) {
	var e Ending
	if err := json.NewDecoder(io.LimitReader(r, maxEnding)).Decode(&e); err != nil {
		return e, fmt.Errorf("the node did not say how it ended: %w", err)
	}
	return e, e.err()
}

// Export has a node write a snapshot's content to w.
func (k remoteKeeper) Export(ctx context.Context, q state.ExportRequest, w io.Writer) error {
	conn, err := k.to.peer.Stream(ctx, streamTake, TakeHeader{q, k.to.on})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	if _, err := io.Copy(w, &unframed{r: in}); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	_, err = readEnding(in)
	return err
}

// Import sends a node content to make a generation of.
func (k remoteKeeper) Import(ctx context.Context, q state.ImportRequest, r io.Reader) (state.Generation, error) {
	conn, err := k.to.peer.Stream(ctx, streamGive, GiveHeader{q, k.to.on})
	if err != nil {
		return state.Generation{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = io.Copy(frames{conn}, r)
	if err == nil {
		err = frames{conn}.end()
	}
	if err != nil && !errors.Is(err, io.ErrClosedPipe) { // which is how a node says no before the end
		return state.Generation{}, errors.Join(ctx.Err(), err)
	}
	e, failed := readEnding(conn)
	if failed == nil && err != nil {
		failed = err
	}
	return e.Generation, errors.Join(ctx.Err(), failed)
}

// serveTake sends a snapshot's content.
func (n *Node) serveTake(ctx context.Context, _ fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error {
	var h TakeHeader
	if err := json.Unmarshal(header, &h); err != nil {
		return err
	}
	if h.On != "" && h.On != n.identity.Name {
		return n.relay(ctx, h.On, streamTake, TakeHeader{ExportRequest: h.ExportRequest}, accept)
	}
	if _, err := n.local.store.Get(ctx, h.ID); err != nil {
		return err
	}
	conn, err := accept()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(conn, contentFrame)
	err = n.local.keeper.Export(ctx, h.ExportRequest, frames{out})
	failed := frames{out}.end()
	if failed == nil {
		failed = json.NewEncoder(out).Encode(endingOf(state.Generation{}, err))
	}
	return errors.Join(failed, out.Flush())
}

// serveGive makes a generation of what comes.
func (n *Node) serveGive(ctx context.Context, _ fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error {
	var h GiveHeader
	if err := json.Unmarshal(header, &h); err != nil {
		return err
	}
	if h.On != "" && h.On != n.identity.Name {
		return n.relay(ctx, h.On, streamGive, GiveHeader{ImportRequest: h.ImportRequest}, accept)
	}
	conn, err := accept()
	if err != nil {
		return err
	}
	in := &unframed{r: bufio.NewReaderSize(conn, contentFrame)}
	g, err := n.local.keeper.Import(ctx, h.ImportRequest, in)
	return json.NewEncoder(conn).Encode(endingOf(g, err))
}

// relay joins a stream with one to another node.
func (n *Node) relay(ctx context.Context, on, kind string, header any, accept func() (net.Conn, error)) error {
	id, err := n.named(on)
	if err != nil {
		return err
	}
	far, err := n.client.Stream(ctx, id, kind, header)
	if err != nil {
		return err
	}
	defer far.Close()
	near, err := accept()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = near.Close(); _ = far.Close() })
	defer stop()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, err := io.Copy(far, near)
		if half, ok := far.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite() // where it fails, the other direction ends too
		}
	}()
	_, err = io.Copy(near, far)
	failed := near.Close() // which ends the other direction
	<-sent
	return errors.Join(err, failed)
}

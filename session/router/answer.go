package router

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
)

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// answer copies an instance's response to the client as it comes.
func (f *forwarding) answer(b *backend, res *http.Response) {
	defer res.Body.Close()
	h := f.w.Header()
	removeHopByHop(res.Header)
	maps.Copy(h, res.Header)
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // keeps the server from guessing
	}
	announced := len(res.Trailer)
	for k := range res.Trailer {
		h.Add("Trailer", k)
	}
	events := strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream")
	if events {
		defer b.stream(res.Body)()
	}
	f.w.WriteHeader(res.StatusCode)
	if err := copyBody(f.w, res.Body, events || res.ContentLength == -1); err != nil {
		// The client must see that the response is not whole; ending it here would look like its end.
		panic(http.ErrAbortHandler)
	}
	_ = res.Body.Close() // fills in the trailer
	if len(res.Trailer) == 0 {
		return
	}
	// Without a flush the server would compute a Content-Length for a short body and have no place for a trailer.
	_ = http.NewResponseController(f.w).Flush()
	prefix := ""
	if len(res.Trailer) != announced {
		prefix = http.TrailerPrefix
	}
	for k, vv := range res.Trailer {
		h[prefix+k] = vv
	}
}

func copyBody(w http.ResponseWriter, body io.Reader, flush bool) error {
	if body == http.NoBody {
		return nil
	}
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	var flusher *http.ResponseController
	if flush {
		flusher = http.NewResponseController(w)
		if err := flusher.Flush(); err != nil {
			return err
		}
	}
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if flush {
				if err := flusher.Flush(); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errUpgrade = errors.New("cannot switch protocols")

// switchProtocols joins the client's and the instance's connections after a 101, until one of them ends.
func (f *forwarding) switchProtocols(b *backend, res *http.Response) error {
	back, ok := res.Body.(io.ReadWriteCloser)
	if !ok || f.upgrade == "" || !strings.EqualFold(f.upgrade, res.Header.Get("Upgrade")) {
		_ = res.Body.Close()
		return fmt.Errorf("%w: the instance answered %q where %q was asked for", errUpgrade, res.Header.Get("Upgrade"), f.upgrade)
	}
	defer func() { _ = back.Close() }()
	conn, buffered, err := http.NewResponseController(f.w).Hijack()
	if err != nil {
		return fmt.Errorf("%w: %w", errUpgrade, err)
	}
	defer conn.Close()
	defer b.stream(both{back, conn})()
	res.Body = nil // Write writes the header alone
	if err := res.Write(buffered); err != nil {
		return nil // the client is gone, and its connection is ours
	}
	if err := buffered.Flush(); err != nil {
		return nil
	}
	join(conn, buffered.Reader, back)
	return nil
}

// both closes two connections.
type both struct{ a, b io.Closer }

// Close closes both.
func (c both) Close() error { return errors.Join(c.a.Close(), c.b.Close()) }

// join copies both ways until both ended, or one with an error. The end of one direction is passed on where the connection can do that.
func join(client net.Conn, early *bufio.Reader, back io.ReadWriteCloser) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var from io.Reader = client
		if n := early.Buffered(); n > 0 {
			from = io.MultiReader(io.LimitReader(early, int64(n)), client)
		}
		pipe(back, from, client)
	}()
	pipe(client, back, back)
	<-done
}

// pipe copies and then ends the writing direction of to; where it cannot, both ends are closed.
func pipe(to io.WriteCloser, from io.Reader, source io.Closer) {
	buffer := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buffer[:])
	if half, ok := to.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		return
	}
	_ = to.Close()
	_ = source.Close()
}

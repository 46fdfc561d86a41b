package mirror_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orrery/clip"
	"orrery/clip/history"
	"orrery/clip/mirror"
	"orrery/clip/pair"
	"orrery/clip/replica"
	"orrery/internal/testenv"
)

// peer is a machine whose program is not ours.
type peer struct {
	*testing.T
	id *pair.Identity
}

// stranger makes one; trusted by m if so.
func stranger(t *testing.T, m *machine, trusted bool) *peer {
	t.Helper()
	id, err := pair.MakeIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if trusted {
		if _, err := m.book.Add(pair.Machine{Name: "hostile", Key: id.Public()}); err != nil {
			t.Fatal(err)
		}
		m.node.Reload()
	}
	return &peer{t, id}
}

func (p *peer) dial(m *machine) *tls.Conn {
	p.Helper()
	d := net.Dialer{}
	raw, err := d.DialContext(p.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(m.port()))))
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = raw.Close() })
	return tls.Client(raw, p.id.TLS(func(ed25519.PublicKey) error { return nil }))
}

func frame(kind byte, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))), body...) //nolint:gosec // short
}

func hello() []byte {
	return frame(1, replica.Vector{}.Append([]byte(`{"version":1,"name":"hostile","port":1,"send":true,"receive":true}`+"\x00"))...)
}

// read reads the next frame.
func read(c net.Conn) (kind byte, body []byte, err error) {
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, nil, err
	}
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err = io.ReadFull(c, body)
	return head[0], body, err
}

// until reads frames up to one of a type.
func until(t *testing.T, c net.Conn, want byte) []byte {
	t.Helper()
	for {
		kind, body, err := read(c)
		if err != nil {
			t.Fatalf("no frame of type %d: %v", want, err)
		}
		if kind == want {
			return body
		}
	}
}

// TestStrangers: who is not paired is refused before anything is read, and garbage is; those who are paired go on.
func TestStrangers(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	c := stranger(t, a, false).dial(a)
	_, err := c.Write(hello())
	if err == nil {
		_, _, err = read(c)
	}
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("a stranger was not refused: %v", err)
	}
	for _, garbage := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 1<<16), hello()} {
		d := net.Dialer{}
		raw, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(a.port()))))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = raw.Write(garbage)
		_ = raw.Close()
	}
	// More connections than are awaited at once, which say nothing.
	for range 40 {
		d := net.Dialer{}
		raw, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(a.port()))))
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}
	a.copies(text("goes on"))
	b.has("goes on")
	testenv.Eventually(t, "count", func() bool { return a.node.Status().Refused >= 1 })
}

// TestHostileMachine: a paired machine that sends what it should not is disconnected, and nothing of it is kept; others go on.
func TestHostileMachine(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	a.copies(text("secret of a"))
	b.has("secret of a")
	key := history.Key([]clip.Content{text("forged")})
	entry := replica.Entry{Kind: clip.Text, Size: 6}
	entry.Use(replica.Stamp{At: replica.TimeOf(time.Now()), By: replica.Device{7}}, time.Now().UnixMilli(), 1)
	e := entry.Append(nil)
	change := append(append(append([]byte(nil), key[:]...), byte(len(e))), e...)
	number := []byte{0, 0, 0, 1}
	want := append(append(append([]byte(nil), number...), key[:]...), make([]byte, 24)...)
	item := func(json string) []byte {
		return frame(6, append(append(append(append(append([]byte(nil), number...), make([]byte, 8)...), json...), 0), e...)...)
	}
	for name, sent := range map[string][][]byte{
		"no hello":              {frame(11)},
		"another version":       {frame(1, replica.Vector{}.Append([]byte(`{"version":9}`+"\x00"))...)},
		"hello of garbage":      {frame(1, 1, 2, 3)},
		"a frame of 4 GB":       {hello(), {2, 0xff, 0xff, 0xff, 0xff}},
		"an unknown type":       {hello(), frame(99)},
		"a second hello":        {hello(), hello()},
		"garbage as changes":    {hello(), frame(2, bytes.Repeat([]byte{7}, 300)...)},
		"changes cut short":     {hello(), frame(2, change[:len(change)-1]...)},
		"garbage as vector":     {hello(), frame(3, 0xff, 0xff, 0xff, 0xff, 0xff)},
		"a short key":           {hello(), frame(4, 1, 2)},
		"unasked contents":      {hello(), frame(7, append(number, 1, 2, 3)...)},
		"an unasked item":       {hello(), item(`{"contents":[{"type":"text/plain","size":6}]}`)},
		"wishes without end":    {hello(), bytes.Repeat(frame(5, want...), 100_000)},
		"a wish beyond all":     {hello(), frame(5, append(append(want[:20:20], 0xff, 0, 0, 0, 0, 0, 0, 0), make([]byte, 16)...)...)},
		"other contents":        {hello(), frame(2, change...), item(`{"contents":[{"type":"text/plain","size":6}]}`), frame(7, append(number, "FORGED"...)...)},
		"more than announced":   {hello(), frame(2, change...), item(`{"contents":[{"type":"text/plain","size":6}]}`), frame(7, append(number, "forged too much"...)...)},
		"sizes that cannot be":  {hello(), frame(2, change...), item(`{"contents":[{"type":"text/plain","size":-6}]}`)},
		"sizes beyond all":      {hello(), frame(2, change...), item(`{"contents":[{"type":"a","size":268435456},{"type":"b","size":268435456}]}`)},
		"many types":            {hello(), frame(2, change...), item(`{"contents":[` + strings.Repeat(`{"type":"a","size":0},`, 100) + `{"type":"b","size":0}]}`)},
		"an item without entry": {hello(), frame(2, change...), frame(6, append(append(append([]byte(nil), number...), make([]byte, 8)...), `{"contents":[]}`+"\x00"...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			p := stranger(t, a, true)
			c := p.dial(a)
			var sending sync.WaitGroup
			sending.Go(func() {
				for _, f := range sent {
					if _, err := c.Write(f); err != nil {
						return
					}
				}
			})
			for {
				kind, body, err := read(c)
				if err == nil && kind == 10 {
					if reason := string(body); reason != "refused" && reason != "version" {
						t.Errorf("it says bye: %s", reason)
					}
				}
				if err != nil {
					var timeout net.Error
					if errors.As(err, &timeout) && timeout.Timeout() {
						t.Error("it is not disconnected")
					}
					break
				}
			}
			_ = c.NetConn().Close()
			sending.Wait()
			testenv.Eventually(t, "the end", func() bool {
				for _, s := range a.node.Status().Machines {
					if s.Device == p.id.Device().String() {
						return s.State == mirror.Away
					}
				}
				return false
			})
			if err := a.book.Remove("hostile"); err != nil {
				t.Fatal(err)
			}
			a.node.Reload()
		})
	}
	a.copies(text("goes on"))
	b.has("goes on", "secret of a")
	a.has("goes on", "secret of a")
}

// TestSlowMachine: a paired machine that reads nothing holds up nobody.
func TestSlowMachine(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	c := stranger(t, a, true).dial(a)
	if _, err := c.Write(hello()); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		a.copies(clip.Content{Type: "image/png", Data: bytes.Repeat([]byte{byte(i)}, 3<<20)})
		testenv.Eventually(t, "pictures", func() bool { return len(a.previews()) == i+1 && len(b.previews()) == i+1 })
	}
}

// TestForgottenEverywhere: what nobody has any more is not asked for without end.
func TestForgottenEverywhere(t *testing.T) {
	t.Parallel()
	a := boot(t, "attic", nil)
	c := stranger(t, a, true).dial(a)
	entry := replica.Entry{Kind: clip.Text, Size: 6}
	entry.Use(replica.Stamp{At: replica.TimeOf(time.Now()), By: replica.Device{7}}, time.Now().UnixMilli(), 1)
	e := entry.Append(nil)
	key := history.Key([]clip.Content{text("forged")})
	if _, err := c.Write(append(hello(), frame(2, append(append(key[:], byte(len(e))), e...)...)...)); err != nil {
		t.Fatal(err)
	}
	wish := until(t, c, 5)
	if a.node.Status().Missing != 1 {
		t.Errorf("%+v", a.node.Status())
	}
	if _, err := c.Write(frame(8, append(wish[:4:4], 1)...)); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "nothing is missing", func() bool { return a.node.Status().Missing == 0 })
}

// proxy passes connections on, and cuts those that the test wants cut.
type proxy struct {
	net.Listener
	mu   sync.Mutex
	left int64 // bytes until the next cut; negative: none
	cuts int
}

func newProxy(t *testing.T, to *machine) *proxy {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, left: 700_000}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	target := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(to.port())))
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			d := net.Dialer{}
			out, err := d.DialContext(ctx, "tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			both := func() { _, _ = in.Close(), out.Close() }
			end := context.AfterFunc(ctx, both)
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				work.Go(func() {
					defer end()
					defer both()
					p.pass(c[0], c[1])
				})
			}
		}
	})
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		work.Wait()
	})
	return p
}

func (p *proxy) pass(from, to net.Conn) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		cut := p.left >= 0 && p.left < int64(n)
		if p.left >= 0 {
			p.left -= int64(n)
		}
		if cut {
			p.left = 700_000
			p.cuts++
			if p.cuts == 5 {
				p.left = -1
			}
		}
		p.mu.Unlock()
		if cut {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// TestInterrupted: a connection that is cut again and again costs little: a transfer goes on where it was.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	for _, m := range [][2]*machine{{a, b}, {b, a}} {
		if _, err := m[0].book.Add(pair.Machine{Name: m[1].name, Key: m[1].id.Public()}); err != nil {
			t.Fatal(err)
		}
		m[0].node.Reload()
	}
	picture := bytes.Repeat([]byte("0123456789abcdef"), 4<<16)
	a.copies(clip.Content{Type: "image/png", Data: picture})
	a.has("image/png")
	p := newProxy(t, a)
	if err := b.book.Note(a.id.Public(), func(m *pair.Machine) { m.MetAt(p.Addr().String()) }); err != nil {
		t.Fatal(err)
	}
	b.node.Reload()
	// What b was told of a's port leads past the proxy; only connections through it count.
	testenv.Eventually(t, "the picture", func() bool {
		b.node.Now()
		return len(b.previews()) == 1
	})
	item, err := b.history.Get(b.named("image/png").ID)
	if err != nil || !bytes.Equal(item.Contents[0].Data, picture) {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := b.state(a).BytesReceived; got > int64(len(picture))*3/2 {
		t.Errorf("%d bytes were received of %d, after %d cuts", got, len(picture), p.cuts)
	}
	if p.cuts == 0 {
		t.Error("nothing was cut")
	}
}

// TestHistoryGone: a node whose history is closed, or does not open, waits and says so.
func TestHistoryGone(t *testing.T) {
	t.Parallel()
	a, b := boot(t, "attic", nil), boot(t, "bureau", nil)
	join(t, a, b)
	a.copies(text("one"))
	b.has("one")
	if err := b.history.Close(); err != nil {
		t.Fatal(err)
	}
	a.copies(text("two"))
	a.has("two", "one")
	testenv.Eventually(t, "the end of the connection", func() bool { return a.state(b).State == mirror.Away })
}

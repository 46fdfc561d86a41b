package router

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orrery/session"
)

// upgrader switches to a protocol that echoes lines.
func upgrader(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Upgrade") != "websocket" {
		http.Error(w, "no upgrade", http.StatusBadRequest)
		return
	}
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	for {
		line, err := brw.ReadString('\n')
		if err != nil {
			_, _ = io.WriteString(conn, "bye\n")
			return
		}
		_, _ = io.WriteString(conn, "echo "+line)
	}
}

// until waits for a condition.
func until(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the test ended first")
		}
	}
}

func dialUpgraded(t *testing.T, address string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly\n")
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil) //nolint:bodyclose // after a 101 the connection is the body
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	return conn.(*net.TCPConn), r
}

func expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); got != want {
		t.Fatalf("got %q %v, want %q", got, err, want)
	}
}

func TestUpgrade(t *testing.T) {
	w := newWorld(t, nil)
	w.route(session.Route{Service: "chat", Instance: w.backend(upgrader)})
	conn, r := dialUpgraded(t, w.listen("chat"))
	expect(t, r, "echo early\n")
	_, _ = io.WriteString(conn, "hello\n")
	expect(t, r, "echo hello\n")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "bye\n")
}

// TestSwitchCutsUpgraded has a connection that would never end by itself: it must not hold up a switch-over.
func TestSwitchCutsUpgraded(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DrainLimit = time.Hour })
	w.route(session.Route{Service: "chat", Instance: w.backend(upgrader)})
	_, r := dialUpgraded(t, w.listen("chat"))
	expect(t, r, "echo early\n")
	w.route(session.Route{Service: "chat", Held: true})
	if _, err := io.Copy(io.Discard, r); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

func TestSwitchCutsEvents(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DrainLimit = time.Hour })
	gone := make(chan struct{})
	w.route(session.Route{Service: "events", Instance: w.backend(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(rw, "data: one\n\n")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
		close(gone)
	})})
	res, err := http.Get("http://" + w.listen("events"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	expect(t, bufio.NewReader(res.Body), "data: one\n") // at once, though the stream goes on
	w.route(session.Route{Service: "events", Held: true})
	<-gone
}

// TestDrainLimit has a request that hangs for ever.
func TestDrainLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DrainLimit = 20 * time.Millisecond })
	arrived := make(chan struct{}, 1)
	w.route(session.Route{Service: "slow", Instance: w.backend(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})})
	address := w.listen("slow")
	status := make(chan int, 1)
	go func() {
		res, err := http.Post("http://"+address, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	<-arrived
	w.route(session.Route{Service: "slow", Instance: w.backend(says("new"))})
	if got := <-status; got != http.StatusBadGateway {
		t.Errorf("status %d", got)
	}
	if _, body, _ := get(t, address, nil); body != "new" {
		t.Errorf("afterwards %q", body)
	}
}

func h2c(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestGRPC streams both ways over cleartext HTTP/2 with trailers, as gRPC does.
func TestGRPC(t *testing.T) {
	w := newWorld(t, nil)
	w.route(session.Route{Service: "rpc", Instance: w.backend(func(rw http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			http.Error(rw, r.Proto+" "+r.Header.Get("Te"), http.StatusBadRequest)
			return
		}
		rw.Header().Set("Content-Type", "application/grpc")
		rw.Header().Set("Trailer", "Grpc-Status")
		rc := http.NewResponseController(rw)
		buffer := make([]byte, 5)
		for {
			n, err := r.Body.Read(buffer)
			_, _ = rw.Write(bytes.ToUpper(buffer[:n]))
			_ = rc.Flush()
			if err != nil {
				break
			}
		}
		rw.Header().Set("Grpc-Status", "0")
		rw.Header().Set(http.TrailerPrefix+"Grpc-Message", "fine")
	})})
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.listen("rpc")+"/a.B/C", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	req.Header.Set("Te", "trailers")
	go func() { _, _ = io.WriteString(pw, "ping") }()
	res, err := h2c(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer := make([]byte, 4)
	if _, err := io.ReadFull(res.Body, answer); err != nil || string(answer) != "PING" {
		t.Fatalf("%s %q %v", res.Status, answer, err)
	}
	_, _ = io.WriteString(pw, "pong")
	if _, err := io.ReadFull(res.Body, answer); err != nil || string(answer) != "PONG" {
		t.Fatalf("%q %v", answer, err)
	}
	_ = pw.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	if res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("Grpc-Message") != "fine" {
		t.Errorf("trailer %v", res.Trailer)
	}
}

func TestTrailersHTTP1(t *testing.T) {
	w := newWorld(t, nil)
	w.route(session.Route{Service: "x", Instance: w.backend(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Trailer", "Sum")
		fmt.Fprint(rw, "body")
		rw.Header().Set("Sum", r.Trailer.Get("In"))
	})})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.listen("x"), io.MultiReader(strings.NewReader("abc")))
	if err != nil {
		t.Fatal(err)
	}
	req.Trailer = http.Header{"In": {"42"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "body" || res.Trailer.Get("Sum") != "42" {
		t.Errorf("%q %v %v", body, err, res.Trailer)
	}
}

func TestInformational(t *testing.T) {
	w := newWorld(t, nil)
	w.route(session.Route{Service: "x", Instance: w.backend(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Link", "</style.css>; rel=preload")
		rw.WriteHeader(http.StatusEarlyHints)
		rw.Header().Del("Link")
		_, _ = io.Copy(rw, r.Body)
	})})
	var codes []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		codes = append(codes, code)
		if code == http.StatusEarlyHints && h.Get("Link") == "" {
			t.Error("early hints without a link")
		}
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, "http://"+w.listen("x"), strings.NewReader("data"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Expect", "100-continue")
	client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "data" || res.Header.Get("Link") != "" || !slices.Contains(codes, 103) || !slices.Contains(codes, 100) {
		t.Errorf("%q %v %v %v", body, err, res.Header, codes)
	}
}

// TestBackPressure uploads more than fits into buffers to an instance that does not read: the
// client must be stopped, and nothing may be buffered without bound.
func TestBackPressure(t *testing.T) {
	w := newWorld(t, nil)
	read := make(chan struct{})
	w.route(session.Route{Service: "x", Instance: w.backend(func(rw http.ResponseWriter, r *http.Request) {
		<-read
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, n)
	})})
	const size = 64 << 20
	var sent atomic.Int64
	stalled := make(chan struct{})
	body := &countingReader{left: size, sent: &sent}
	go func() {
		defer close(stalled)
		last := int64(-1)
		for now := sent.Load(); now != last || now == 0; now = sent.Load() {
			last = now
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.Context().Done():
				return
			}
		}
	}()
	go func() {
		<-stalled
		if n := sent.Load(); n > size/2 {
			t.Errorf("%d bytes were taken though nobody read", n)
		}
		close(read)
	}()
	res, err := http.Post("http://"+w.listen("x"), "application/octet-stream", body)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || string(got) != fmt.Sprint(size) {
		t.Errorf("%q %v", got, err)
	}
}

type countingReader struct {
	left int64
	sent *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), c.left)
	c.left -= n
	c.sent.Add(n)
	return int(n), nil
}

// TestTruncated has an instance that breaks off: the client must see that, not a short whole response.
func TestTruncated(t *testing.T) {
	w := newWorld(t, nil)
	for name, h := range map[string]http.HandlerFunc{
		"with a length": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "100")
			fmt.Fprint(rw, "part")
		},
		"chunked": func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(rw, "part")
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		w.route(session.Route{Service: "x", Instance: w.backend(h)})
		for kind, client := range map[string]*http.Client{"1": http.DefaultClient, "2": h2c(t)} {
			res, err := client.Get("http://" + w.listen("x"))
			if err != nil {
				continue // so early that there is no response at all
			}
			if body, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s, HTTP/%s: whole response %q", name, kind, body)
			}
			_ = res.Body.Close()
		}
	}
}

// raw sends bytes and returns the status line and what the instance saw.
func raw(t *testing.T, address, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, request)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return fmt.Sprint(res.StatusCode, " ", string(body))
}

func TestSmuggling(t *testing.T) {
	w := newWorld(t, nil)
	var requests atomic.Int64
	seen := func(rw http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s te=%v cl=%d body=%s session=%s secret=%s upgrade=%s",
			r.Method, r.URL.RequestURI(), r.TransferEncoding, r.ContentLength, body, r.Header.Get("Orrery-Session"), r.Header.Get("Secret"), r.Header.Get("Upgrade"))
	}
	production := w.backend(seen)
	w.route(session.Route{Service: "x", Instance: production})
	w.session(session.Session{Name: "blue", Ready: true, Overrides: []session.Override{{Service: "x", Instance: w.backend(seen)}}})
	address := w.listen("x")
	for name, c := range map[string]struct{ request, want string }{
		"mark as hop-by-hop":  {"GET / HTTP/1.1\r\nHost: x\r\nOrrery-Session: blue\r\nConnection: Orrery-Session, Secret\r\nSecret: 1\r\n\r\n", "session=blue secret= "},
		"two lengths":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		"length and chunks":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n", "body=a "},
		"unknown encoding":    {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", "501"},
		"space before colon":  {"GET / HTTP/1.1\r\nHost: x\r\nOrrery-Session : blue\r\n\r\n", "400"},
		"folded line":         {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n Orrery-Session: red\r\n\r\n", "session= "},
		"h2c upgrade":         {"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "upgrade="},
		"encoded path":        {"GET /a%2Fb/../c?x=%zz;y HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a%2Fb/../c?x=%zz;y "},
		"absolute form":       {"GET http://elsewhere/path HTTP/1.1\r\nHost: x\r\n\r\n", "GET /path "},
		"connect":             {"CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n", "405"},
		"double slash":        {"GET //evil/x HTTP/1.1\r\nHost: x\r\n\r\n", "GET //evil/x "},
		"options of all":      {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "200 "},
		"upgrade not granted": {"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "upgrade=websocket"},
	} {
		if got := raw(t, address, c.request); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestForwarded(t *testing.T) {
	w := newWorld(t, nil)
	w.route(session.Route{
		Service: "x", Public: &session.Listener{Node: self, Address: "127.0.0.1:0"},
		Instance: w.backend(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Proto"], r.Header["Forwarded"], r.Host, r.Header["User-Agent"])
		}),
	})
	lie := func(r *http.Request) {
		r.Host = "sky.example.org"
		r.Header.Set("X-Forwarded-For", "6.6.6.6")
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("Forwarded", "for=6.6.6.6")
		r.Header.Set("User-Agent", "")
	}
	_, got, _ := get(t, w.publicAddress("x"), lie)
	if want := "[127.0.0.1] [sky.example.org] [http] []sky.example.org[]"; got != want {
		t.Errorf("public: got %s, want %s", got, want)
	}
	_, got, _ = get(t, w.listen("x"), lie)
	if want := "[6.6.6.6, 127.0.0.1] [sky.example.org] [https] [for=6.6.6.6, for=127.0.0.1]sky.example.org[]"; got != want {
		t.Errorf("local: got %s, want %s", got, want)
	}
}

// TestRefusedConnection has an instance that comes back within DialLimit: a request of any method waits for it.
func TestRefusedConnection(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DialLimit = time.Minute })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	w.route(session.Route{Service: "x", Instance: session.Instance{Node: self, Address: address}})
	local := w.listen("x")
	answer := make(chan string, 1)
	go func() {
		res, err := http.Post("http://"+local, "text/plain", strings.NewReader("note"))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		answer <- string(body)
	}()
	select { // it is being tried
	case got := <-answer:
		t.Fatal(got)
	case <-time.After(50 * time.Millisecond):
	}
	l, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	back := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })}
	go func() { _ = back.Serve(l) }()
	defer back.Close()
	if got := <-answer; got != "note" {
		t.Error(got)
	}
}

func TestInstanceGone(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.DialLimit = time.Millisecond })
	w.route(session.Route{Service: "x", Instance: session.Instance{Node: self, Address: "127.0.0.1:1"}})
	status, body, _ := get(t, w.listen("x"), nil)
	if status != http.StatusBadGateway || !strings.Contains(body, "service x") {
		t.Errorf("%d %q", status, body)
	}
}

func TestClientGoneWhileHeld(t *testing.T) {
	w := newWorld(t, nil)
	var served atomic.Int64
	w.route(session.Route{Service: "x", Held: true})
	address := w.listen("x")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address, nil)
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	until(t, func() bool { return w.router.held.Load() > 0 })
	cancel()
	<-done
	until(t, func() bool { return w.router.held.Load() == 0 })
	w.route(session.Route{Service: "x", Instance: w.backend(func(http.ResponseWriter, *http.Request) { served.Add(1) })})
	if _, _, _ = get(t, address, nil); served.Load() != 1 {
		t.Errorf("%d requests served", served.Load())
	}
}

func TestTooManyHeld(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxHeld, c.HoldLimit = 1, time.Hour })
	w.route(session.Route{Service: "x", Held: true})
	address := w.listen("x")
	first := make(chan struct{})
	go func() {
		defer close(first)
		if res, err := http.Get("http://" + address); err == nil {
			_ = res.Body.Close()
		}
	}()
	until(t, func() bool { return w.router.held.Load() > 0 })
	if status, _, _ := get(t, address, nil); status != http.StatusServiceUnavailable {
		t.Errorf("status %d", status)
	}
	w.route(session.Route{Service: "x", Instance: w.backend(says("new"))})
	<-first
}

func TestPortsAreKept(t *testing.T) {
	directory := t.TempDir()
	var addresses [2][2]string
	for i := range addresses {
		t.Run("", func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Directory = directory })
			w.route(session.Route{Service: "x", Instance: w.backend(says("x")), Public: &session.Listener{Node: self, Address: "127.0.0.1:0"}})
			addresses[i] = [2]string{w.listen("x"), w.publicAddress("x")}
			if service, ok := w.router.Listening(addresses[i][1]); !ok || service != "x" {
				t.Error("the router does not know that it listens there")
			}
		})
	}
	if addresses[0] != addresses[1] {
		t.Errorf("%v after %v", addresses[1], addresses[0])
	}
	if err := os.WriteFile(filepath.Join(directory, portsFile), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Self: self, Table: newWorld(t, nil).table, Dialer: &direct{}, Directory: directory}); err == nil {
		t.Error("garbage was read")
	}
}

// TestServeConn has a connection of a tunnel: its requests belong to the session whatever they say.
func TestServeConn(t *testing.T) {
	w := newWorld(t, nil)
	w.route(session.Route{Service: "x", Instance: w.backend(says("production"))})
	w.session(session.Session{Name: "blue", Ready: true, Overrides: []session.Override{{Service: "x", Instance: w.backend(says("blue"))}}})
	here, there := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- w.router.ServeConn(t.Context(), there, "x", "blue") }()
	r := bufio.NewReader(here)
	for range 2 {
		_, _ = io.WriteString(here, "GET / HTTP/1.1\r\nHost: x\r\nOrrery-Session: green\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(res.Body); string(body) != "blue" {
			t.Errorf("%q", body)
		}
		_ = res.Body.Close()
	}
	_ = here.Close()
	<-done
}

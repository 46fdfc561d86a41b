package router

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"sync"

	"orrery/session/route"
)

// forwarding is one request on its way, possibly tried several times before anything was sent.
type forwarding struct {
	router *Router
	w      http.ResponseWriter
	in     *http.Request

	out     *http.Request
	body    *requestBody
	upgrade string
	grpc    bool

	mu       sync.Mutex
	answered bool // no informational responses any more
}

var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// prepare makes the outgoing request, at the first try, out of the incoming one: the header is taken
// over and changed in place, which the server does not mind.
func (f *forwarding) prepare(c route.Choice, from origin) {
	if f.out != nil {
		return
	}
	in, h := f.in, f.in.Header
	f.upgrade = upgradeProtocol(in)
	f.grpc = in.ProtoMajor == 2 && strings.HasPrefix(h.Get("Content-Type"), "application/grpc")
	trailers := hasToken(h["Te"], "trailers")
	removeHopByHop(h)
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	if f.upgrade != "" {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{f.upgrade}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // keeps the transport from naming itself
	}
	f.router.forwarded(in, from)
	if c.Session != "" {
		route.Mark(h, c.Session) // after hop-by-hop headers, among which a client could have named the mark
	}
	trace := &httptrace.ClientTrace{Got1xxResponse: f.informational}
	f.out = in.WithContext(httptrace.WithClientTrace(in.Context(), trace))
	f.out.URL = &url.URL{
		Scheme: "http", Host: "instance", Path: in.URL.Path, RawPath: in.URL.RawPath,
		RawQuery: in.URL.RawQuery, ForceQuery: in.URL.ForceQuery,
	}
	f.out.RequestURI, f.out.Close, f.out.Body, f.out.GetBody = "", false, nil, nil
	if in.ContentLength != 0 && in.Body != nil && in.Body != http.NoBody {
		f.body = &requestBody{from: in.Body}
		f.out.Body, f.out.GetBody = f.body, f.body.again
	}
}

// finish keeps a transport that still reads the request's body from doing so after the handler returned.
func (f *forwarding) finish() {
	if f.body != nil {
		f.body.end()
	}
}

// pass sends the request, copies the answer and releases the backend. An error means that the answer is still to be given.
func (f *forwarding) pass(b *backend) error {
	defer b.release() // also where an answer that breaks off panics
	transport := b.h1
	if f.grpc {
		transport = b.h2
	}
	res, err := transport.RoundTrip(f.out)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.answered = true
	f.mu.Unlock()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return f.switchProtocols(b, res)
	}
	f.answer(b, res)
	return nil
}

// informational passes 1xx responses on, as they come, but not after the final one.
func (f *forwarding) informational(code int, header textproto.MIMEHeader) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answered || code == http.StatusSwitchingProtocols {
		return nil
	}
	h := f.w.Header()
	maps.Copy(h, header)
	f.w.WriteHeader(code)
	clear(h)
	return nil
}

// forwarded tells the instance who asked. What a stranger says of that is dropped.
func (r *Router) forwarded(in *http.Request, from origin) {
	h := in.Header
	client, _, err := net.SplitHostPort(in.RemoteAddr)
	if err != nil {
		client = ""
	}
	if from.public && !r.trusts(client) {
		delete(h, "Forwarded")
		delete(h, "X-Forwarded-For")
		delete(h, "X-Forwarded-Host")
		delete(h, "X-Forwarded-Proto")
		delete(h, "X-Real-Ip")
	}
	if len(h["Forwarded"]) > 0 && client != "" {
		h["Forwarded"] = []string{strings.Join(h["Forwarded"], ", ") + ", for=" + forwardedNode(client)}
	}
	if prior := h["X-Forwarded-For"]; len(prior) > 0 && client != "" {
		client = strings.Join(prior, ", ") + ", " + client
	}
	if client != "" {
		h["X-Forwarded-For"] = []string{client}
	}
	if len(h["X-Forwarded-Host"]) == 0 {
		h["X-Forwarded-Host"] = []string{in.Host}
	}
	if len(h["X-Forwarded-Proto"]) == 0 {
		h["X-Forwarded-Proto"] = protoHTTP
	}
}

var protoHTTP = []string{"http"}

// forwardedNode writes an address as RFC 7239, section 6, wants it.
func forwardedNode(address string) string {
	if strings.Contains(address, ":") {
		return `"[` + address + `]"`
	}
	return address
}

func (r *Router) trusts(client string) bool {
	if len(r.config.Trusted) == 0 {
		return false
	}
	address, err := netip.ParseAddr(client)
	if err != nil {
		return false
	}
	for _, prefix := range r.config.Trusted {
		if prefix.Contains(address.Unmap()) {
			return true
		}
	}
	return false
}

// removeHopByHop removes what concerns one connection only (RFC 9110, section 7.6.1).
func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for value := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(value), token) {
				return true
			}
		}
	}
	return false
}

// upgradeProtocol returns what the client wants to switch to. h2c is not passed on: whoever offers it
// speaks HTTP/1.1 as well, and behind a router it is a way to smuggle requests.
func upgradeProtocol(in *http.Request) string {
	if in.ProtoMajor != 1 || !hasToken(in.Header["Connection"], "upgrade") {
		return ""
	}
	protocol := in.Header.Get("Upgrade")
	for value := range strings.SplitSeq(protocol, ",") {
		if name, _, _ := strings.Cut(textproto.TrimString(value), "/"); strings.EqualFold(name, "h2c") {
			return ""
		}
	}
	return protocol
}

var (
	errBodyRead  = errors.New("the request's body was read already")
	errBodyEnded = errors.New("the request is over")
)

// requestBody is the incoming body. Closing it does nothing, so that a request of which nothing was sent can be tried
// again; after end it yields an error.
type requestBody struct {
	from io.ReadCloser

	mu          sync.Mutex
	read, ended bool
}

// Read reads from the client.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return 0, errBodyEnded
	}
	b.read = true
	b.mu.Unlock()
	return b.from.Read(p)
}

// Close does nothing.
func (b *requestBody) Close() error { return nil }

func (b *requestBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
}

// again yields the body once more, for a connection that was found dead before anything was sent on it.
func (b *requestBody) again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read {
		return nil, errBodyRead
	}
	return b, nil
}
